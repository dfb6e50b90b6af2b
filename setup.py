"""The one part that is compiled. All else about the package stands in pyproject.toml and setup.cfg."""

from setuptools import Extension, setup

SOURCES = ["module.c", "batch.c", "marks.c", "crc32c.c"]

setup(
    ext_modules=[
        Extension(
            "raftactors.storage._encoder",
            [f"storage/compiled/{name}" for name in SOURCES],
            depends=["storage/compiled/encoder.h"],
            optional=True,  # Without a C compiler or Python's headers the same runs in Python: storage/encoding.py.
        )
    ]
)
