"""Made-up suites, and training on them."""

from __future__ import annotations

import random
from pathlib import Path

from rung.engines.student.artifact import StudentArtifact
from rung.engines.student.spool import spooled
from rung.engines.student.training import TrainingSettings, train

LABELS = ("card", "loan", "transfer")
QUICK = TrainingSettings(epochs=30, batch=32)

_WORDS = {
    "card": ["card", "debit", "lost", "stolen", "arrive", "delivery", "pin", "chip", "contactless"],
    "loan": ["loan", "borrow", "interest", "rate", "mortgage", "repay", "instalment", "credit"],
    "transfer": ["transfer", "send", "money", "recipient", "pending", "account", "iban", "wire"],
}
_FILLER = ["please", "how", "do", "i", "my", "the", "when", "why", "is", "can", "you", "help"]

Examples = list[tuple[str, str]]


def make_examples(count: int, seed: int = 0) -> Examples:
    """`count` (text, label) rows, labels in turn, each text with two or three words of its label."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        words = rng.choices(_WORDS[label], k=rng.randint(2, 3)) + rng.choices(_FILLER, k=6)
        rng.shuffle(words)
        rows.append((" ".join(words) + f" {rng.randint(0, 9999)}?", label))
    return rows


def train_on(
    examples: Examples, scratch: Path, settings: TrainingSettings = QUICK
) -> StudentArtifact:
    """A student trained on these rows."""
    with spooled(lambda: examples, LABELS, scratch=scratch) as spool:
        return train(spool, settings)
