"""Task files: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from rung.config import Settings
from rung.errors import ConfigError
from rung.task import Kind, Label, Privacy, Quality, Task
from rung.userfiles.settings import load_settings
from rung.userfiles.tasks import find_task, load_task, task_paths

SMALLEST = """format = 1
kind = "classify"
labels = ["a", "b"]
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project in the current folder with one ladder and no task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "rung.toml").write_text(
        'format = 1\n[rungs.s]\nengine = "student"\nmodel = "m"\n[ladders]\ndefault = ["s"]\n'
    )
    return load_settings()


def write(text: str, name: str = "t") -> Path:
    """The path of a task file with this text."""
    path = Path("tasks") / f"{name}.toml"
    path.write_text(text, "utf-8")
    return path


def complaint(text: str, settings: Settings) -> list[str]:
    """The lines of the error for a task file with this text."""
    with pytest.raises(ConfigError) as caught:
        load_task(write(text), settings)
    return caught.value.message.splitlines()


def test_smallest_file_gets_the_defaults(settings: Settings) -> None:
    """What a file leaves out is what a task's own defaults say."""
    task = load_task(write(SMALLEST), settings)
    assert task == Task(name="t", kind=Kind.CLASSIFY, labels=(Label("a"), Label("b")))


def test_every_key_arrives(settings: Settings) -> None:
    """Every key of a full file reaches the task."""
    text = """format = 1
name = "t"
kind = "classify"
instructions = " Choose. "
privacy = "secret"
ladder = "default"
max_latency_ms = 250
max_output_tokens = 9
[labels]
a = "the first"
"b c" = ""
[quality]
max_error = "2.5%"
confidence = 0.9
"""
    assert load_task(write(text), settings) == Task(
        name="t",
        kind=Kind.CLASSIFY,
        instructions="Choose.",
        labels=(Label("a", "the first"), Label("b c")),
        privacy=Privacy.SECRET,
        quality=Quality(0.025, 0.9),
        max_latency_ms=250,
        max_output_tokens=9,
    )


def test_labels_from_a_file(settings: Settings) -> None:
    """A labels file is one label a line, blank lines passed over."""
    (settings.root / "tasks" / "names.txt").write_text("a\n\n b \r\n")
    text = SMALLEST.replace('labels = ["a", "b"]', 'labels_file = "names.txt"')
    assert load_task(write(text)).label_names == ("a", "b")


def test_schema_inline_and_from_a_file_are_the_same(settings: Settings) -> None:
    """A schema written as TOML and the same one in a JSON file make equal tasks."""
    (settings.root / "tasks" / "s.json").write_text('{"type": "object", "required": ["x"]}')
    inline = write('format = 1\nkind = "extract"\n[schema]\nrequired = ["x"]\ntype = "object"\n')
    task = load_task(inline)
    assert task.contract.violation({}) is not None
    assert task == load_task(write('format = 1\nkind = "extract"\nschema_file = "s.json"\n'))


EXTRACT = 'format = 1\nkind = "extract"\n'
CALL = 'format = 1\nkind = "call"\n'


def test_the_order_of_properties_is_part_of_what_is_asked(settings: Settings) -> None:
    """A model writes them in that order; the order of keywords means nothing."""
    one = (
        EXTRACT
        + '[schema]\ntype = "object"\n[schema.properties]\nb.type = "null"\na.type = "null"\n'
    )
    (settings.root / "tasks" / "s.json").write_text(
        '{"properties": {"b": {"type": "null"}, "a": {"type": "null"}}, "type": "object"}'
    )
    task = load_task(write(one))
    assert task.field_names == ("b", "a")
    assert task == load_task(write(EXTRACT + 'schema_file = "s.json"\n'))


def test_tools_inline_and_from_a_file_are_the_same(settings: Settings) -> None:
    """A call keeps the schema of its tool, and names a tool there is."""
    (settings.root / "tasks" / "a.json").write_text(
        '{"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}'
    )
    inline = """[[tools]]
name = "weather"
description = "What it is like outside."
[tools.parameters]
type = "object"
required = ["city"]
properties.city.type = "string"
"""
    beside = inline.partition("[tools.")[0] + 'parameters_file = "a.json"\n'
    task = load_task(write(CALL + inline + '[[tools]]\nname = "time"\n'))
    assert task == load_task(write(CALL + beside + '[[tools]]\nname = "time"\n'))
    assert [tool.name for tool in task.tools] == ["weather", "time"]
    broken = task.contract.violation
    assert broken({"name": "weather", "arguments": {"city": "Paris"}}) is None
    assert broken({"name": "time", "arguments": {}}) is None
    assert broken({"name": "wether", "arguments": {}}) == "the answer names no tool of the task"
    assert broken({"name": "weather", "arguments": {}}) is not None
    assert broken({"name": "time", "arguments": {"x": 1}}) is not None
    assert broken({"name": None, "arguments": {}}) is not None
    assert broken([]) is not None


