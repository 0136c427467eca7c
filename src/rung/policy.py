"""What may leave the machine: privacy labels against places, decided once per request, before anything runs.

Pure functions from values to values. The ladder asks once; routing, retries, escalation and logs all use the
answer and nothing else. What is not allowed by a rule is denied.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from rung.task import Privacy


class Place(enum.StrEnum):
    """Where a rung runs, from nearest to farthest."""

    DEVICE = "device"
    SITE = "site"
    REGION = "region"
    ANYWHERE = "anywhere"


DEFAULT_EGRESS = MappingProxyType(
    {
        Privacy.PUBLIC: frozenset(Place),
        Privacy.INTERNAL: frozenset({Place.DEVICE, Place.SITE}),
        Privacy.PERSONAL: frozenset({Place.DEVICE}),
        Privacy.SECRET: frozenset({Place.DEVICE}),
    }
)
"""What applies when `rung.toml` states no matrix: personal and secret texts stay on the device."""


class Policy(msgspec.Struct, frozen=True):
    """The egress matrix: for each label, the places its texts may be sent to. An absent label may go nowhere."""

    egress: Mapping[Privacy, frozenset[Place]] = msgspec.field(
        default_factory=lambda: DEFAULT_EGRESS
    )


class Refusal(msgspec.Struct, frozen=True):
    """One rung that policy took away, and why."""

    rung: str
    where: Place
    reason: str


class AllowedSet(msgspec.Struct, frozen=True):
    """The rungs one request may use, fixed before the first attempt.

    Attributes:
        label: the label that applied.
        rule: the matrix row that decided, for example `policy.egress.personal`.
        rungs: allowed rung names, in ladder order.
        refusals: the ladder's other rungs with the reason for each.
    """

    label: Privacy
    rule: str
    rungs: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def effective_label(task_label: Privacy, request_label: Privacy | None) -> Privacy:
    """The more guarded of the two: a request may raise its task's label, never lower it."""
    if request_label is None:
        return task_label
    return max(task_label, request_label, key=lambda label: label.rank)


def allowed_set(policy: Policy, label: Privacy, rungs: Iterable[tuple[str, Place]]) -> AllowedSet:
    """Decide which of a ladder's rungs a text with `label` may be sent to.

    Args:
        policy: the egress matrix.
        label: the label of the text, from `effective_label`.
        rungs: (name, place) pairs in ladder order.
    """
    places = policy.egress.get(label, frozenset())
    pairs = tuple(rungs)
    return AllowedSet(
        label=label,
        rule=f"policy.egress.{label.value}",
        rungs=tuple(name for name, place in pairs if place in places),
        refusals=tuple(
            Refusal(name, place, f"{label.value} may not go to {place.value}")
            for name, place in pairs
            if place not in places
        ),
    )
