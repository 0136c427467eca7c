"""Reading `rung.toml`: find it, check it, and turn every mistake into a sentence with its line.

The keys and their types are in `settings_shape`; here is what one setting asks of another. What valid settings are
used for is in `config`. No environment variable is read and nothing is connected.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from rung.config import (
    STARTER,
    Accept,
    EmbeddedSettings,
    EngineName,
    FlashAttention,
    KvType,
    LedgerSettings,
    Limits,
    LoadSettings,
    Price,
    RungSettings,
    Settings,
    Timeouts,
)
from rung.errors import ConfigError, InternalError
from rung.policy import Place, Policy
from rung.prompts import Form
from rung.userfiles.address import address_problem, is_loopback
from rung.userfiles.document import (
    Document,
    Key,
    Mistakes,
    did_you_mean,
    one_of,
    read_document,
    shown_key,
    shown_path,
    shown_value,
    stays_below,
)
from rung.userfiles.settings_shape import (
    LoadTable,
    PriceTable,
    PromptForm,
    RungTable,
    SettingsFile,
)
from rung.userfiles.shape import read_table
from rung.userfiles.values import money

FILE_NAME = "rung.toml"

SECRET_KEYS = frozenset(
    {"api_key", "apikey", "key", "secret", "token", "password", "api_token", "access_token", "auth"}
)
"""Keys that would hold a secret in a file that is meant to be shared; refused without showing the value."""

EMBEDDED = ("prompt", "adapter", "load")
"""Keys of embedded models."""

NEEDED: dict[EngineName, tuple[str, ...]] = {
    EngineName.STUDENT: ("model",),
    EngineName.LLAMA_CPP: ("model",),
    EngineName.OPENAI: ("model", "where", "base_url"),
    EngineName.REPLAY: ("recording", "replays"),
}
"""Keys a rung must have, by its engine."""

NOT_FOR: dict[EngineName, tuple[str, ...]] = {
    EngineName.STUDENT: ("base_url", "api_key_env", "recording", "replays", *EMBEDDED),
    EngineName.LLAMA_CPP: ("base_url", "api_key_env", "recording", "replays"),
    EngineName.OPENAI: ("recording", "replays", *EMBEDDED),
    EngineName.REPLAY: ("model", "base_url", "api_key_env", "price", *EMBEDDED),
}
"""Keys that do nothing for an engine, and so are mistakes."""


def find_settings(start: Path | None = None) -> Path:
    """The nearest `rung.toml` in `start` (the current folder when None) or a folder above it.

    Raises:
        ConfigError: there is none.
    """
    folder = (start or Path.cwd()).absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    raise ConfigError(
        f"no {FILE_NAME} in {str(folder)!r} or any folder above it",
        hint="rung init writes a starting project; --config names a file elsewhere",
    )


def load_settings(path: Path | None = None) -> Settings:
    """The settings in the file at `path`, in `path/rung.toml` for a folder, or in the nearest `rung.toml` upwards.

    Raises:
        ConfigError: there is none, or it is wrong; every mistake of the file with its line.
    """
    path = find_settings() if path is None else path
    path = path / FILE_NAME if path.is_dir() else path
    document = read_document(path)
    mistakes = Mistakes(document)
    _refuse_secrets(document, mistakes)
    file = read_table(SettingsFile, document.data, (), mistakes)
    settings = _Settings(file, document, mistakes).build() if file is not None else None
    mistakes.raise_any()
    if settings is None:
        raise InternalError(f"{path}: not readable, yet nothing is wrong with it")
    return settings


class _Settings:
    """The cross-checks of one file, and the settings made of it."""

    def __init__(self, file: SettingsFile, document: Document, mistakes: Mistakes) -> None:
        self._file = file
        self._root = document.path.absolute().parent
        self._mistakes = mistakes
        rungs = document.data.get("rungs")
        self._declared = tuple(rungs) if isinstance(rungs, Mapping) else ()

    def build(self) -> Settings:
        """The settings; worth using only when no mistake was noted."""
        file = self._file
        self._check_ladders()
        rungs = {
            name: rung
            for name, table in file.rungs.items()
            if (rung := self._rung(name, table)) is not None
        }
        frontier = self._price(file.frontier, ("frontier",))
        self._check_currencies(rungs, frontier)
        for key in ("tasks_dir", "certificates_dir"):
            self._check_below((key,), getattr(file, key))
        return Settings(
            root=self._root,
            rungs=rungs,
            ladders=file.ladders,
            policy=_policy(file),
            ledger=LedgerSettings(
                url=file.ledger.url,
                store_text=file.ledger.store_text,
                retention_days=file.ledger.retention_days,
            ),
            frontier=frontier,
            tasks_dir=file.tasks_dir,
            certificates_dir=file.certificates_dir,
            embedded=EmbeddedSettings(
                memory_mib=file.embedded.memory_mib, idle_s=file.embedded.idle_s
            ),
        )

    def _check_ladders(self) -> None:
        for ladder, rungs in self._file.ladders.items():
            for index, name in enumerate(rungs):
                at = ("ladders", ladder, index)
                if name not in self._declared:
                    self._mistakes.add(
                        at,
                        f"ladders.{ladder} names {name!r}, which is no rung"
                        + (did_you_mean(name, self._declared) or _declared_here(self._declared)),
                    )
                elif name in rungs[:index]:
                    self._mistakes.add(at, f"ladders.{ladder} names {name!r} twice")
            self._check_order(ladder, [name for name in rungs if name in self._declared])

    def _check_order(self, ladder: str, rungs: Sequence[str]) -> None:
        """A rung that answers by contract ends the climb of what it answers: none above it can be certified."""
        tables = [self._file.rungs.get(name) for name in rungs]
        accepts = [table.accept if table is not None else None for table in tables]
        for index, name in enumerate(rungs):
            below = accepts[:index]
            if accepts[index] is Accept.CERTIFIED and Accept.CONTRACT in below:
                other = rungs[below.index(Accept.CONTRACT)]
                self._mistakes.add(
                    ("ladders", ladder, index),
                    f"ladders.{ladder}: {name!r} cannot be certified above {other!r}, which answers by contract; "
                    f"put it below, or give it accept = 'contract'",
                )

    def _rung(self, name: str, table: RungTable) -> RungSettings | None:
        """One rung, None when it is not sound enough to go on with."""
        at = ("rungs", name)
        for key in NOT_FOR[table.engine]:
            if getattr(table, key) is not None:
                self._mistakes.add(
                    (*at, key),
                    f"rungs.{name}.{key} does nothing for engine {table.engine.value!r}; remove it",
                )
        missing = [key for key in NEEDED[table.engine] if getattr(table, key) is None]
        for key in missing:
            said = f"rungs.{name}.{key} is missing: engine {table.engine.value!r} needs it"
            self._mistakes.add_missing(at, (*at, key), said)
        if missing:
            return None
        if table.engine is EngineName.REPLAY:
            return self._replay(name, table)
        match table.engine:
            case EngineName.STUDENT:
                self._check_student(name, table)
            case EngineName.LLAMA_CPP:
                self._check_embedded(name, table)
            case _:
                self._check_address(name, table)
        return self._settled(
            name,
            table,
            model=table.model or "",
            where=table.where or Place.DEVICE,
            price=self._price(table.price, (*at, "price")),
        )

    def _replay(self, name: str, table: RungTable) -> RungSettings | None:
        """A replay rung: its model, place and price are those of the rung it replays."""
        at = ("rungs", name)
        self._check_below((*at, "recording"), table.recording or "")
        target = self._file.rungs.get(table.replays or "")
        if target is None or target.engine is EngineName.REPLAY:
            if table.replays not in self._declared:
                others = [rung for rung in self._declared if rung != name]
                self._mistakes.add(
                    (*at, "replays"),
                    f"rungs.{name}.replays names {table.replays!r}, which is no rung"
                    + (did_you_mean(table.replays, others) or _declared_here(others)),
                )
            elif target is not None:
                self._mistakes.add(
                    (*at, "replays"),
                    f"rungs.{name}.replays names {table.replays!r}, which is a replay itself",
                )
            return None
        where = target.where or Place.DEVICE
        if table.where not in (None, where):
            self._mistakes.add(
                (*at, "where"),
                f"rungs.{name}.where is {table.where!s}, but {table.replays!r}, which it replays, "
                f"runs at {where.value!r}; remove it",
            )
        price = self._price(target.price, ("rungs", table.replays or "", "price"))
        return self._settled(name, table, model=target.model or "", where=where, price=price)

    def _settled(
        self, name: str, table: RungTable, *, model: str, where: Place, price: Price | None
    ) -> RungSettings:
        limits, timeouts = table.limits, table.timeouts
        return RungSettings(
            name=name,
            engine=table.engine,
            model=model,
            where=where,
            accept=table.accept,
            base_url=table.base_url,
            api_key_env=table.api_key_env,
            recording=table.recording,
            replays=table.replays,
            mode=table.mode,
            temperature=table.temperature,
            seed=table.seed,
            price=price,
            timeouts=Timeouts(
                connect=timeouts.connect,
                first_token=timeouts.first_token,
                between_tokens=timeouts.between_tokens,
                total=timeouts.total,
            ),
            limits=Limits(
                concurrency=limits.concurrency or _usual_concurrency(table),
                retries=limits.retries,
                retry_budget_s=limits.retry_budget_s,
                context_tokens=limits.context_tokens,
            ),
            prompt=_prompt_form(table),
            adapter=table.adapter,
            load=_load_settings(table.load),
        )

    def _check_on_device(self, name: str, table: RungTable, why: str) -> None:
        if table.where not in (None, Place.DEVICE):
            self._mistakes.add(
                ("rungs", name, "where"),
                f"rungs.{name}.where must be 'device', not {table.where.value!r}: {why}",
            )

    def _check_embedded(self, name: str, table: RungTable) -> None:
        """An embedded model: its adapters are below this folder and named, its cache can be had."""
        at = ("rungs", name)
        self._check_on_device(name, table, "an embedded model runs on this machine")
        load = table.load or LoadTable()
        for adapter, path in load.adapters.items():
            self._check_below((*at, "load", "adapters", adapter), path)
        if table.adapter is not None and table.adapter not in load.adapters:
            self._mistakes.add(
                (*at, "adapter"),
                f"rungs.{name}.adapter names {table.adapter!r}, which is not in rungs.{name}.load.adapters"
                + (
                    did_you_mean(table.adapter, list(load.adapters))
                    or _declared_here(list(load.adapters))
                ),
            )
        if load.kv_type is not KvType.F16 and load.flash_attention is FlashAttention.OFF:
            self._mistakes.add(
                (*at, "load", "kv_type"),
                f"rungs.{name}.load.kv_type {load.kv_type.value!r} needs flash attention; "
                "take flash_attention = 'off' out, or use 'f16'",
            )

    def _check_student(self, name: str, table: RungTable) -> None:
        at = ("rungs", name)
        self._check_on_device(name, table, "a student runs in this process")
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(table.model or "")}
        except ValueError:
            fields = {"{"}
        if not table.model or fields - {None, "task"}:
            self._mistakes.add(
                (*at, "model"),
                f"rungs.{name}.model must be a folder in which only {{task}} stands for something, "
                f"not {shown_value(table.model)}",
            )

    def _check_address(self, name: str, table: RungTable) -> None:
        """Refuse an address that would send texts farther, or more openly, than the settings say."""
        at = ("rungs", name, "base_url")
        key = shown_key(at)
        problem = address_problem(table.base_url or "")
        if problem is not None:
            self._mistakes.add(at, f"{key} {problem}")
            return
        address = urlsplit(table.base_url or "")
        host = address.hostname or ""
        if is_loopback(host):
            return
        if table.where is Place.DEVICE:
            self._mistakes.add(
                at,
                f"{key} is on {host!r}, but rungs.{name}.where says 'device': texts that may not leave "
                "this device would be sent there; use a loopback address, or say 'site', 'region' or 'anywhere'",
            )
        elif address.scheme == "http" and table.where is not Place.SITE:
            self._mistakes.add(
                at,
                f"{key} sends texts unencrypted to {host!r}: use https:// "
                '(http:// is for loopback addresses and for where = "site")',
            )

    def _price(self, table: PriceTable | None, at: Key) -> Price | None:
        if table is None:
            return None
        return Price(
            input_per_million=self._money(table.input_per_million, (*at, "input_per_million")),
            output_per_million=self._money(table.output_per_million, (*at, "output_per_million")),
            currency=table.currency,
            date=table.date.isoformat() if table.date else "",
        )

    def _money(self, amount: str | float, at: Key) -> int:
        try:
            return money(amount)
        except ValueError as error:
            self._mistakes.add(at, f"{shown_key(at)}: {error}")
            return 0

    def _check_currencies(self, rungs: Mapping[str, RungSettings], frontier: Price | None) -> None:
        """One currency a file: costs are added up and compared, and Rung knows no exchange rates."""
        prices: list[tuple[Key, Price]] = [
            (("rungs", name, "price", "currency"), rung.price)
            for name, rung in rungs.items()
            if rung.price is not None and rung.engine is not EngineName.REPLAY
        ]
        if frontier is not None:
            prices.append((("frontier", "currency"), frontier))
        for at, price in prices[1:]:
            first_at, first = prices[0]
            if price.currency != first.currency:
                self._mistakes.add(
                    at,
                    f"{shown_key(at)} is {price.currency!r}, but {shown_key(first_at)} is "
                    f"{first.currency!r}: use one currency",
                )

    def _check_below(self, at: Key, relative: str) -> None:
        if not stays_below(self._root, relative):
            self._mistakes.add(
                at,
                f"{shown_key(at)} must stay below the folder of {FILE_NAME}, "
                f"not {shown_value(relative)}",
            )


def _usual_concurrency(table: RungTable) -> int:
    """An embedded model works on as many requests as it has slots; more would only wait, and be timed for it."""
    if table.engine is EngineName.LLAMA_CPP:
        return _load_settings(table.load).slots
    return Limits().concurrency


def _prompt_form(table: RungTable) -> Form:
    """The form as written; left out, the one that the model was trained on as far as that is known."""
    built_in = table.engine is EngineName.LLAMA_CPP and table.model == STARTER
    asked = table.prompt or (PromptForm.SHORT if built_in else PromptForm.FULL)
    return Form.SHORT if asked is PromptForm.SHORT else Form.BARE


def _load_settings(table: LoadTable | None) -> LoadSettings:
    return (
        LoadSettings()
        if table is None
        else msgspec.convert(msgspec.to_builtins(table), LoadSettings)
    )


def _policy(file: SettingsFile) -> Policy:
    """The egress matrix as written, or the default one when the file has none."""
    if file.policy.egress is None:
        return Policy()
    return Policy({label: frozenset(places) for label, places in file.policy.egress.items()})


def _refuse_secrets(document: Document, mistakes: Mistakes) -> None:
    """Note keys that would hold a secret, without their values, and drop them from what is checked further."""
    rungs = document.data.get("rungs")
    for name, table in rungs.items() if isinstance(rungs, dict) else ():
        if not isinstance(table, dict):
            continue
        for key in [key for key in table if key.lower().replace("-", "_") in SECRET_KEYS]:
            del table[key]
            mistakes.add(
                ("rungs", name, key),
                f"rungs.{name}.{key} would keep a secret in {shown_path(document.path)}; "
                'put it in an environment variable and name that with api_key_env = "NAME"',
            )


def _declared_here(names: tuple[str, ...] | list[str]) -> str:
    return f"; declared: {one_of(names)}" if names else "; none is declared"
