"""The shape of the two files a person writes, `rung.toml` and `tasks/*.toml`: one description for every use.

The loaders check files against these structs (`tomlshape`) and the JSON Schemas that editors use are made from
them (`schemas`), so the two cannot drift apart. What one key asks of another is in `settingsfile` and `taskfile`.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rung.config import Accept, EngineName, LedgerSettings, Limits, ReplayMode, Timeouts, to_nano
from rung.policy import Place
from rung.receipt import JsonValue
from rung.task import Kind, Privacy, Quality

_END = r"$(?!\n)"  # JSON Schema's `$`: in Python's a newline may still follow

NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}{_END}"
"""Names of tasks, rungs and ladders: they become parts of file names."""

Format = Annotated[
    Literal[1],
    Meta(description="Version of this file's format.", extra={"must": "1", "otherwise": 1}),
]

Name = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        extra={"must": "1 to 64 letters, digits, '-' and '_', beginning with a letter or digit"},
    ),
]

Money = Annotated[
    Annotated[str, Meta(pattern=rf"^[0-9]{{1,9}}(\.[0-9]{{1,9}})?{_END}")]
    | Annotated[float, Meta(ge=0, le=999_999_999)],
    Meta(extra={"must": 'an amount such as "2.50", not negative, with at most nine decimals'}),
]

Share = Annotated[
    Annotated[str, Meta(pattern=rf"^(?=.*[1-9])[0-9]{{1,2}}(\.[0-9]{{1,6}})? ?%{_END}")]
    | Annotated[float, Meta(gt=0, lt=1)],
    Meta(extra={"must": 'a share between 0 and 1 such as 0.05, or a percentage such as "5%"'}),
]

Seconds = Annotated[
    float, Meta(gt=0, le=86_400, extra={"must": "seconds, above 0 and at most 86,400"})
]

Folder = Annotated[
    str, Meta(min_length=1, extra={"must": "the path of a folder below this file's folder"})
]

EnvName = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z_][A-Za-z0-9_]*{_END}",
        extra={"must": "the name of an environment variable", "secret": True},
    ),
]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in which an unknown key is a mistake."""


class PriceTable(_Table, frozen=True):
    """What a model charges, noted on a day."""

    input_per_million: Annotated[Money, Meta(description="Price of a million input tokens.")]
    output_per_million: Annotated[Money, Meta(description="Price of a million output tokens.")]
    currency: Annotated[
        str,
        Meta(
            pattern=rf"^[A-Z]{{3}}{_END}",
            description="ISO 4217 code; the same for all prices in the file.",
            extra={"must": 'a currency code such as "USD"'},
        ),
    ] = "USD"
    date: Annotated[datetime.date | None, Meta(description="The day the price was noted.")] = None


class FrontierTable(PriceTable, frozen=True):
    """Prices of a frontier model, for estimates of what a batch would have cost there."""

    name: Annotated[
        str | None, Meta(description="Which model the prices are of, for readers of this file.")
    ] = None


class TimeoutsTable(_Table, frozen=True):
    """Seconds after which an attempt ends with verdict `timeout`."""

    connect: Annotated[Seconds, Meta(description="Until the server is connected.")] = (
        Timeouts().connect
    )
    first_token: Annotated[Seconds, Meta(description="Until the first token arrives.")] = (
        Timeouts().first_token
    )
    between_tokens: Annotated[Seconds, Meta(description="Between two tokens.")] = (
        Timeouts().between_tokens
    )
    total: Annotated[Seconds, Meta(description="For the whole attempt, retries included.")] = (
        Timeouts().total
    )


class LimitsTable(_Table, frozen=True):
    """How hard a rung may be driven."""

    concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=4096,
            description="Requests in flight at once.",
            extra={"must": "a whole number from 1 to 4,096"},
        ),
    ] = Limits().concurrency
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Retries of a request after the first try.",
            extra={"must": "a whole number from 0 to 100"},
        ),
    ] = Limits().retries
    retry_budget_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds all retries of one request may take, waiting included.",
            extra={"must": "seconds, from 0 to 86,400"},
        ),
    ] = Limits().retry_budget_s
    context_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Longest prompt the model takes, in tokens.",
            extra={"must": "a whole number of at least 1"},
        ),
    ] = None


