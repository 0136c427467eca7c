"""The rows between the oldest that is not written and the newest that was read: bounded, in input order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from rung.batch.reader import CHUNK_ROWS, Asked, Reject
from rung.receipt import Answer
from rung.rows.file import Position
from rung.task import Request

MOST_ROWS = 8 * CHUNK_ROWS
"""Rows in the window."""

MOST_CHARACTERS = 1 << 26
"""Characters of input in the window; a chunk is let in while it holds fewer."""


class Slot:
    """One row in the window: what is asked, then what came of it."""

    __slots__ = ("characters", "end", "outcome", "request", "row")

    def __init__(self, item: Asked | Reject, recorded: Answer | None) -> None:
        self.row: int = item.row
        self.end: Position = item.end
        self.request: Request | None = item.request if isinstance(item, Asked) else None
        self.characters: int = item.characters if isinstance(item, Asked) else 0
        self.outcome: Answer | Reject | None = recorded if isinstance(item, Asked) else item

    def settle(self, answer: Answer) -> None:
        """The answer is durable; the request is no longer needed."""
        self.outcome, self.request = answer, None


class Window:
    """Lets rows in at one end while there is room, and out at the other, in order, when they are settled.

    Args:
        recorded: answers that an earlier process recorded, by row; those rows need not be asked.
    """

    def __init__(self, recorded: Mapping[int, Answer]) -> None:
        self._recorded = dict(recorded)
        self._slots: deque[Slot] = deque()
        self._characters = 0

    @property
    def has_room(self) -> bool:
        """Whether another chunk may come in."""
        return len(self._slots) <= MOST_ROWS - CHUNK_ROWS and self._characters <= MOST_CHARACTERS

    def admit(self, items: Iterable[Asked | Reject]) -> list[Slot]:
        """Let rows in; those of them that are still to be asked."""
        slots = [Slot(item, self._recorded.pop(item.row, None)) for item in items]
        self._slots.extend(slots)
        self._characters += sum(slot.characters for slot in slots)
        return [slot for slot in slots if slot.outcome is None]

    def release(self, most: int) -> list[Slot]:
        """Let out the oldest rows, up to the first that is not settled and at most so many."""
        released: list[Slot] = []
        while self._slots and len(released) < most and self._slots[0].outcome is not None:
            slot = self._slots.popleft()
            self._characters -= slot.characters
            released.append(slot)
        return released
