"""`rung quantize`: a smaller copy of a model, without a compiler."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
import msgspec

from rung.cli.modeltext import byte_progress, size
from rung.cli.options import json_option
from rung.models.filetypes import FileType
from rung.models.quantize import Fallback, Quantized, quantize
from rung.quantities import counted

_file = click.Path(path_type=Path)


@click.command()
@click.argument("source", metavar="IN", type=_file)
@click.argument("output", metavar="OUT", type=_file)
@click.argument(
    "kind",
    metavar="TYPE",
    type=click.Choice([member.name for member in FileType], case_sensitive=False),
)
@click.option("--force", is_flag=True, help="Replace OUT when it is there.")
@click.option(
    "--threads", type=click.IntRange(min=1, max=256), help="CPU threads; default all of them."
)
@json_option
def command(
    source: Path, output: Path, kind: str, force: bool, threads: int | None, as_json: bool
) -> None:
    """Write a smaller copy of IN, a dense model as GGUF in F32, F16 or BF16, to OUT.

    TYPE, from largest to smallest: Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S, Q3_K_L, Q3_K_M, Q3_K_S.
    The copy is the one that llama-quantize makes, byte for byte. OUT appears when it is whole.
    """
    with _clean_end(), byte_progress(source.name, quiet=as_json) as progress:
        done = quantize(
            source,
            output,
            FileType[kind],
            threads=threads or _cores(),
            replace=force,
            progress=progress,
        )
    for line in _warnings(done.fallbacks):
        click.echo(f"warning: {line}", err=True)
    click.echo(msgspec.json.encode(_facts(done)) if as_json else describe(done))


def describe(done: Quantized) -> str:
    """What was written, in two lines."""
    types = " · ".join(f"{name} {number}" for name, number in done.tensors.items())
    return "\n".join(
        [
            f"{done.file_type:<10}{size(done.source_bytes)} → {size(done.output_bytes)}"
            f"   {done.bits_per_weight:.2f} bits a weight   {done.parameters / 1e6:,.1f} M weights"
            f"   {done.seconds:.1f} s",
            f"tensors   {types}",
        ]
    )


def _facts(done: Quantized) -> dict[str, object]:
    return {"format": 1} | msgspec.structs.asdict(done)


def _warnings(fallbacks: tuple[Fallback, ...]) -> Iterator[str]:
    """One line for each kind of replacement."""
    kinds: dict[tuple[str, str, int], list[str]] = {}
    for item in fallbacks:
        kinds.setdefault((item.wanted, item.got, item.columns), []).append(item.tensor)
    for (wanted, got, columns), names in kinds.items():
        yield (
            f"{got} in place of {wanted} for {counted(len(names), 'tensor')} with rows of {columns:,}, "
            f"which do not divide into its blocks: {names[0]}{' …' if names[1:] else ''}"
        )


def _cores() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _clean_end() -> Iterator[None]:
    """Let SIGTERM unwind, so that the unfinished copy is removed."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
