"""What is kept of routed rows."""

from __future__ import annotations

from rung.evals.report.aggregation import WORST, aggregate
from rung.evals.report.model import Confusion, ReportRow, RungPath


def row(number: int, **fields: object) -> ReportRow:
    """A row with the fields that matter to a test."""
    return ReportRow(row=number, **fields)  # type: ignore[arg-type]  # fields vary from test to test


def test_every_row_is_answered_or_held_back_and_judged_where_the_answer_is_known() -> None:
    """Counts of four rows: right, wrong, held back, and one without a known answer."""
    made = aggregate(
        [
            row(1, answer="a", expected="a", correct=True, rung="s", confidence=0.9, cost=3),
            row(2, answer="b", expected="a", correct=False, rung="s", confidence=0.8, cost=4),
            row(3, expected="a", correct=True, confidence=0.2),
            row(4, answer="b", rung="t", confidence=0.7),
        ]
    )
    assert (made.rows, made.answered, made.held_back, made.cost) == (4, 3, 1, 7)
    assert (made.known, made.known_answered, made.wrong) == (3, 2, 1)
    assert made.answered_by == (("s", 2), ("t", 1))
    assert made.curve.accepted.tolist() == [1, 2, 3]


def test_paths_tell_accepted_passed_up_and_held_back_apart() -> None:
    """A rung that policy forbids was not tried, and nothing was passed up to it."""
    made = aggregate(
        [
            row(1, rung="s", path=(("s", "accepted"),)),
            row(2, rung="t", path=(("s", "unsure"), ("t", "accepted"))),
            row(3, path=(("s", "unsure"), ("t", "forbidden"))),
            row(4, path=(("s", "unsure"), ("t", "timeout"))),
        ]
    )
    assert made.paths == (RungPath("s", 1, 2, 1), RungPath("t", 1, 0, 1))
    assert made.verdicts == (
        ("s", "unsure", 3),
        ("s", "accepted", 1),
        ("t", "accepted", 1),
        ("t", "forbidden", 1),
        ("t", "timeout", 1),
    )


def test_confusions_come_worst_first_with_an_example() -> None:
    """The text stands as the example where it may be shown, else the id, else nothing."""
    wrong = [
        row(1, answer="b", expected="a", correct=False, rung="s", text="why?", id="q1"),
        row(2, answer="b", expected="a", correct=False, rung="s"),
        row(3, answer={"x": 1}, expected={"x": 2}, correct=False, rung="s", id="q3"),
        row(4, answer="a", expected="a", correct=True, rung="s"),
    ]
    made = aggregate(wrong)
    assert made.confusions == (
        Confusion("a", "b", 2, 3, "why?"),
        Confusion('{"x":2}', '{"x":1}', 1, 1, "q3"),
    )
    assert made.confusions_left_out == 0


def test_confusions_beyond_the_worst_are_counted() -> None:
    """The table is short; what it leaves out is a number."""
    made = aggregate(
        row(n, answer="x" * 500, expected=f"{n}", correct=False, rung="s") for n in range(40)
    )
    assert len(made.confusions) == WORST
    assert made.confusions_left_out == 40 - WORST
    assert all(len(one.answered) < 200 for one in made.confusions)
