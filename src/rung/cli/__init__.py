"""The `rung` command: a table of verbs, each imported only when it runs.

`rung --help` and `rung --version` read the table and nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from rung.errors import RungError
from rung.version import __version__

VERBS: dict[str, str] = {
    "ask": "Answer one text and say why.",
    "batch": "Run a file of rows through a task, each exactly once.",
    "calibrate": "Certify thresholds on labelled examples, or plan how many are needed.",
    "doctor": "Check settings, engines, credentials, ledger and certificates.",
    "fit": "Say whether a model fits a machine, what it takes, and what would help.",
    "init": "Write a commented starting project.",
    "ledger": "Verify, show, count or export what was recorded.",
    "lock": "Pin model files that are already here, or export what is pinned.",
    "outdated": "Say which pinned models their publishers have changed, and what changed.",
    "pick": "Rank models for a task on a machine.",
    "pull": "Fetch a model, checked and pinned.",
    "quantize": "Write a smaller copy of a model.",
    "report": "Make a report of a batch that opens in any browser.",
    "review": "List or export what was not answered, and note what is done.",
    "run": "Ask a model file on this machine, and see how fast it answers.",
    "scan": "Say whether files are safe to load.",
    "schema": "Print the JSON Schema of task files or rung.toml.",
    "suite": "Check files of labelled examples.",
    "train": "Train the student of a task on labelled examples.",
    "verify": "Check that pinned models are what they were.",
}


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """End as `head` expects it when nobody reads on: quietly, with the exit code of SIGPIPE."""
    try:
        yield
    except BrokenPipeError:
        # What is still buffered has nowhere to go; Python would complain about it at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise SystemExit(141) from None


class _Verbs(click.Group):
    """A group that knows its verbs' names and help without importing them."""

    # Click's own `main`, around these two, would make a broken pipe exit code 1.

    def make_context(self, *words: Any, **settings: Any) -> click.Context:  # Any: passed on
        with _reader_may_leave():
            return super().make_context(*words, **settings)

    def invoke(self, ctx: click.Context) -> object:
        with _reader_may_leave():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"rung.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rung")
def root() -> None:
    """Match every LLM task to the smallest model that does it well."""


def main() -> None:
    """Run the command line; a deliberate error is one sentence and its exit code, never a traceback."""
    with _reader_may_leave():  # of error messages, too
        _run()


def _run() -> None:
    try:
        code = root(standalone_mode=False)
    except RungError as error:
        _complain(error.message, error.hint)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted", None)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, hint: str | None) -> None:
    """Print an error the way every command does."""
    click.echo(f"rung: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
