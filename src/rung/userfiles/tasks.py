"""Reading `tasks/NAME.toml`: check it, resolve the files it names, and turn every mistake into a sentence.

The keys and their types are in `task_shape`; here is what one key asks of another. What a task is used for is in
`task`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rung.config import Settings
from rung.errors import ConfigError, InternalError
from rung.receipt import JsonValue
from rung.structured import plan
from rung.task import NO_PARAMETERS, Kind, Label, Quality, Task, Tool
from rung.text import normalize
from rung.userfiles.document import (
    Document,
    Key,
    Mistakes,
    did_you_mean,
    one_of,
    read_document,
    read_text,
    shown_key,
    shown_path,
    shown_value,
    stays_below,
)
from rung.userfiles.shape import read_table
from rung.userfiles.task_shape import TaskFile, ToolTable
from rung.userfiles.values import NAME_PATTERN, share

KIND_KEYS: dict[str, Kind] = {
    "labels": Kind.CLASSIFY,
    "labels_file": Kind.CLASSIFY,
    "schema": Kind.EXTRACT,
    "schema_file": Kind.EXTRACT,
    "tools": Kind.CALL,
}
"""Keys that only one kind of task takes; that kind needs exactly one of them."""

KIND_OPTIONS: dict[str, Kind] = {"allow_none": Kind.CALL}
"""Keys that only one kind of task takes, and may leave out."""


def load_task(path: Path, settings: Settings | None = None) -> Task:
    """The task in the file at `path`.

    Args:
        path: a `.toml` file.
        settings: when given, the task's ladder must be declared there.

    Raises:
        ConfigError: the file is missing or wrong; every mistake with its line.
    """
    document = read_document(path)
    mistakes = Mistakes(document)
    file = read_table(TaskFile, document.data, (), mistakes)
    task = _Reader(file, document, mistakes, settings).build() if file is not None else None
    mistakes.raise_any()
    if task is None:
        raise InternalError(f"{path}: not readable, yet nothing is wrong with it")
    return task


def find_task(settings: Settings, name: str) -> Task:
    """The task called `name`; other task files are not read.

    Raises:
        ConfigError: there is none, or its file is wrong.
    """
    paths = {path.stem: path for path in task_paths(settings)}
    if name in paths:
        return load_task(paths[name], settings)
    folder = shown_path(settings.path(settings.tasks_dir))
    known = f"tasks here: {', '.join(paths)}" if paths else "there are no tasks yet"
    raise ConfigError(
        f"no task {name!r} in {folder}{did_you_mean(name, paths)}",
        hint=f"{known}; a new one is the file {folder}/NAME.toml",
    )


def canonical_schema(schema: JsonValue) -> str:
    """A JSON Schema as text in which only what matters differs: keywords are sorted, properties are not.

    A model that is held to a schema writes its properties in the schema's order, so their order is part of what is
    asked.
    """
    return msgspec.json.encode(_sorted(schema)).decode()


def _sorted(node: JsonValue, *, properties: bool = False) -> JsonValue:
    if isinstance(node, list):
        return [_sorted(part) for part in node]
    if not isinstance(node, dict):
        return node
    keys = list(node) if properties else sorted(node)
    return {
        key: _sorted(node[key], properties=key == "properties" and not properties) for key in keys
    }


def task_paths(settings: Settings) -> list[Path]:
    """The project's task files, in alphabetical order.

    Raises:
        ConfigError: the folder of tasks is missing or cannot be read.
    """
    folder = settings.path(settings.tasks_dir)
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as error:
        raise ConfigError(
            f"{shown_path(folder)}: cannot read the folder of tasks: {error.strerror}",
            hint="rung init writes a starting project; tasks_dir in rung.toml names the folder",
        ) from error


class _Reader:
    """The cross-checks of one task file, and the task made of it."""

    def __init__(
        self, file: TaskFile, document: Document, mistakes: Mistakes, settings: Settings | None
    ) -> None:
        self._file = file
        self._path = document.path
        self._data = document.data
        self._mistakes = mistakes
        self._settings = settings

    def build(self) -> Task:
        """The task; worth using only when no mistake was noted."""
        file = self._file
        self._check_name()
        self._check_kind()
        self._check_ladder()
        task = Task(
            name=self._path.stem,
            kind=file.kind,
            instructions=file.instructions.strip(),
            labels=self._labels(),
            schema=self._schema(),
            tools=self._tools(),
            allow_none=file.allow_none,
            privacy=file.privacy,
            quality=Quality(share(file.quality.max_error), share(file.quality.confidence)),
            max_latency_ms=file.max_latency_ms,
            ladder=file.ladder,
            max_output_tokens=file.max_output_tokens,
        )
        self._check_schema(task)
        return task

    def _check_name(self) -> None:
        stem = self._path.stem
        if re.search(NAME_PATTERN, stem) is None:
            self._mistakes.add(
                (),
                f"the file's name {stem!r} is the task's name, and that must be "
                "1 to 64 letters, digits, '-' and '_', beginning with a letter or digit",
            )
        elif self._file.name not in (None, stem):
            self._mistakes.add(
                ("name",), f"name {self._file.name!r} must be the file's name, {stem!r}"
            )

    def _check_kind(self) -> None:
        """Each kind has its own keys: none of another's, and exactly one where it needs one."""
        if self._mistakes.touch(("kind",)):
            return
        kind = self._file.kind
        own = [key for key, owner in KIND_KEYS.items() if owner is kind]
        given = [key for key in KIND_KEYS if key in self._data]
        owners = KIND_KEYS | KIND_OPTIONS
        for key, owner in owners.items():
            if key in self._data and owner is not kind:
                self._mistakes.add(
                    (key,),
                    f"{key} is for kind {owner.value!r}; this task's kind is {kind.value!r}",
                )
        mine = [key for key in given if key in own]
        if own and not mine:
            self._mistakes.add(
                ("kind",), f"kind {kind.value!r} needs {one_of(own).replace(chr(39), '')}"
            )
        elif len(mine) > 1:
            self._mistakes.add((mine[1],), f"{mine[0]} and {mine[1]} say the same thing; keep one")

    def _check_ladder(self) -> None:
        if self._settings is None or self._file.ladder in self._settings.ladders:
            return
        known = self._settings.ladders
        self._mistakes.add(
            ("ladder",),
            f"ladder {self._file.ladder!r} is not in rung.toml"
            + (did_you_mean(self._file.ladder, known) or f"; there: {one_of(known)}"),
        )

    def _labels(self) -> tuple[Label, ...]:
        """The labels of a classify task, checked one by one and together."""
        file = self._file
        if isinstance(file.labels, Mapping):
            labels = [Label(name, text) for name, text in file.labels.items()]
            places: list[Key] = [("labels", name) for name in file.labels]
        elif file.labels is not None:
            labels = [Label(name) for name in file.labels]
            places = [("labels", index) for index in range(len(labels))]
        elif file.labels_file is not None:
            labels = [Label(name) for name in self._label_lines(file.labels_file)]
            places = [("labels_file",)] * len(labels)
        else:
            return ()
        self._check_labels(labels, places)
        return tuple(labels)

    def _label_lines(self, relative: str) -> list[str]:
        text = self._read_beside("labels_file", relative)
        return [] if text is None else [line.strip() for line in text.splitlines() if line.strip()]

    def _check_labels(self, labels: list[Label], places: list[Key]) -> None:
        seen: dict[str, str] = {}
        for label, at in zip(labels, places, strict=True):
            plain = label.name.strip()
            if not plain:
                self._mistakes.add(at, f"{shown_key(at)}: an empty label")
            elif plain != label.name:
                self._mistakes.add(at, f"label {label.name!r} begins or ends with a blank")
            elif (first := seen.get(normalize(plain))) is not None:
                alike = f", as {first!r}, which reads the same" if first != plain else ""
                self._mistakes.add(at, f"label {plain!r} stands twice{alike}")
            seen.setdefault(normalize(plain), plain)
        key = "labels_file" if places[:1] == [("labels_file",)] else "labels"
        if len(labels) < 2 and not self._mistakes.touch((key,)):
            self._mistakes.add((key,), f"{key} must have at least two labels, not {len(labels)}")

    def _schema(self) -> str | None:
        """The JSON Schema of an extract task as canonical JSON text."""
        file = self._file
        value = self._json(("schema",), file.schema, ("schema_file",), file.schema_file)
        return None if value is None else canonical_schema(value)

    def _json(self, key: Key, value: JsonValue, file_key: Key, relative: str | None) -> JsonValue:
        """A value written in the task file or in one beside it; None with the mistake noted."""
        if relative is None:
            return value
        text = self._read_beside(shown_key(file_key), relative, file_key)
        if text is None:
            return None
        try:
            found: JsonValue = msgspec.json.decode(text)
            _sorted(found)  # as deep as anything here goes into it
        except msgspec.DecodeError as error:
            self._mistakes.add(file_key, f"{shown_key(file_key)} {relative!r} is not JSON: {error}")
            return None
        except RecursionError:
            self._mistakes.add(file_key, f"{shown_key(file_key)} {relative!r} is nested too deep")
            return None
        return found

    def _check_schema(self, task: Task) -> None:
        if task.schema is not None:
            key = "schema" if self._file.schema is not None else "schema_file"
            self._check_plan(task.schema, (key,))
        elif task.tools and task.output_schema is not None and not self._mistakes.touch(("tools",)):
            self._check_plan(task.output_schema, ("tools",))

    def _check_plan(self, schema: str, at: Key) -> None:
        """Note why no engine could be held to a schema, where that is so."""
        try:
            plan(schema)
        except ConfigError as error:
            said = error.message.removeprefix("the ")
            if not said.startswith("schema "):
                said = f"{shown_key(at)}: {said}"
            self._mistakes.add(at, f"{said}; {error.hint}" if error.hint else said)

    def _tools(self) -> tuple[Tool, ...]:
        """The tools of a call task, checked one by one and together."""
        tools: list[Tool] = []
        for index, table in enumerate(self._file.tools or ()):
            at: Key = ("tools", index)
            if table.name in {tool.name for tool in tools}:
                self._mistakes.add((*at, "name"), f"tool {table.name!r} stands twice")
            parameters = self._parameters(table, at)
            if parameters is not None:
                tools.append(Tool(table.name, table.description.strip(), parameters))
        if self._file.tools == ():
            self._mistakes.add(("tools",), "tools must have at least one tool")
        return tuple(tools)

    def _parameters(self, table: ToolTable, at: Key) -> str | None:
        """The JSON Schema of a tool's arguments as canonical JSON text; None with the mistake noted."""
        own, beside = (*at, "parameters"), (*at, "parameters_file")
        if table.parameters is not None and table.parameters_file is not None:
            self._mistakes.add(
                beside, f"{shown_key(own)} and parameters_file say the same thing; keep one"
            )
            return None
        if table.parameters is None and table.parameters_file is None:
            return NO_PARAMETERS
        given = own if table.parameters is not None else beside
        value = self._json(own, table.parameters, beside, table.parameters_file)
        if value is None:
            return None
        if not isinstance(value, dict) or value.get("type") != "object":
            self._mistakes.add(
                given,
                f"{shown_key(given)} must be a JSON Schema of type 'object': arguments have names",
            )
            return None
        parameters = canonical_schema(value)
        self._check_plan(parameters, given)
        return parameters

    def _read_beside(self, key: str, relative: str, at: Key | None = None) -> str | None:
        """Text of a file the task names, beside or below it; None with the mistake noted."""
        at = at or (key,)
        folder = self._path.absolute().parent
        if not stays_below(folder, relative):
            self._mistakes.add(
                at,
                f"{key} must stay below the task's folder, not {shown_value(relative)}",
            )
            return None
        try:
            return read_text(folder / relative)
        except ConfigError as error:
            self._mistakes.add(at, f"{key}: {error.message}")
            return None