def test_no_tool_is_an_answer_where_the_task_says_so(settings: Settings) -> None:
    """It is an object like every other call."""
    task = load_task(write(CALL + 'allow_none = true\n[[tools]]\nname = "time"\n'))
    assert task.contract.violation({"name": None, "arguments": {}}) is None
    assert task.contract.violation({"name": None, "arguments": {"x": 1}}) is not None
    assert task.contract.violation(None) is not None


MISTAKES = {
    "unknown key": (
        SMALLEST.replace("labels", "lables"),
        "tasks/t.toml:3: unknown key 'lables'; did you mean 'labels'?",
    ),
    "wrong kind": (
        SMALLEST.replace("classify", "clasify"),
        "tasks/t.toml:2: kind must be 'classify', 'extract', 'call', 'summarize', 'answer' or 'chat', "
        "not 'clasify'; did you mean 'classify'?",
    ),
    "british": (
        'format = 1\nkind = "summarise"\n',
        "tasks/t.toml:2: kind must be 'classify', 'extract', 'call', 'summarize', 'answer' or 'chat', "
        "not 'summarise'; did you mean 'summarize'?",
    ),
    "no kind": (
        'format = 1\nlabels = ["a", "b"]\n',
        "tasks/t.toml: kind is missing: 'classify', 'extract', 'call', 'summarize', 'answer' or 'chat'",
    ),
    "another name": (
        SMALLEST + 'name = "u"\n',
        "tasks/t.toml:4: name 'u' must be the file's name, 't'",
    ),
    "no labels": (
        'format = 1\nkind = "classify"\n',
        "tasks/t.toml:2: kind 'classify' needs labels or labels_file",
    ),
    "one label": (
        SMALLEST.replace(', "b"', ""),
        "tasks/t.toml:3: labels must have at least two labels, not 1",
    ),
    "no label at all": (
        SMALLEST.replace('"a", "b"', ""),
        "tasks/t.toml:3: labels must have at least two labels, not 0",
    ),
    "label twice": (
        SMALLEST.replace('["a", "b"]', '[\n  "a",\n  "b",\n  "a",\n]'),
        "tasks/t.toml:6: label 'a' stands twice",
    ),
    "label twice but for case": (
        SMALLEST.replace('"b"', '"A"'),
        "tasks/t.toml:3: label 'A' stands twice, as 'a', which reads the same",
    ),
    "empty label": (
        SMALLEST.replace('"b"', '""'),
        "tasks/t.toml:3: labels[1] must be text that is not empty, not ''",
    ),
    "blank label": (SMALLEST.replace('"b"', '"  "'), "tasks/t.toml:3: labels[1]: an empty label"),
    "label with a blank": (
        SMALLEST.replace('"b"', '"b "'),
        "tasks/t.toml:3: label 'b ' begins or ends with a blank",
    ),
    "label that is no text": (
        SMALLEST.replace('"b"', "7"),
        "tasks/t.toml:3: labels[1] must be text that is not empty, not 7",
    ),
    "labels for another kind": (
        SMALLEST.replace("classify", "chat"),
        "tasks/t.toml:3: labels is for kind 'classify'; this task's kind is 'chat'",
    ),
    "labels twice over": (
        SMALLEST + 'labels_file = "x.txt"\n',
        "tasks/t.toml:4: labels and labels_file say the same thing; keep one",
    ),
    "labels file missing": (
        SMALLEST.replace('labels = ["a", "b"]', 'labels_file = "x.txt"'),
        "tasks/t.toml:3: labels_file: tasks/x.txt: no such file",
    ),
    "labels file outside": (
        SMALLEST.replace('labels = ["a", "b"]', 'labels_file = "../rung.toml"'),
        "tasks/t.toml:3: labels_file must stay below the task's folder, not '../rung.toml'",
    ),
    "no schema": (EXTRACT, "tasks/t.toml:2: kind 'extract' needs schema or schema_file"),
    "wrong schema": (
        EXTRACT + '[schema]\ntype = "objct"\n',
        'tasks/t.toml:3: schema is not a valid JSON Schema: "objct" is not valid under any of '
        "the schemas listed in the 'anyOf' keyword",
    ),
    "schema that is not JSON": (
        EXTRACT + 'schema_file = "bad.json"\n',
        "tasks/t.toml:3: schema_file 'bad.json' is not JSON: JSON is malformed: "
        "invalid character (byte 4)",
    ),
    "schema that nothing keeps": (
        EXTRACT + '[schema]\ntype = "integer"\nminimum = 3\nmaximum = 2\n',
        "tasks/t.toml:3: schema: no value can keep the schema: minimum (3) is greater than maximum (2)",
    ),
    "no tools": (CALL, "tasks/t.toml:2: kind 'call' needs tools"),
    "not one tool": (
        CALL + "tools = []\n",
        "tasks/t.toml:3: tools must have at least one tool",
    ),
    "tools of another kind": (
        SMALLEST + '[[tools]]\nname = "x"\n',
        "tasks/t.toml:4: tools is for kind 'call'; this task's kind is 'classify'",
    ),
    "no tool for another kind": (
        SMALLEST + "allow_none = true\n",
        "tasks/t.toml:4: allow_none is for kind 'call'; this task's kind is 'classify'",
    ),
    "tool without a name": (
        CALL + '[[tools]]\ndescription = "x"\n',
        "tasks/t.toml:3: tools[0].name is missing: text that is not empty",
    ),
    "tool twice": (
        CALL + '[[tools]]\nname = "x"\n[[tools]]\nname = "x"\n',
        "tasks/t.toml:6: tool 'x' stands twice",
    ),
    "arguments that are no object": (
        CALL + '[[tools]]\nname = "x"\nparameters = {type = "string"}\n',
        "tasks/t.toml:5: tools[0].parameters must be a JSON Schema of type 'object': arguments have names",
    ),
    "arguments twice over": (
        CALL + '[[tools]]\nname = "x"\nparameters_file = "a.json"\nparameters = {}\n',
        "tasks/t.toml:5: tools[0].parameters and parameters_file say the same thing; keep one",
    ),
    "arguments that are no schema": (
        CALL + '[[tools]]\nname = "x"\n[tools.parameters]\ntype = "object"\nrequired = "y"\n',
        'tasks/t.toml:5: schema is not a valid JSON Schema: "y" is not of type "array"',
    ),
    "arguments in no file": (
        CALL + '[[tools]]\nname = "x"\nparameters_file = "a.json"\n',
        "tasks/t.toml:5: tools[0].parameters_file: tasks/a.json: no such file",
    ),
    "share as a whole number": (
        SMALLEST + "[quality]\nmax_error = 5\n",
        "tasks/t.toml:5: quality.max_error must be a share between 0 and 1 such as 0.05, or a "
        'percentage such as "5%", not 5',
    ),
    "no error at all": (
        SMALLEST + '[quality]\nmax_error = "0%"\n',
        "tasks/t.toml:5: quality.max_error must be a share between 0 and 1 such as 0.05, or a "
        "percentage such as \"5%\", not '0%'",
    ),
    "no latency": (
        SMALLEST + "max_latency_ms = 0\n",
        "tasks/t.toml:4: max_latency_ms must be a whole number of milliseconds of at least 1, "
        "not 0",
    ),
    "unknown ladder": (
        SMALLEST + 'ladder = "defalt"\n',
        "tasks/t.toml:4: ladder 'defalt' is not in rung.toml; did you mean 'default'?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_line(name: str, settings: Settings) -> None:
    """Every mistake names file, line or key, what is wrong and what is allowed."""
    (settings.root / "tasks" / "bad.json").write_text("nope")
    text, sentence = MISTAKES[name]
    assert sentence in complaint(text, settings)


def test_a_remote_schema_is_refused(settings: Settings) -> None:
    """A `$ref` to another place is a mistake, and nothing is fetched."""
    lines = complaint(EXTRACT + '[schema]\n"$ref" = "https://example.com/s.json"\n', settings)
    assert len(lines) == 1
    assert (
        "schema: /$ref is 'https://example.com/s.json', which is not part of this schema"
        in lines[0]
    )


def test_all_mistakes_are_reported_together(settings: Settings) -> None:
    """A wrong kind does not hide the other mistakes."""
    text = 'format = 1\nkind = "clasify"\nlables = ["a"]\nname = "u"\n'
    assert [line.partition(": ")[0] for line in complaint(text, settings)] == [
        "tasks/t.toml:2",
        "tasks/t.toml:3",
        "tasks/t.toml:4",
    ]


def test_a_file_name_that_is_no_task_name(settings: Settings) -> None:
    """The file's name is the task's, so it must be a name."""
    with pytest.raises(ConfigError, match=r"the file's name 'a b' is the task's name"):
        load_task(write(SMALLEST, "a b"), settings)


def test_tasks_are_found_by_name(settings: Settings) -> None:
    """A near miss is answered with the task that was meant, and the others stay unread."""
    write(SMALLEST, "triage")
    write("broken", "other")
    assert find_task(settings, "triage").name == "triage"
    with pytest.raises(ConfigError) as caught:
        find_task(settings, "traige")
    assert caught.value.message == "no task 'traige' in tasks; did you mean 'triage'?"
    assert caught.value.hint == "tasks here: other, triage; a new one is the file tasks/NAME.toml"


def test_no_folder_of_tasks(settings: Settings) -> None:
    """A missing folder is a sentence, not an empty list."""
    (settings.root / "tasks").rmdir()
    with pytest.raises(ConfigError, match=r"^tasks: cannot read the folder of tasks: No such file"):
        task_paths(settings)


def test_a_schema_file_that_nests_without_end_is_a_sentence(settings: Settings) -> None:
    """Not a traceback: files come from other programs."""
    Path("tasks/deep.json").write_text('{"not":' * 700 + "true" + "}" * 700, "utf-8")
    lines = complaint(EXTRACT + 'schema_file = "deep.json"\n', settings)
    assert any("schema_file 'deep.json' is nested too deep" in line for line in lines)
