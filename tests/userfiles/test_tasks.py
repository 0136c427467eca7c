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

MISTAKES = {
    "unknown key": (
        SMALLEST.replace("labels", "lables"),
        "tasks/t.toml:3: unknown key 'lables'; did you mean 'labels'?",
    ),
    "wrong kind": (
        SMALLEST.replace("classify", "clasify"),
        "tasks/t.toml:2: kind must be 'classify', 'extract', 'summarize', 'answer' or 'chat', "
        "not 'clasify'; did you mean 'classify'?",
    ),
    "british": (
        'format = 1\nkind = "summarise"\n',
        "tasks/t.toml:2: kind must be 'classify', 'extract', 'summarize', 'answer' or 'chat', "
        "not 'summarise'; did you mean 'summarize'?",
    ),
    "no kind": (
        'format = 1\nlabels = ["a", "b"]\n',
        "tasks/t.toml: kind is missing: 'classify', 'extract', 'summarize', 'answer' or 'chat'",
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
    assert "'https://example.com/s.json' is remote" in lines[0]


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
