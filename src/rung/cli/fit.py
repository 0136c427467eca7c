"""`rung fit`: whether a model fits a machine, what takes how much memory, and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from rung.cli.options import Tokens, json_option
from rung.models.fit.run import CACHE_TYPES, MOST_SLOTS, MOST_TOKENS

if TYPE_CHECKING:
    from rung.cli.fitmodel import Opened
    from rung.models.fit.estimate import Estimate
    from rung.models.fit.measured import Measured
    from rung.models.fit.remedies import Remedy
    from rung.models.fit.rules import Rules
    from rung.models.fit.run import Run
    from rung.models.fit.sweep import Row
    from rung.models.hardware.machine import Machine

_DOES_NOT_FIT = 1
_tokens = click.IntRange(min=1, max=MOST_TOKENS)
_kind = click.Choice(CACHE_TYPES, case_sensitive=False)


@click.command()
@click.argument("model", metavar="[MODEL]", required=False)
@click.option(
    "--ctx",
    type=Tokens(),
    help="Tokens over all slots, such as 8192 or 32k; without it up to 4,096 for each slot.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, MOST_SLOTS),
    help="Slots: requests at once, which split the context; 1, or what the engine of --rules opens.",
)
@click.option(
    "--unified/--split", default=None, help="Whether the slots share one cache instead; they split."
)
@click.option("--kv-type", type=_kind, help="Type of cached keys and values; f16 without it.")
@click.option("--kv-type-k", type=_kind, help="Type of keys alone.")
@click.option("--kv-type-v", type=_kind, help="Type of values alone.")
@click.option(
    "--flash-attn", type=click.Choice(("on", "off")), default="on", help="Flash attention; on."
)
@click.option("--ubatch", type=_tokens, default=512, help="Prompt tokens at once; 512.")
@click.option(
    "--gpu-layers",
    type=click.IntRange(min=0, max=MOST_TOKENS),
    help="Layers on the card; without it as many as it holds.",
)
@click.option("--cpu-moe", is_flag=True, help="Keep experts in the host's memory.")
@click.option(
    "--on",
    "profile",
    multiple=True,
    help="Another machine than this one; --profiles lists them.",
)
@click.option(
    "--rules",
    "rule_set",
    help="Engine whose arithmetic holds, such as llama.cpp, ollama or lm-studio; a wrong one lists all.",
)
@click.option("--sweep", "swept", is_flag=True, help="Try contexts and slots, as a table.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Draw memory by context into a file, .svg or .html.",
)
@click.option("--profiles", is_flag=True, help="List the machines that --on knows.")
@click.option(
    "--local", is_flag=True, help="List the models that other programs keep on this machine."
)
@json_option
def command(
    model: str | None,
    profile: tuple[str, ...],
    rule_set: str | None,
    swept: bool,
    plot: Path | None,
    profiles: bool,
    local: bool,
    as_json: bool,
    **how: int | str | bool | None,
) -> int:
    """Say whether MODEL fits a machine, what takes how much memory, and what would help.

    MODEL is a GGUF file, `starter`, or a reference such as hf:Qwen/Qwen3-4B-GGUF:Q4_K_M, of which only the header is
    read. Exit code 0: it fits, tightly or with layers on the host included; 1: it does not.
    """
    if (profiles or local) and model is not None:
        what = "--profiles lists machines" if profiles else "--local lists models"
        raise click.UsageError(f"{what} and takes no model, not {model!r}")
    if profiles:
        _list_machines(as_json=as_json)
        return 0
    if local:
        _list_models(as_json=as_json)
        return 0
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    if len(profile) > 1 or any("," in name for name in profile):
        raise click.UsageError("--on takes one machine; ask once for each")
    if plot is not None:
        from rung.cli.fitplot import check_plot

        check_plot(plot)
    return _fit(model, how, next(iter(profile), None), rule_set, _Show(swept, plot, as_json))


class _Show(msgspec.Struct, frozen=True):
    """What is to be shown, and how."""

    sweep: bool
    plot: Path | None
    as_json: bool


def _fit(
    name: str, how: Mapping[str, object], profile: str | None, rule_set: str | None, show: _Show
) -> int:
    from rung.cli.fitmodel import smaller_models
    from rung.cli.fitopening import open_model
    from rung.cli.fitrun import Asked, measured_here, run_of
    from rung.models.fit.estimate import estimate
    from rung.models.fit.remedies import remedies
    from rung.models.fit.rules import EMBEDDED, rules
    from rung.models.fit.verdict import Verdict

    machine, chosen = _machine(profile), rules(rule_set)
    opened = open_model(name)
    served = None if rule_set in (None, *EMBEDDED) else chosen
    run = run_of(msgspec.convert(how, Asked), opened, machine, served)
    measured, reserve = measured_here(opened, run, machine, rule_set)
    answer = estimate(opened.model, run, machine, rules=chosen, measured=measured, reserve=reserve)
    helping = remedies(
        opened.model,
        run,
        machine,
        quants=opened.quants,
        others=() if answer.verdict is Verdict.FITS else smaller_models(opened.model),
        rules=chosen,
        measured=measured,
        reserve=reserve,
    )
    rows = _rows(opened, run, machine, chosen, show, measured, reserve)
    if show.as_json:
        from rung.cli.fitfacts import facts

        found = facts(name, answer, machine, helping, rows, opened, show.plot)
        click.echo(msgspec.json.encode(found))
    else:
        _print(answer, machine, helping, rows, opened, show.plot)
    return _DOES_NOT_FIT if answer.verdict is Verdict.NO else 0


def _machine(profile: str | None) -> Machine:
    if profile is None:
        from rung.models.hardware.detection import this_machine

        return this_machine(measure=True)
    from rung.models.hardware.profiles import machine_named

    return machine_named(profile)


def _rows(
    opened: Opened,
    run: Run,
    machine: Machine,
    chosen: Rules,
    show: _Show,
    measured: Measured | None,
    reserve: int | None,
) -> tuple[Row, ...]:
    """The table of contexts and slots where it is asked for; what is drawn has everything on the card."""
    if not show.sweep and show.plot is None:
        return ()
    from rung.models.fit.placement import offloadable
    from rung.models.fit.sweep import SLOTS, contexts_of, sweep

    def tried(
        how: Run, contexts: tuple[int, ...] | None = None, slots: tuple[int, ...] | None = None
    ) -> tuple[Row, ...]:
        return sweep(
            opened.model,
            how,
            machine,
            contexts=contexts,
            slots=slots,
            rules=chosen,
            measured=measured,
            reserve=reserve,
        )

    if show.plot is not None:
        from rung.cli.fitplot import write_plot

        layers = offloadable(opened.model) if run.gpu_layers is None else run.gpu_layers
        whole = msgspec.structs.replace(run, gpu_layers=layers)
        usual = contexts_of(opened.model.shape.context_length)
        write_plot(show.plot, tried(whole, usual, SLOTS))
    return tried(run) if show.sweep else ()


def _print(
    answer: Estimate,
    machine: Machine,
    helping: tuple[Remedy, ...],
    rows: tuple[Row, ...],
    opened: Opened,
    plot: Path | None,
) -> None:
    from rung.cli.fittext import described, table

    click.echo(described(answer, machine, helping, opened.evidence, opened.beside))
    if rows:
        click.echo(f"\n{table(rows)}")
    if plot is not None:
        click.echo(f"\nplot  {plot}")


def _list_models(*, as_json: bool) -> None:
    from rung.cli.modeltext import size
    from rung.models.sources.local import local_models

    models = local_models()
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "models": models}, enc_hook=str))
        return
    for model in models:
        click.echo(f"{model.reference:<60}{size(model.size):>10}   {model.store}")
    if not models:
        click.echo("the Hugging Face cache, Ollama and LM Studio hold no model on this machine")


def _list_machines(*, as_json: bool) -> None:
    from rung.cli.fittext import memory
    from rung.models.hardware.profiles import machine_named, profile_names

    machines = [machine_named(name) for name in profile_names()]
    if as_json:
        click.echo(msgspec.json.encode({"format": 1, "machines": machines}))
        return
    for machine in machines:
        for device in machine.devices:
            rate = f"{(device.bandwidth or 0) / 1e9:,.0f} GB/s"
            free = f"{memory(device.available)} of {memory(device.total)}"
            click.echo(f"{machine.name:<26}{device.name:<26}{free:<26}{rate:>10}")
        for note in machine.notes:
            click.echo(f"  {note}")
