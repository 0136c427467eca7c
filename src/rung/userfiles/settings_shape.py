"""The shape of `rung.toml`: every table and key, its type, its default and what it is for.

What one key asks of another is in `settings`.
"""

from __future__ import annotations

import datetime
import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from rung.config import (
    Accept,
    EmbeddedSettings,
    EngineName,
    FlashAttention,
    KvType,
    LedgerSettings,
    Limits,
    LoadSettings,
    Pooling,
    ReplayMode,
    Timeouts,
)
from rung.policy import Place
from rung.task import Privacy
from rung.userfiles.values import END, EnvName, Folder, Format, Money, Name, Seconds, Table


class PriceTable(Table, frozen=True):
    """What a model charges, noted on a day."""

    input_per_million: Annotated[Money, Meta(description="Price of a million input tokens.")]
    output_per_million: Annotated[Money, Meta(description="Price of a million output tokens.")]
    currency: Annotated[
        str,
        Meta(
            pattern=rf"^[A-Z]{{3}}{END}",
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


class TimeoutsTable(Table, frozen=True):
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


class LimitsTable(Table, frozen=True):
    """How hard a rung may be driven."""

    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | None,
        Meta(
            description="Requests in flight at once; left out, 8, or as many as an embedded model has slots.",
            extra={"must": "a whole number from 1 to 4,096"},
        ),
    ] = None
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


class PromptForm(enum.StrEnum):
    """The forms of a prompt that a rung may ask for."""

    FULL = "full"
    SHORT = "short"


class LoadTable(Table, frozen=True):
    """How an embedded model is loaded."""

    context: Annotated[
        Annotated[int, Meta(ge=64, le=1_048_576)] | None,
        Meta(
            description="Tokens that prompt and answer of one request may take together; left out, what the model "
            "was trained for, at most 4,096.",
            extra={"must": "a whole number of tokens from 64 to 1,048,576"},
        ),
    ] = None
    slots: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Requests that are worked on at once.",
            extra={"must": "a whole number from 1 to 64"},
        ),
    ] = LoadSettings().slots
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | None,
        Meta(
            description="CPU threads; leave it out for one a core.",
            extra={"must": "a whole number from 1 to 256"},
        ),
    ] = None
    batch_tokens: Annotated[
        int,
        Meta(
            ge=32,
            le=8192,
            description="Prompt tokens evaluated at once.",
            extra={"must": "a whole number from 32 to 8,192"},
        ),
    ] = LoadSettings().batch_tokens
    kv_type: Annotated[KvType, Meta(description="Type of the cache of keys and values.")] = (
        LoadSettings().kv_type
    )
    flash_attention: Annotated[
        FlashAttention, Meta(description="Needed for a quantised value cache.")
    ] = LoadSettings().flash_attention
    gpu_layers: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Layers that a GPU computes, where there is one.",
            extra={"must": "a whole number from 0 to 10,000"},
        ),
    ] = LoadSettings().gpu_layers
    pooling: Annotated[
        Pooling | None,
        Meta(description="How a text's embedding is made; leave it out when it does not embed."),
    ] = None
    adapters: Annotated[
        dict[Name, Folder],
        Meta(
            description="LoRA adapters by name, GGUF files below this file's folder.",
            extra={
                "must": 'a table of names and paths below this file\'s folder, such as { tone = "models/tone.gguf" }'
            },
        ),
    ] = msgspec.field(default_factory=dict)
    start_s: Annotated[
        Seconds, Meta(description="Seconds until a model that is not loaded is given up.")
    ] = LoadSettings().start_s


class RungTable(Table, frozen=True):
    """One rung: a named model on an engine."""

    engine: Annotated[EngineName, Meta(description="What runs the model.")]
    model: Annotated[
        str | None,
        Meta(
            description="student: folder of the trained artefact, {task} stands for the task's name. "
            "llama_cpp: path of a GGUF file, or starter for the built-in model. "
            "openai: the model's id on the server. replay: not used."
        ),
    ] = None
    where: Annotated[
        Place | None,
        Meta(
            description="Where the model runs, for policy. A student and an embedded model run on the device, "
            "a replay where the rung it replays runs; they may leave it out."
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
    prompt: Annotated[
        PromptForm | None,
        Meta(
            description="llama_cpp: full describes the task, short only names it, for models trained on that. "
            "Left out: short for the starter model, full for every other."
        ),
    ] = None
    adapter: Annotated[
        Name | None, Meta(description="llama_cpp: which of load.adapters applies.")
    ] = None
    load: Annotated[LoadTable | None, Meta(description="llama_cpp: how the model is loaded.")] = (
        None
    )


class EmbeddedTable(Table, frozen=True):
    """What all embedded models share."""

    memory_mib: Annotated[
        Annotated[int, Meta(ge=64)] | None,
        Meta(
            description="Memory that loaded models may take together; left out, most of what is free.",
            extra={"must": "a whole number of MiB, at least 64"},
        ),
    ] = None
    idle_s: Annotated[
        Seconds, Meta(description="Seconds without a request after which a model is unloaded.")
    ] = EmbeddedSettings().idle_s


class LedgerTable(Table, frozen=True):
    """Where the ledger is and what it keeps."""

    url: Annotated[
        str,
        Meta(
            pattern=rf"^sqlite:///[^?#\s]+{END}",
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


class PolicyTable(Table, frozen=True):
    """What may leave the machine."""

    egress: Annotated[
        dict[Privacy, tuple[Place, ...]] | None,
        Meta(
            description="For each privacy label, the places its texts may be sent to. When the table is "
            "there, a label it does not name may go nowhere.",
            extra_json_schema={"propertyNames": {"enum": [label.value for label in Privacy]}},
        ),
    ] = None


class SettingsFile(Table, frozen=True):
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
    embedded: EmbeddedTable = EmbeddedTable()
    tasks_dir: Annotated[Folder, Meta(description="Folder of the task files.")] = "tasks"
    certificates_dir: Annotated[Folder, Meta(description="Folder of the certificates.")] = (
        "certificates"
    )
