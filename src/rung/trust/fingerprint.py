"""The fingerprint of a certified statement: a named digest for each thing that, changed, makes it untrue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rung.config import Accept
from rung.policy import AllowedSet
from rung.task import Task
from rung.trust.signals import SIGNALS_VERSION


class RungIdentity(msgspec.Struct, frozen=True):
    """What one certified rung's answers and confidences depend on.

    Attributes:
        rung: its name.
        engine: what its engine says of itself: model digest, build, decoding, prompt.
        calibrator: digest of its calibrator, `none` without one.
    """

    rung: str
    engine: Mapping[str, str]
    calibrator: str


def fingerprint(
    task: Task,
    allowed: AllowedSet,
    accepts: Mapping[str, Accept],
    identities: Sequence[RungIdentity],
) -> dict[str, str]:
    """Names to digests, for the certified rungs of one allowed set in climbing order.

    The thresholds of lower rungs are not named: they stand in the same statement. The certifying rows are not
    either: they are what was measured, not what runs.
    """
    named = {
        "task": task.digest,
        "signals": f"v{SIGNALS_VERSION}",
        "policy": f"{allowed.rule}={','.join(allowed.rungs)}",
        "accept": ",".join(f"{name}={accepts[name].value}" for name in allowed.rungs),
        "ladder": ",".join(identity.rung for identity in identities),
    }
    for identity in identities:
        named |= {f"{identity.rung}.{key}": value for key, value in sorted(identity.engine.items())}
        named[f"{identity.rung}.calibrator"] = identity.calibrator
    return named
