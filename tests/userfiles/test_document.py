"""Where keys stand in a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rung.userfiles.document import did_you_mean, find_lines, read_document, shown_key, stays_below

TRICKY = '''# a = 1
top = """
[not.a.table]
x = 1
"""""
"quoted key" = 'a # no comment'
[a.b]  # [c]
c.d = [
  1, # one
  [2, "]"],
  { x = 1, y = { z = "}" } },
]
date = 1979-05-27 07:32:00
float = 1.5e3
\'\'\'
'''.replace("'''\n", "")


def test_every_key_has_its_line(tmp_path: Path) -> None:
    """Strings, comments, nested lists and inline tables do not mislead the search for a key's line."""
    path = tmp_path / "x.toml"
    path.write_text(TRICKY)
    document = read_document(path)
    assert document.lines == {
        ("top",): 2,
        ("quoted key",): 6,
        ("a",): 7,
        ("a", "b"): 7,
        ("a", "b", "c"): 8,
        ("a", "b", "c", "d"): 8,
        ("a", "b", "c", "d", 0): 9,
        ("a", "b", "c", "d", 1): 10,
        ("a", "b", "c", "d", 1, 0): 10,
        ("a", "b", "c", "d", 1, 1): 10,
        ("a", "b", "c", "d", 2): 11,
        ("a", "b", "c", "d", 2, "x"): 11,
        ("a", "b", "c", "d", 2, "y"): 11,
        ("a", "b", "c", "d", 2, "y", "z"): 11,
        ("a", "b", "date"): 13,
        ("a", "b", "float"): 14,
    }


def test_tables_in_lists_are_counted(tmp_path: Path) -> None:
    """Each `[[table]]` is a new item, and a table below it belongs to the latest one."""
    path = tmp_path / "x.toml"
    path.write_text("[[t]]\na = 1\n[[t]]\n[t.u]\nb = 2\n")
    assert read_document(path).lines == {
        ("t",): 1,
        ("t", 0): 1,
        ("t", 0, "a"): 2,
        ("t", 1): 3,
        ("t", 1, "u"): 4,
        ("t", 1, "u", "b"): 5,
    }


def test_a_missing_key_stands_where_its_table_does(tmp_path: Path) -> None:
    """What is not in the file is placed at the nearest table around it."""
    path = tmp_path / "x.toml"
    path.write_text("\n[a]\nb = 1\n")
    document = read_document(path)
    assert [document.line(at) for at in [("a", "c"), ("a", "b", 3), ("z",)]] == [2, 3, None]


_text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=6)
_value = st.recursive(
    st.integers(0, 9) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def _keys(value: object, at: tuple[object, ...]) -> set[tuple[object, ...]]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    return {at} | {key for part, inner in items for key in _keys(inner, (*at, part))}


@given(st.dictionaries(_text, _value, max_size=4))
def test_the_search_finds_exactly_the_keys_the_parser_does(data: dict[str, object]) -> None:
    """For any file, every key and item has a line and nothing else does."""
    text = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in data.items())
    assert tomllib.loads(text) == data
    assert set(find_lines(text)) == _keys(data, ()) - {()}


def test_keys_are_shown_as_they_are_written() -> None:
    """Tables are joined by dots, list items are numbered."""
    assert shown_key(("rungs", "a", "limits")) == "rungs.a.limits"
    assert shown_key(("ladders", "default", 1)) == "ladders.default[1]"


def test_a_guess_prefers_swapped_letters() -> None:
    """Two letters swapped are a likelier slip than one left out."""
    assert did_you_mean("modle", ["mode", "model"]) == "; did you mean 'model'?"
    assert did_you_mean("xyz", ["mode", "model"]) == ""


def test_paths_that_leave_a_folder(tmp_path: Path) -> None:
    """A path below a folder stays below it on every system and through links."""
    (tmp_path / "out").symlink_to("/")
    outside = [
        "..",
        "../x",
        "a/../../x",
        "/x",
        "C:\\x",
        "C:x",
        "\\\\host\\x",
        "a\\..\\..\\x",
        "out/x",
        "a\0",
    ]
    assert [path for path in outside if stays_below(tmp_path, path)] == []
    assert all(stays_below(tmp_path, path) for path in ["x", "a/b", ".x", "a..b", "."])
