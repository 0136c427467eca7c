"""What a text would cost on a model that did not answer it: an estimate, and always called one."""

from __future__ import annotations

from rung.config import Price, RungSettings, Settings
from rung.prompts import messages
from rung.receipt import Usage
from rung.task import Kind, Task, Text

CHARACTERS_PER_TOKEN = 4
"""The usual rule for English text; other languages take more tokens."""

ANSWER_TOKENS = {
    Kind.CLASSIFY: 8,
    Kind.EXTRACT: 64,
    Kind.SUMMARIZE: 128,
    Kind.ANSWER: 128,
    Kind.CHAT: 256,
}
"""Output tokens assumed for an answer nobody has written yet."""


class CostEstimate:
    """Estimates of what texts of one task would cost on the top of its ladder alone.

    The top is the ladder's last rung when it has a price, else the `[frontier]` price of `rung.toml`.

    Args:
        settings: supplies prices.
        task: supplies the prompt around each text.
    """

    def __init__(self, settings: Settings, task: Task) -> None:
        self.price = top_price(settings, settings.ladder(task.ladder))
        around = sum(len(m.content) for m in messages(task, Text("")))
        self._around = around
        self._answer = ANSWER_TOKENS[task.kind]

    def cost(self, characters: int) -> int | None:
        """Nano-units for a text of so many characters, None when no price is known."""
        if self.price is None:
            return None
        tokens = -(-(self._around + characters) // CHARACTERS_PER_TOKEN)
        return self.price.cost(Usage(tokens, self._answer, estimated=True))


def top_price(settings: Settings, ladder: tuple[RungSettings, ...]) -> Price | None:
    """The price of the ladder's last rung, else the frontier price, else None."""
    if ladder and ladder[-1].price is not None:
        return ladder[-1].price
    return settings.frontier
