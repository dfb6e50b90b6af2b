"""A file, the environment and flags: what counts, and how each mistake is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from raftactors.config import Limits, NodeConfig, RaftTiming
from raftactors.config_file import KEYS, load, parse_member, render_effective, render_new, variable_of
from raftactors.errors import ConfigError

MEMBERS = tuple(parse_member(f"{number}=127.0.0.{number}") for number in (1, 2, 3))
GIVEN = {"node_id": 1, "cluster_id": 77, "data_dir": "node-1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(render_new(GIVEN, MEMBERS), encoding="utf-8")
    return path


def replace(file: Path, old: str, new: str) -> int:
    """Change one line; returns its number."""
    lines = file.read_text().splitlines()
    number = lines.index(old)
    lines[number] = new
    file.write_text("\n".join(lines))
    return number + 1


def test_a_new_file_says_what_the_defaults_are(file: Path, tmp_path: Path) -> None:
    config, sources = load(file)
    assert config == NodeConfig(node_id=1, cluster_id=77, data_dir=tmp_path / "node-1", members=MEMBERS)
    assert sources["node_id"] == f"{file}, line 6"
    assert set(sources) == {*GIVEN, "members"}
    # Every line that is commented out is a key with its default.
    text = file.read_text()
    for key in KEYS.values():
        if key.name not in GIVEN:
            assert f"\n# {key.comment}\n# {key.name} = " in text
    for name in KEYS:
        text = text.replace(f"\n# {name} = ", f"\n{name} = ")
    file.write_text(text)
    assert load(file).config == config
    assert set(load(file).sources) == {*KEYS, "members"}


def test_every_field_has_a_place_and_a_comment() -> None:
    fields = {field.name for kind in (NodeConfig, RaftTiming, Limits) for field in dataclasses.fields(kind)}
    assert fields - {"members", "timing", "limits", "parent_fd", "ready_fd", "log_bytes_max"} == set(KEYS)
    assert [name for name, key in KEYS.items() if not key.comment] == []


def test_flags_over_environment_over_file(file: Path) -> None:
    replace(file, "# tick_ms = 50", "tick_ms = 51")
    assert load(file).config.timing.tick_ms == 51
    environment = {"RAFTACTORS_NODE_TICK_MS": "52", "RAFTACTORS_ADDRESS": "a:1", "PATH": "/bin"}
    assert load(file, environment=environment).config.timing.tick_ms == 52
    config, sources = load(file, environment=environment, flags=[("tick_ms", "53", "--set tick_ms=53")])
    assert config.timing.tick_ms == 53
    assert sources["tick_ms"] == "--set tick_ms=53"


def test_every_key_can_be_set_by_its_variable(file: Path) -> None:
    config = load(file).config
    values = {
        name: getattr(getattr(config, key.section) if key.section else config, name) for name, key in KEYS.items()
    }
    environment = {
        variable_of(name): str(value).lower() if isinstance(value, bool) else "" if value == () else str(value)
        for name, value in values.items()
    }
    environment["RAFTACTORS_NODE_MEMBERS"] = "1=127.0.0.1 2=127.0.0.2 3=127.0.0.3"
    loaded = load(file, environment=environment)
    assert loaded.config == config
    assert loaded.sources == {name: variable_of(name) for name in (*KEYS, "members")}


def test_what_is_printed_can_be_read_again(file: Path) -> None:
    flags = [("durability", "interval:50", "--set durability=interval:50"), ("import_paths", "a:b", "--set \x1b")]
    effective = load(file, flags=flags, listen_host="0.0.0.0")
    assert effective.config.listen_snapshot_address == "0.0.0.0:7402"
    printed = file.with_name("printed.toml")
    printed.write_text(render_effective(effective))
    assert load(printed).config == effective.config
    assert 'durability = "interval:50"  # --set durability=interval:50\n' in printed.read_text()
    assert "tick_ms = 50  # default\n" in printed.read_text()
    assert "\x1b" not in printed.read_text()


def test_paths(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    replace(file, '# application = "raftactors.app.kv:KeyValue"', 'application = "bank.py:Bank"')
    replace(file, "# import_paths = []", 'import_paths = [".", "/opt/x"]')
    config = load(Path("..", "node.toml")).config
    assert config.data_dir.resolve() == tmp_path / "node-1"
    assert config.data_dir.is_absolute()
    assert config.import_paths == (str(tmp_path), "/opt/x")
    assert config.application.startswith("/")
    assert config.application.endswith("/bank.py:Bank")
    assert load(file, flags=[("data_dir", "here", "--data-dir here")]).config.data_dir == elsewhere / "here"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("node_id = 1", "nodeid = 1", "there is no key 'nodeid' in a configuration; did you mean 'node_id'?"),
        ("# tick_ms = 50", "tik_ms = 20", r"there is no key 'tik_ms' in \[timing\]; did you mean 'tick_ms'?"),
        ("# tick_ms = 50", "log_level = 'INFO'", "log_level does not belong here; write it before the first section"),
        ('# log_level = "INFO"', "tick_ms = 20", r"tick_ms does not belong here; write it under \[timing\]"),
        ("[timing]", "[timings]", "there is no key 'timings' in a configuration; did you mean 'timing'?"),
        ("# tick_ms = 50", "tick_ms = '50'", "tick_ms is '50'; it must be a whole number from 1 to 10000"),
        ("# tick_ms = 50", "tick_ms = 0", "tick_ms is 0; it must be a whole number from 1 to 10000"),
        ("# election_ticks = 10", "election_ticks = '9'", "election_ticks is '9'; it must be a whole number from 1"),
        ("# election_ticks = 10", "election_ticks = true", "election_ticks is True; it must be a whole number"),
        ("# segment_bytes = 67108864", "segment_bytes = 1.5", "segment_bytes is 1.5; it must be a whole number"),
        ("# pre_vote = true", "pre_vote = 1", "pre_vote is 1; it must be true or false"),
        ('# log_level = "INFO"', "log_level = 5", "log_level is 5; it must be text in quotes"),
        ('# log_level = "INFO"', "log_level = 'LOUD'", "log_level is 'LOUD'; choose DEBUG"),
        ("# import_paths = []", "import_paths = 'x'", "import_paths is 'x'; it must be a list of texts"),
        ('data_dir = "node-1"', "data_dir = ''", "data_dir is empty; name a folder"),
        ("cluster_id = 77", f"cluster_id = {2**63}", "cluster_id is 9223372036854775808; it must be"),
        (
            'peer_address = "127.0.0.2:7400"',
            "peer_adress = 'x'",
            "no key 'peer_adress' of a member; did you mean 'peer_",
        ),
        ('peer_address = "127.0.0.2:7400"', "peer_address = 5", "peer_address is 5; it must be HOST:PORT in quotes"),
        ("node_id = 3", "node_id = '3'", "node_id is '3'; it must be a whole number from 1 on"),
    ],
)
def test_mistakes_are_named_with_their_line(file: Path, old: str, new: str, reason: str) -> None:
    number = replace(file, old, new)
    with pytest.raises(ConfigError, match=f"^{file}, line {number}: .*{reason}"):
        load(file)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("cluster_id = 77", "", "has no cluster_id; add it"),
        ("cluster_id = 77", "cluster_id = ", r"is not TOML: .*line 9"),
        ("node_id = 2", "", "member number 2 has no node_id"),
        ("node_id = 2", "node_id = 3", "member 3 is there twice"),
        ("node_id = 1", "node_id = 4", r"node 4 is not among the members \[1, 2, 3\]"),
        (
            'peer_address = "127.0.0.2:7400"',
            'peer_address = "127.0.0.1:7400"',
            "members 1 and 2 both have 127.0.0.1:7400",
        ),
        (
            'peer_address = "127.0.0.2:7400"',
            'peer_address = "127.0.0.1"',
            "peer_address is '127.0.0.1'; write it as HOST",
        ),
    ],
)
def test_other_mistakes(file: Path, old: str, new: str, reason: str) -> None:
    replace(file, old, new)
    with pytest.raises(ConfigError, match=reason):
        load(file)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        (
            "RAFTACTORS_NODE_TIK_MS",
            "1",
            "no environment variable RAFTACTORS_NODE_TIK_MS; did you mean 'RAFTACTORS_NODE_TICK",
        ),
        ("RAFTACTORS_NODE_TICK_MS", "soon", "^RAFTACTORS_NODE_TICK_MS: tick_ms is 'soon'; it must be a whole number"),
        ("RAFTACTORS_NODE_TICK_MS", "9" * 5000, "^RAFTACTORS_NODE_TICK_MS: tick_ms is '999"),
        ("RAFTACTORS_NODE_PRE_VOTE", "yes", "^RAFTACTORS_NODE_PRE_VOTE: pre_vote is 'yes'; it must be true or false"),
        ("RAFTACTORS_NODE_MEMBERS", "1=a b", "^RAFTACTORS_NODE_MEMBERS: member 'b' has no id"),
    ],
)
def test_mistakes_in_the_environment(file: Path, variable: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(file, environment={variable: value})


def test_a_flag_of_an_unknown_key(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set x=1: there is no key 'x'; known are append_bytes_max"):
        load(file, flags=[("x", "1", "--set x=1")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("timing = 5", "line 1: timing is 5; it must be a table, as in \\[timing\\]"),
        ("\nmembers = ['1=a']", "line 2: members must be tables"),
        ("limits.bytes = 5", "there is no key 'bytes' in \\[limits\\]"),
        ("[limits]\n\n  'x' = 1", "line 3: there is no key 'x' in \\[limits\\]"),
    ],
)
def test_tables_of_the_wrong_shape(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory; `raftactors node init`"):
        load(path)
    path.write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 2"):
        load(path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load(path)


@pytest.mark.parametrize("text", ['"quoted" and \\', "tab\tnewline\n\x7f\x00", "größer 🎈"])
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(render_new({**GIVEN, "log_level": text}, MEMBERS), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert f"log_level is {text!r}; choose" in str(refused.value)
    with pytest.raises(ConfigError, match="not UTF-8"):
        render_new({**GIVEN, "data_dir": "\udcff"}, MEMBERS)
