"""In which line of a TOML text a key stands: the parser of the standard library does not say."""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")


def line_of(text: str, key: str, section: str = "", occurrence: int = 1) -> int:
    """The line of a key or of a section's header, counted from 1; 0 where it cannot be told.

    `occurrence` says which of the sections of that name is meant, for those that may be repeated.
    """
    written = re.compile(rf"""^\s*["']?{re.escape(key)}["']?\s*[=.]""")
    inside, seen = section == "", 0
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            name = header[1].strip("\"'")
            if section == "" and name == key:
                return number
            seen += name == section
            inside = name == section and seen == occurrence
        elif inside and written.match(line):
            return number
    return 0