class RungTable(_Table, frozen=True):
    """One rung: a named model on an engine."""

    engine: Annotated[EngineName, Meta(description="What runs the model.")]
    model: Annotated[
        str | None,
        Meta(
            description="student: folder of the trained artefact, {task} stands for the task's name. "
            "openai: the model's id on the server. replay: not used."
        ),
    ] = None
    where: Annotated[
        Place | None,
        Meta(
            description="Where the model runs, for policy. A student runs on the device and a "
            "replay where the rung it replays runs; both may leave it out."
        ),
    ] = None
    accept: Annotated[
        Accept,
        Meta(
            description="When an output becomes the answer: certified (confidence above a certified "
            "threshold), contract (the output keeps its contract; marked uncertified), never."
        ),
    ] = Accept.CERTIFIED
    base_url: Annotated[
        str | None, Meta(description="openai: address of the server up to and including /v1.")
    ] = None
    api_key_env: Annotated[
        EnvName | None,
        Meta(description="openai: the environment variable that holds the key."),
    ] = None
    recording: Annotated[
        Folder | None,
        Meta(
            description="replay: file of recorded answers, below this file's folder.",
            extra={"must": "the path of a file below this file's folder"},
        ),
    ] = None
    replays: Annotated[Name | None, Meta(description="replay: the rung that is recorded.")] = None
    mode: Annotated[
        ReplayMode,
        Meta(
            description="replay: record (always ask and record), fill (ask what is missing), "
            "replay (never ask)."
        ),
    ] = ReplayMode.REPLAY
    temperature: Annotated[
        float,
        Meta(
            ge=0, le=2, description="Decoding temperature.", extra={"must": "a number from 0 to 2"}
        ),
    ] = 0.0
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**31 - 1,
            description="Decoding seed, sent where the server takes one.",
            extra={"must": "a whole number from 0 to 2,147,483,647"},
        ),
    ] = 0
    price: Annotated[
        PriceTable | None, Meta(description="What it charges; leave it out when it is free.")
    ] = None
    timeouts: TimeoutsTable = TimeoutsTable()
    limits: LimitsTable = LimitsTable()


class LedgerTable(_Table, frozen=True):
    """Where the ledger is and what it keeps."""

    url: Annotated[
        str,
        Meta(
            pattern=rf"^sqlite:///[^?#\s]+{_END}",
            description="Address of the ledger; a relative path starts at this file's folder.",
            extra={"must": 'an address such as "sqlite:///rung.db"', "secret": True},
        ),
    ] = LedgerSettings().url
    store_text: Annotated[
        bool,
        Meta(description="Keep the text of rows for review; off, only keyed digests are kept."),
    ] = LedgerSettings().store_text
    retention_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_500,
            description="Days that texts for review are kept.",
            extra={"must": "a whole number of days from 1 to 36,500"},
        ),
    ] = LedgerSettings().retention_days


class PolicyTable(_Table, frozen=True):
    """What may leave the machine."""

    egress: Annotated[
        dict[Privacy, tuple[Place, ...]] | None,
        Meta(
            description="For each privacy label, the places its texts may be sent to. When the table is "
            "there, a label it does not name may go nowhere.",
            extra_json_schema={"propertyNames": {"enum": [label.value for label in Privacy]}},
        ),
    ] = None


class SettingsFile(_Table, frozen=True):
    """Settings of a Rung project: `rung.toml`."""

    format: Format
    rungs: Annotated[
        dict[Name, RungTable],
        Meta(
            min_length=1,
            description="The rungs, by name.",
            extra={"must": "at least one table [rungs.NAME]", "otherwise": {}},
        ),
    ]
    ladders: Annotated[
        dict[
            Name,
            Annotated[
                tuple[Name, ...],
                Meta(min_length=1, extra={"must": "a list of at least one rung, bottom first"}),
            ],
        ],
        Meta(
            min_length=1,
            description="The ladders: names of rungs, bottom first.",
            extra={
                "must": "a table [ladders] with at least one list of rungs, bottom first",
                "otherwise": {},
            },
        ),
    ]
    policy: PolicyTable = PolicyTable()
    ledger: LedgerTable = LedgerTable()
    frontier: FrontierTable | None = None
    tasks_dir: Annotated[Folder, Meta(description="Folder of the task files.")] = "tasks"
    certificates_dir: Annotated[Folder, Meta(description="Folder of the certificates.")] = (
        "certificates"
    )


class QualityTable(_Table, frozen=True):
    """The quality bar of a task."""

    max_error: Annotated[
        Share, Meta(description="At most this share of accepted answers is wrong.")
    ] = Quality().max_error
    confidence: Annotated[Share, Meta(description="Probability that the bound holds.")] = (
        Quality().confidence
    )


LabelName = Annotated[str, Meta(min_length=1, extra={"must": "text that is not empty"})]


class TaskFile(_Table, frozen=True):
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
        tuple[LabelName, ...] | dict[LabelName, str] | None,
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


def money(value: str | float) -> int:
    """A `Money` value in nano-units; a TOML number counts as the decimal it was written as.

    Raises:
        ValueError: finer than a nano-unit.
    """
    return to_nano(value if isinstance(value, str) else repr(value))


def share(value: str | float) -> float:
    """A `Share` value as a number between 0 and 1."""
    if isinstance(value, str):
        return float(Decimal(value.removesuffix("%").strip()) / 100)
    return float(value)
