"""What a text would cost on a model that did not answer it: an estimate, and always called one."""

from __future__ import annotations

from rung.config import Price, Settings
from rung.prompts import messages
from rung.receipt import Usage
from rung.task import Kind, Task, Text

CHARACTERS_PER_TOKEN = 4
"""The usual rule for English text; other languages take more tokens."""

ANSWER_TOKENS = {
    Kind.CLASSIFY: 8,
    Kind.EXTRACT: 64,
    Kind.CALL: 64,
    Kind.SUMMARIZE: 128,
    Kind.ANSWER: 128,
    Kind.CHAT: 256,
}
"""Output tokens assumed for an answer nobody has written yet."""


class CostEstimate:
    """Estimates of what texts of one task would cost at one price.

    Args:
        price: what is charged; None when it is not known, and then every estimate is None.
        task: supplies the prompt around each text.
    """

    def __init__(self, price: Price | None, task: Task) -> None:
        self.price = price
        self._around = sum(len(m.content) for m in messages(task, Text("")))
        self._answer = ANSWER_TOKENS[task.kind]

    @classmethod
    def on_top(cls, settings: Settings, task: Task) -> CostEstimate:
        """At the price of the ladder's last rung, else of the `[frontier]` of `rung.toml`."""
        ladder = settings.ladder(task.ladder)
        own = ladder[-1].price if ladder else None
        return cls(own if own is not None else settings.frontier, task)

    def cost(self, characters: int) -> int | None:
        """Nano-units for a text of so many characters, None when no price is known."""
        if self.price is None:
            return None
        tokens = -(-(self._around + characters) // CHARACTERS_PER_TOKEN)
        return self.price.cost(Usage(tokens, self._answer, estimated=True))
