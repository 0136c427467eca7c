"""The program that renders one chat template: a short-lived process, because a template comes with a model file.

A hostile template can overflow the stack or fill the memory of whoever renders it, fuel or not. This process reads
one job on stdin, writes one result on stdout and knows nothing else; `template` starts it and reads what it says.
"""

from __future__ import annotations

import resource
import sys

import msgspec

from rung.models.chat_templates import environment, plain

MOST_BYTES = 1024 * 1024
"""Longest rendered prompt, contents left out."""

_FUEL = 2_000_000
_MEMORY = 384 * 1024 * 1024
_CPU_S = 5


class Job(msgspec.Struct, frozen=True):
    """What is to be rendered.

    Attributes:
        template: Jinja source.
        messages: role and content of each turn.
        bos, eos: texts of the model's tokens of those names.
    """

    template: str
    messages: tuple[tuple[str, str], ...]
    bos: str = ""
    eos: str = ""


class Rendered(msgspec.Struct, frozen=True):
    """The text, or in one line why there is none."""

    text: str = ""
    problem: str | None = None


def render(job: Job) -> Rendered:
    """Render a template the way model files expect it; the model is asked to answer without thinking first."""
    from minijinja import TemplateError  # noqa: PLC0415

    said: list[str] = []
    try:
        text = environment(_FUEL, said).render_str(
            plain(job.template),
            messages=[{"role": role, "content": content} for role, content in job.messages],
            add_generation_prompt=True,
            enable_thinking=False,
            bos_token=job.bos,
            eos_token=job.eos,
        )
    # Templates call methods of Python's own texts and lists, which raise what they always raise.
    except (TemplateError, ValueError, AttributeError, TypeError, MemoryError) as error:
        lines = (said[0] if said else str(error)).strip().splitlines() or [type(error).__name__]
        return Rendered(problem=lines[0][:200])
    if len(text) > MOST_BYTES:
        return Rendered(problem=f"it renders to {len(text):,} characters")
    return Rendered(text)


def main() -> None:
    """Render the job on stdin under limits that end this process and no other."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(render(job)))


if __name__ == "__main__":
    main()
