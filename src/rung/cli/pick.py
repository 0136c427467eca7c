"""`rung pick`: which models to try first for a task on a machine, and why."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from rung.cli.options import Number, Tokens, json_option
from rung.cli.picktext import describe, facts
from rung.errors import GateError, InputError
from rung.models.catalog.benchmarks import KINDS
from rung.models.catalog.candidates import Wishes, look_at
from rung.models.catalog.entries import Terms, catalog
from rung.models.catalog.ranking import rank
from rung.models.catalog.target import machine_with
from rung.models.hardware.detection import this_machine
from rung.models.hardware.machine import Machine
from rung.models.hardware.profiles import machine_named

_TERMS = {
    "permissive": (Terms.PERMISSIVE,),
    "commercial": (Terms.PERMISSIVE, Terms.CONDITIONAL),
    "any": tuple(Terms),
}
_MOST_RAM = 65_536


class Languages(click.ParamType[tuple[str, ...]]):
    """Two-letter language codes, parted by commas."""

    name = "codes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The codes in lower case, each once."""
        if isinstance(value, tuple):
            return value
        codes = [code.strip().lower() for code in str(value).split(",")]
        for code in codes:
            if not re.fullmatch("[a-z]{2}", code):
                self.fail(f"{code!r} is not a two-letter language code such as de", param, ctx)
        return tuple(dict.fromkeys(codes))


@click.command()
@click.option("--task", "kind", type=click.Choice(KINDS), required=True, help="Kind of task.")
@click.option(
    "--ram",
    type=Number(0.5, _MOST_RAM),
    metavar="GIB",
    help="A machine with so much memory and no graphics card, instead of this one.",
)
@click.option("--on", "profile", metavar="PROFILE", help="Another machine, such as rtx-4090.")
@click.option("--languages", type=Languages(), default=(), help="Such as de,ja.")
@click.option(
    "--context", type=Tokens(), default="4k", show_default=True, help="Tokens in all, such as 32k."
)
@click.option(
    "--licence",
    type=click.Choice(list(_TERMS)),
    default="any",
    show_default=True,
    help="permissive: MIT, Apache; commercial: also conditional terms.",
)
@click.option("--min-tps", type=Number(0), help="Least tokens a second, as estimated.")
@click.option("--all", "everything", is_flag=True, help="Show every model, and why others are out.")
@json_option
def command(
    kind: str,
    ram: float | None,
    profile: str | None,
    languages: tuple[str, ...],
    context: int,
    licence: str,
    min_tps: float | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Rank the models of the shipped catalogue for a kind of task on a machine.

    They are ranked by size, and by published results where one harness took both; the figures are not about your data.
    """
    machine = _machine(ram, profile)
    wishes = Wishes(
        context=context, languages=languages, terms=_TERMS[licence], tokens_per_s=min_tps
    )
    known = catalog()
    found, left_out = look_at(known.models, wishes, machine)
    ranked = rank(found, kind)
    if as_json:
        click.echo(msgspec.json.encode(facts(kind, known, machine, wishes, ranked, left_out)))
    else:
        click.echo(describe(kind, known, machine, wishes, ranked, left_out, everything=everything))
    if not ranked:
        raise GateError(
            f"none of the {len(known.models)} models in the catalogue will do",
            hint="ask for less context, a lower speed, fewer languages or another licence, or use a larger machine",
        )


def _machine(ram: float | None, profile: str | None) -> Machine:
    if ram is not None and profile is not None:
        raise InputError("--ram and --on both name a machine", hint="give one of them")
    if ram is not None:
        return machine_with(ram)
    return this_machine(measure=True) if profile is None else machine_named(profile)
