"""When a child may be started again, told as a story with a clock."""

from __future__ import annotations

from rung.engines.llama_cpp.breaker import Breaker
from rung.engines.llama_cpp.options import SupervisorOptions

OPTIONS = SupervisorOptions(
    backoff_s=1.0, backoff_most_s=20.0, crashes=4, window_s=60.0, open_s=5.0
)


def test_the_first_restart_is_at_once_and_the_next_ones_wait_longer() -> None:
    """Each pause doubles until the breaker takes over; an answer starts the count again."""
    breaker = Breaker(OPTIONS)
    breaker.crashed(0.0, "first")
    assert breaker.pause(0.0) == 0.0
    breaker.crashed(10.0, "second")
    assert breaker.pause(10.0) == 1.0
    assert breaker.pause(10.5) == 0.5
    breaker.crashed(20.0, "third")
    assert breaker.pause(20.0) == 2.0
    breaker.answered()
    assert breaker.pause(20.0) == 0.0
    assert breaker.refused_for(20.0) == 0.0


def test_crashes_in_a_window_open_the_breaker_though_answers_lie_between() -> None:
    """A child that answers and dies all the time is in a crash loop too; old crashes do not count."""
    breaker = Breaker(OPTIONS)
    for now in (0.0, 50.0, 100.0, 105.0):
        breaker.crashed(now, "again")
        breaker.answered()
    assert breaker.refused_for(105.0) == 0.0
    breaker.crashed(106.0, "once more")
    assert breaker.refused_for(106.0) == 5.0
    assert breaker.reason == "once more"


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    """A trial that works closes it."""
    breaker = Breaker(OPTIONS)
    breaker.failed_to_start(0.0, "no")
    assert breaker.refused_for(0.0) == 5.0
    assert breaker.refused_for(5.0) == 0.0
    breaker.crashed(5.0, "no")
    assert breaker.refused_for(5.0) == 10.0
    breaker.failed_to_start(15.0, "no")
    breaker.failed_to_start(35.0, "no")
    assert breaker.refused_for(35.0) == 20.0
    breaker.answered()
    breaker.crashed(60.0, "later")
    assert breaker.refused_for(60.0) == 0.0
