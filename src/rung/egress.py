"""The one gate that every text passes on its way to an engine: checked against policy, and noted before it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from rung.config import RungSettings
from rung.errors import PolicyError
from rung.ids import new_id, now
from rung.ledger.digest import KeyedDigest
from rung.ledger.record import Egress
from rung.ledger.writer import Ledger
from rung.policy import AllowedSet, Place
from rung.task import Request, Task


class EgressGate:
    """Lets texts through to the rungs that policy allows, and records each that leaves this device.

    Args:
        ledger: where departures are recorded, durably, before they happen.
        digest: names a text without telling it.
    """

    def __init__(self, ledger: Ledger, digest: KeyedDigest) -> None:
        self._ledger = ledger
        self._digest = digest

    async def check(
        self,
        rung: RungSettings,
        task: Task,
        allowed: AllowedSet,
        requests: Sequence[Request],
        receipts: Sequence[str],
    ) -> None:
        """Return when these requests may be sent to `rung`; nothing may be sent otherwise.

        Args:
            rung: where they would go.
            task: what is asked.
            allowed: what policy decided for them.
            requests: the texts.
            receipts: the receipt id each departure belongs to; a calibration run's id for its rows.

        Raises:
            PolicyError: the rung is not in the allowed set.
            StorageError: the departure could not be made durable.
        """
        if rung.name not in allowed.rungs:
            raise PolicyError(
                f"rung {rung.name!r} may not see {allowed.label.value} text ({allowed.rule})"
            )
        if rung.where is Place.DEVICE:
            return
        host = urlsplit(rung.base_url or "").netloc
        created = now()
        await self._ledger.append(
            [
                Egress(
                    id=new_id(),
                    created=created,
                    receipt=receipt,
                    task=task.name,
                    rung=rung.name,
                    where=rung.where.value,
                    host=host,
                    label=allowed.label.value,
                    rule=allowed.rule,
                    input_digest=self._digest(request.text),
                )
                for request, receipt in zip(requests, receipts, strict=True)
            ]
        )
