"""The shape of a task file: every key, its type, its default and what it is for.

What one key asks of another is in `tasks`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from rung.receipt import JsonValue
from rung.task import Kind, Privacy, Quality
from rung.userfiles.values import Folder, Format, Name, Share, Table


class QualityTable(Table, frozen=True):
    """The quality bar of a task."""

    max_error: Annotated[
        Share, Meta(description="At most this share of accepted answers is wrong.")
    ] = Quality().max_error
    confidence: Annotated[Share, Meta(description="Probability that the bound holds.")] = (
        Quality().confidence
    )


class ToolTable(Table, frozen=True):
    """One tool of a `call` task."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            description="The tool's name, as the answer has it.",
            extra={"must": "text that is not empty"},
        ),
    ]
    description: Annotated[
        str, Meta(description="What it does; part of a language model's prompt.")
    ] = ""
    parameters: Annotated[
        dict[str, JsonValue] | None,
        Meta(
            description="JSON Schema of its arguments, an object, written as TOML; none: it takes no arguments.",
            extra={"must": "a table that holds a JSON Schema"},
        ),
    ] = None
    parameters_file: Annotated[
        Folder | None,
        Meta(
            description="A file with the JSON Schema of its arguments, beside or below this file.",
            extra={"must": "the path of a JSON file"},
        ),
    ] = None


LabelName = Annotated[str, Meta(min_length=1, extra={"must": "text that is not empty"})]


class TaskFile(Table, frozen=True):
    """One task, as a typed contract: `tasks/NAME.toml`."""

    format: Format
    kind: Annotated[
        Kind, Meta(description="The shape of the work.", extra={"otherwise": Kind.CHAT})
    ]
    name: Annotated[
        Name | None, Meta(description="The task's name: the file's name without `.toml`.")
    ] = None
    instructions: Annotated[
        str, Meta(description="What to do, in words; part of a language model's prompt.")
    ] = ""
    labels: Annotated[
        Annotated[
            tuple[LabelName, ...], Meta(extra_json_schema={"minItems": 2, "uniqueItems": True})
        ]
        | Annotated[dict[LabelName, str], Meta(extra_json_schema={"minProperties": 2})]
        | None,
        Meta(
            description="classify: the answers allowed, as a list or as a table of name = description.",
            extra={"must": 'a list of names, or a table of name = "description"'},
        ),
    ] = None
    labels_file: Annotated[
        Folder | None,
        Meta(
            description="classify: a text file with one label a line, beside or below this file.",
            extra={"must": "the path of a text file with one label a line"},
        ),
    ] = None
    schema: Annotated[
        dict[str, JsonValue] | None,
        Meta(
            description="extract: JSON Schema of the answer, written as TOML.",
            extra={"must": "a table that holds a JSON Schema"},
        ),
    ] = None
    schema_file: Annotated[
        Folder | None,
        Meta(
            description="extract: a file with the JSON Schema, beside or below this file.",
            extra={"must": "the path of a JSON file"},
        ),
    ] = None
    tools: Annotated[
        Annotated[tuple[ToolTable, ...], Meta(extra_json_schema={"minItems": 1})] | None,
        Meta(
            description="call: the tools allowed.",
            extra={"must": "[[tools]] tables, each with a name"},
        ),
    ] = None
    allow_none: Annotated[
        bool,
        Meta(description='call: whether {"name": null, "arguments": {}}, no tool, is an answer.'),
    ] = False
    privacy: Annotated[
        Privacy, Meta(description="The least guarded label that inputs of this task have.")
    ] = Privacy.PERSONAL
    quality: QualityTable = QualityTable()
    max_latency_ms: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="A rung that has not answered by then has timed out.",
            extra={"must": "a whole number of milliseconds of at least 1"},
        ),
    ] = None
    ladder: Annotated[Name, Meta(description="The ladder in rung.toml that answers it.")] = (
        "default"
    )
    max_output_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Longest answer a language model may write, in tokens.",
            extra={"must": "a whole number from 1 to 1,000,000"},
        ),
    ] = 512
