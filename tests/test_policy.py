"""Policy: deny by default, decided once, explained."""

from __future__ import annotations

import pytest

from rung.policy import AllowedSet, Place, Policy, Refusal, allowed_set, effective_label
from rung.task import Privacy

LADDER = [("student", Place.DEVICE), ("site", Place.SITE), ("cloud", Place.ANYWHERE)]


def test_personal_text_stays_on_the_device() -> None:
    """The default matrix lets personal text reach the device only, and says why for the rest."""
    assert allowed_set(Policy(), Privacy.PERSONAL, LADDER) == AllowedSet(
        label=Privacy.PERSONAL,
        rule="policy.egress.personal",
        rungs=("student",),
        refusals=(
            Refusal("site", Place.SITE, "personal may not go to site"),
            Refusal("cloud", Place.ANYWHERE, "personal may not go to anywhere"),
        ),
    )


def test_public_text_may_go_anywhere_by_default() -> None:
    """The default matrix allows public text on every rung, in ladder order."""
    assert allowed_set(Policy(), Privacy.PUBLIC, LADDER).rungs == ("student", "site", "cloud")


@pytest.mark.parametrize("label", list(Privacy))
def test_a_label_that_is_not_listed_may_go_nowhere(label: Privacy) -> None:
    """What no rule allows is denied, the device included."""
    assert allowed_set(Policy(egress={}), label, LADDER).rungs == ()


def test_a_request_can_raise_the_label() -> None:
    """The more guarded of the task's and the request's label applies."""
    assert effective_label(Privacy.INTERNAL, Privacy.SECRET) is Privacy.SECRET


def test_a_request_cannot_lower_the_label() -> None:
    """Calling a text public does not make it so."""
    assert effective_label(Privacy.PERSONAL, Privacy.PUBLIC) is Privacy.PERSONAL


def test_no_label_means_the_tasks() -> None:
    """A request that says nothing has its task's label."""
    assert effective_label(Privacy.PERSONAL, None) is Privacy.PERSONAL
