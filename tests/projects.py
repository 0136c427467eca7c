"""Small real projects for tests: files on disk, a student that can be trained in a second, labelled rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from rung.project import Project
from rung.training import train_student

LABELS = ("refund", "delivery", "login")

WORDS = {
    "refund": ("money back", "refund", "charged twice", "return payment", "wrong amount"),
    "delivery": ("parcel", "package late", "courier", "shipping", "delivery date"),
    "login": ("password", "log in", "account locked", "sign in", "reset code"),
}
FILLER = (
    "please",
    "today",
    "again",
    "help",
    "my",
    "the",
    "order",
    "since monday",
    "urgent",
    "thanks",
)

STUDENT = """
[rungs.student]
engine = "student"
model = "models/{task}"
where = "device"
accept = "certified"
"""


def openai_rung(
    name: str, url: str, *, where: str = "device", accept: str = "contract", more: str = ""
) -> str:
    """A rung on an OpenAI-compatible server."""
    return f"""
[rungs.{name}]
engine = "openai"
base_url = "{url}"
model = "tiny"
where = "{where}"
accept = "{accept}"
{more}
"""


def write_project(
    root: Path,
    rungs: str = STUDENT,
    ladder: Iterable[str] = ("student",),
    *,
    settings: str = "",
    privacy: str = "personal",
    task: str = "",
    store_text: bool = False,
) -> Path:
    """Write a project with the one task `triage`; returns the path of its rung.toml."""
    names = ", ".join(f'"{name}"' for name in ladder)
    (root / "tasks").mkdir(parents=True, exist_ok=True)
    (root / "rung.toml").write_text(
        f"""format = 1
{settings}
[ledger]
store_text = {str(store_text).lower()}
{rungs}
[ladders]
default = [{names}]
"""
    )
    labels = ", ".join(f'"{label}"' for label in LABELS)
    (root / "tasks" / "triage.toml").write_text(
        task
        or f"""format = 1
kind = "classify"
instructions = "What is the message about?"
privacy = "{privacy}"
labels = [{labels}]
[quality]
max_error = "10%"
"""
    )
    return root / "rung.toml"


def examples(rows: int, *, seed: int, noise: float = 0.0) -> list[tuple[str, str]]:
    """Distinct (text, label) pairs; with probability `noise` the label is one of the others."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < rows:
        label = draw.choice(LABELS)
        words = [
            *draw.sample(WORDS[label], 2),
            *draw.sample(FILLER, 4),
            str(draw.randrange(10_000)),
        ]
        draw.shuffle(words)
        said = draw.choice([x for x in LABELS if x != label]) if draw.random() < noise else label
        found[" ".join(words)] = said
    return list(found.items())


def write_suite(path: Path, rows: Iterable[tuple[str, str]], **columns: str) -> Path:
    """Write a suite as JSONL, with further columns the same on every row."""
    lines = [
        json.dumps({"id": f"r{n}", "input": text, "expected": label} | columns)
        for n, (text, label) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def train(config: Path, rows: int = 120, *, seed: int = 1) -> None:
    """Train the student of `triage`."""
    project = Project.open(config)
    train_student(project, project.task("triage"), lambda: examples(rows, seed=seed), processes=1)
