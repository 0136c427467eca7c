"""`rung.toml` as one frozen object: rungs, ladders, policy, ledger. Loaded in one place, passed in, never global.

This module says what valid settings are; `settings` reads the file and turns every mistake into a sentence
with its line. Secrets are never here: a rung names the environment variable that holds its key.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from rung.policy import Place, Policy
from rung.prompts import Form
from rung.receipt import NANO, Usage

STARTER = "starter"
"""Names the built-in model where a file is asked for."""


class Accept(enum.StrEnum):
    """When a rung's output becomes the answer.

    `certified`: confidence above a certified threshold. `contract`: the output keeps its contract; the answer
    is marked uncertified. `never`: observed only.
    """

    CERTIFIED = "certified"
    CONTRACT = "contract"
    NEVER = "never"


class EngineName(enum.StrEnum):
    """The engines a rung may name."""

    STUDENT = "student"
    LLAMA_CPP = "llama_cpp"
    OPENAI = "openai"
    REPLAY = "replay"


class KvType(enum.StrEnum):
    """The type of the elements of an embedded model's key-value cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class FlashAttention(enum.StrEnum):
    """Whether attention is computed without writing its matrix out."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Pooling(enum.StrEnum):
    """How token embeddings become the embedding of a text."""

    MEAN = "mean"
    LAST = "last"
    CLS = "cls"


class ReplayMode(enum.StrEnum):
    """What a replay rung does with a call: always ask and record, ask only what is missing, or never ask."""

    RECORD = "record"
    FILL = "fill"
    REPLAY = "replay"


class Price(msgspec.Struct, frozen=True):
    """What a rung charges.

    Attributes:
        input_per_million: nano-units of `currency` per million input tokens.
        output_per_million: nano-units of `currency` per million output tokens.
        currency: ISO 4217 code.
        date: the day the price was noted, ISO 8601.
    """

    input_per_million: int
    output_per_million: int
    currency: str = "USD"
    date: str = ""

    def cost(self, usage: Usage) -> int:
        """Nano-units for `usage`, rounded up so that a bill is never understated."""
        total = (
            usage.input_tokens * self.input_per_million
            + usage.output_tokens * self.output_per_million
        )
        return -(-total // 1_000_000)


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. Each limit ends the attempt with verdict `timeout`."""

    connect: float = 5.0
    first_token: float = 60.0
    between_tokens: float = 30.0
    total: float = 600.0


class Limits(msgspec.Struct, frozen=True):
    """How hard a rung may be driven.

    Attributes:
        concurrency: requests in flight at once.
        retries: retries per request after the first try.
        retry_budget_s: seconds all retries of one request may take, waiting included.
        context_tokens: longest prompt the model takes, None when unknown.
    """

    concurrency: int = 8
    retries: int = 2
    retry_budget_s: float = 30.0
    context_tokens: int | None = None


class LoadSettings(msgspec.Struct, frozen=True):
    """How an embedded model is loaded.

    Attributes:
        context: tokens that prompt and answer of one request may take together; None for what the model was trained
            for, at most 4,096.
        slots: requests that are worked on at once.
        threads: CPU threads; None for one a core.
        batch_tokens: prompt tokens evaluated at once.
        kv_type: of keys and values.
        flash_attention: needed for a quantised value cache.
        gpu_layers: layers that a GPU computes, where there is one.
        pooling: None for a model that does not embed.
        adapters: LoRA adapters by name, their files relative to `rung.toml`.
        start_s: seconds until a model that is not loaded is given up.
    """

    context: int | None = None
    slots: int = 2
    threads: int | None = None
    batch_tokens: int = 512
    kv_type: KvType = KvType.F16
    flash_attention: FlashAttention = FlashAttention.AUTO
    gpu_layers: int = 0
    pooling: Pooling | None = None
    adapters: Mapping[str, str] = {}
    start_s: float = 120.0


class RungSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One rung as declared under `[rungs.NAME]`.

    Attributes:
        name: the table's name.
        engine: which engine runs it.
        model: student: folder of the artefact, `{task}` stands for the task's name; llama_cpp: path of a GGUF file,
            a reference that `rung.lock` pins, or `starter` for the built-in model; openai: the model's id.
        where: where it runs, for policy.
        accept: when its output becomes the answer.
        base_url: openai: address up to and including `/v1`.
        api_key_env: openai: environment variable that holds the key.
        recording: replay: the file of recorded answers.
        replays: replay: the rung that is recorded; its place and price apply.
        mode: replay: what to do with a call.
        temperature: decoding temperature.
        seed: decoding seed, sent where the server takes one.
        price: what it charges; None means free of charge.
        prompt: llama_cpp: how prompts are written.
        adapter: llama_cpp: which of the loaded adapters applies, None for none.
        load: llama_cpp: how the model is loaded.
    """

    name: str
    engine: EngineName
    model: str
    where: Place
    accept: Accept = Accept.CERTIFIED
    base_url: str | None = None
    api_key_env: str | None = None
    recording: str | None = None
    replays: str | None = None
    mode: ReplayMode = ReplayMode.REPLAY
    temperature: float = 0.0
    seed: int = 0
    price: Price | None = None
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    prompt: Form = Form.BARE
    adapter: str | None = None
    load: LoadSettings = LoadSettings()


class EmbeddedSettings(msgspec.Struct, frozen=True):
    """What all embedded models of a project share.

    Attributes:
        memory_mib: memory that loaded models may take together; None for most of what the machine has free.
        idle_s: seconds without a request after which a model is unloaded.
    """

    memory_mib: int | None = None
    idle_s: float = 300.0


class LedgerSettings(msgspec.Struct, frozen=True):
    """Where the ledger is and what it keeps.

    Attributes:
        url: SQLAlchemy address; a relative SQLite path is relative to `rung.toml`.
        store_text: keep prompt text in the review store; off, only its keyed digest is kept.
        retention_days: how long the review store keeps a text.
    """

    url: str = "sqlite:///rung.db"
    store_text: bool = False
    retention_days: int = 30


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of `rung.toml`.

    Attributes:
        root: the folder of `rung.toml`; relative paths start here.
        rungs: by name, in file order.
        ladders: ladder name to rung names, bottom first.
        frontier: price of a frontier model for estimates of what a batch would have cost there, None when not set.
        tasks_dir, certificates_dir: folders, relative to `root`.
        embedded: what all embedded models share.
    """

    root: Path
    rungs: Mapping[str, RungSettings]
    ladders: Mapping[str, tuple[str, ...]]
    policy: Policy = Policy()
    ledger: LedgerSettings = LedgerSettings()
    frontier: Price | None = None
    tasks_dir: str = "tasks"
    certificates_dir: str = "certificates"
    embedded: EmbeddedSettings = EmbeddedSettings()

    def ladder(self, name: str) -> tuple[RungSettings, ...]:
        """The rungs of ladder `name`, bottom first.

        Raises:
            KeyError: no such ladder; `settings` has checked the names that files mention.
        """
        return tuple(self.rungs[rung] for rung in self.ladders[name])

    def path(self, relative: str) -> Path:
        """`relative` as a path below the project's folder."""
        return self.root / relative


def to_nano(amount: str) -> int:
    """A decimal amount such as `"2.50"` in nano-units.

    Raises:
        ValueError: not a decimal number, negative, or finer than a nano-unit.
    """
    try:
        nano = Decimal(amount) * NANO
    except InvalidOperation as error:
        raise ValueError(f"{amount!r} is not a decimal amount") from error
    if not nano.is_finite() or nano < 0 or nano != nano.to_integral_value():
        raise ValueError(f"{amount!r} is not an amount of at most nine decimals")
    return int(nano)
