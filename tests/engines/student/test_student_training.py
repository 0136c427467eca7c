"""Training: what it promises about bytes, bits, memory and bad suites."""

from __future__ import annotations

import csv
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from student_examples import LABELS, QUICK, Examples, make_examples, train_on

from rung.engines.student import spool as spool_module
from rung.engines.student.artifact import StudentArtifact
from rung.engines.student.features import FeatureSettings
from rung.engines.student.spool import spooled
from rung.engines.student.training import (
    TrainingSettings,
    assign_folds,
    held_out,
    out_of_fold,
    train,
)
from rung.errors import StorageError, SuiteError, UserError


def _refused(examples: Examples, labels: tuple[str, ...], scratch: Path) -> str:
    with pytest.raises(UserError) as caught, spooled(lambda: examples, labels, scratch=scratch):
        pass
    assert not list(scratch.iterdir())
    return caught.value.message


def test_a_student_learns_what_is_there_to_learn(artifact: StudentArtifact) -> None:
    """On new texts of the same made-up kind, nearly every answer is right."""
    new = make_examples(300, seed=1)
    chosen = artifact.model().probabilities([text for text, _ in new]).argmax(axis=1)
    right = np.mean(
        [LABELS[number] == label for number, (_, label) in zip(chosen, new, strict=True)]
    )
    assert right > 0.98


def test_same_input_and_seed_give_the_same_bytes(
    artifact: StudentArtifact, examples: Examples, tmp_path: Path
) -> None:
    """Training again gives the same digest; another seed or order gives another."""
    assert train_on(examples, tmp_path).digest == artifact.digest
    assert train_on(examples[::-1], tmp_path).digest != artifact.digest
    other_seed = TrainingSettings(epochs=30, batch=32, seed=1)
    assert train_on(examples, tmp_path, other_seed).digest != artifact.digest


def test_another_process_gives_the_same_bytes(artifact: StudentArtifact, tmp_path: Path) -> None:
    """A fresh interpreter with its own hash seed arrives at the same digest."""
    script = (
        "from pathlib import Path; from student_examples import make_examples, train_on;"
        f"print(train_on(make_examples(300), Path({str(tmp_path)!r})).digest)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.stdout.strip() == artifact.digest


def test_a_texts_probabilities_are_the_same_bits_in_any_batch(
    artifact: StudentArtifact, examples: Examples
) -> None:
    """Alone, in a large batch, and in another order: exactly equal."""
    model = artifact.model()
    texts = [text for text, _ in examples] + ["", "long " * 3000]
    together = model.probabilities(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = model.probabilities([texts[number] for number in order])
    assert np.array_equal(shuffled, together[order])
    assert all(
        np.array_equal(model.probabilities([text])[0], row)
        for text, row in zip(texts, together, strict=True)
    )


def test_a_text_without_known_ngrams_gets_equal_probabilities(artifact: StudentArtifact) -> None:
    """Missing evidence is never confidence."""
    unknown = artifact.model().probabilities(["", "ЖЩ"])
    assert np.array_equal(unknown, np.full((2, 3), 1 / 3))


def test_out_of_fold_scores_are_the_same_from_two_processes(
    examples: Examples, tmp_path: Path
) -> None:
    """More processes change nothing in the result; every row is scored and mostly right."""
    with spooled(lambda: examples, LABELS, scratch=tmp_path) as spool:
        one = out_of_fold(spool, QUICK, folds=3)
        two = out_of_fold(spool, QUICK, folds=3, processes=2)
        assert np.array_equal(one, two)
        assert np.allclose(one.sum(axis=1), 1)
        assert np.mean(one.argmax(axis=1) == spool.index.targets) > 0.95
        in_sample = train(spool, QUICK).model().probabilities([text for text, _ in examples])
    assert in_sample.max(axis=1).mean() > one.max(axis=1).mean()


def test_folds_are_even_and_keep_equal_texts_together(tmp_path: Path) -> None:
    """Labels are spread evenly; a text repeated in another case is in the same fold."""
    rows = make_examples(200)
    rows += [(text.upper() + "  ", label) for text, label in rows[:50]]
    with spooled(lambda: rows, LABELS, scratch=tmp_path) as spool:
        folds = assign_folds(spool.index, folds=5, seed=3)
        targets = spool.index.targets[:200]
    assert np.array_equal(folds[200:], folds[:50])
    table = np.array(
        [np.bincount(folds[:200][targets == label], minlength=5) for label in range(3)]
    )
    assert table.max() - table.min() <= 2


def test_a_held_out_sample_is_scored_by_a_student_that_never_saw_it(tmp_path: Path) -> None:
    """Equal texts leave training together; the scores are those of a student of the rest."""
    rows = make_examples(200)
    rows += [(text.upper(), label) for text, label in rows[:100]]
    with spooled(lambda: rows, LABELS, scratch=tmp_path) as spool:
        sample, scores = held_out(spool, 60, QUICK)
        digests = spool.index.digests
    rest = np.setdiff1d(np.arange(len(rows)), sample)
    assert len(sample) >= 60
    assert not set(digests[sample]) & set(digests[rest])
    other = train_on([rows[number] for number in rest], tmp_path).model()
    expected = other.probabilities([rows[number][0] for number in sample])
    assert np.allclose(scores, expected, atol=1e-3)


def test_a_label_with_one_distinct_text_cannot_be_scored_out_of_fold(tmp_path: Path) -> None:
    """It can be trained on, but scoring it out of fold is refused by name."""
    rows = [row for row in make_examples(30) if row[1] != "loan"] + [("a loan", "loan")] * 2
    with spooled(lambda: rows, LABELS, scratch=tmp_path) as spool:
        assert train(spool, QUICK).labels == LABELS
        with pytest.raises(SuiteError, match="only one distinct text has the label 'loan'"):
            out_of_fold(spool, QUICK)
        with pytest.raises(UserError, match="two or more folds, not 1"):
            out_of_fold(spool, QUICK, folds=1)


def test_bad_suites_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """Empty, one class only, unknown or missing labels, empty texts: each says what and where."""
    two = ("a", "b")
    assert _refused([], two, tmp_path) == "the training suite has no examples"
    only = "all 2 training examples have the label 'a'"
    assert _refused([("x", "a"), ("y", "a")], two, tmp_path) == only
    unknown = "example 2: label 'c' is not one of the task's 2 labels"
    assert _refused([("x", "a"), ("y", "c")], two, tmp_path) == unknown
    missing = "the training suite has no example of 'c'"
    assert _refused([("x", "a"), ("y", "b")], ("a", "b", "c"), tmp_path) == missing
    assert _refused([(" \n", "a")], two, tmp_path) == "example 1: the text is empty"
    invalid = "example 1: the text is not valid Unicode (a lone surrogate)"
    assert _refused([("\ud800", "a")], two, tmp_path) == invalid
    assert "two or more different labels" in _refused([("x", "a")], ("a",), tmp_path)
    assert "two or more different labels" in _refused([("x", "a")], ("a", "a"), tmp_path)


def test_a_scratch_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is a storage error, not a traceback."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="file"),
        spooled(list, LABELS, scratch=tmp_path / "file"),
    ):
        pass


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """A file that may not grow ends training with a storage error; the temporary file is gone."""
    script = f"""
import resource
from pathlib import Path
from student_examples import make_examples, train_on
from rung.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    train_on(make_examples(2_000), Path({str(tmp_path)!r}))
except StorageError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert "the file may not grow further" in run.stdout
    assert not list(tmp_path.iterdir())


def test_errors_of_the_suite_file_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    """An `OSError` raised by the examples themselves reaches the caller as it is."""

    def examples() -> Iterator[tuple[str, str]]:
        yield "text", "card"
        raise FileNotFoundError("suite.jsonl")

    with (
        pytest.raises(FileNotFoundError, match=r"suite\.jsonl"),
        spooled(examples, LABELS, scratch=tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the in-memory limit out of reach, eight times the rows take at most 24 bytes a row more."""
    monkeypatch.setattr(spool_module, "IN_MEMORY_BYTES", 0)
    features = FeatureSettings(bits=12)
    settings = TrainingSettings(epochs=2, batch=64)

    def peak(count: int) -> int:
        texts = make_examples(100)
        tracemalloc.start()
        rows = lambda: (texts[number % 100] for number in range(count))  # noqa: E731
        with spooled(rows, LABELS, features=features, scratch=tmp_path) as spool:
            train(spool, settings)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(100)
    small, large = peak(1_000), peak(8_000)
    in_memory_features = 7_000 * 1_000
    assert large - small < 7_000 * 100 < in_memory_features


def test_a_large_suite_gets_fewer_passes() -> None:
    """Visits are capped, and never fewer than two passes."""
    settings = TrainingSettings()
    assert [settings.passes(n) for n in (10, 8_003, 1_000_000, 10**8)] == [60, 60, 4, 2]


def test_banking77_is_learnt_better_than_the_reference(shared_data: Path, tmp_path: Path) -> None:
    """Trained on 8,003 of its training rows, at least 0.910 of the test rows are right."""
    folder = shared_data / "banking77"

    def rows(name: str) -> Examples:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    everything, test = rows("train.csv"), rows("test.csv")
    labels = tuple(sorted({label for _, label in everything}))
    drawn = np.random.default_rng(0).permutation(len(everything))[:8003]
    with spooled(lambda: (everything[row] for row in drawn), labels, scratch=tmp_path) as spool:
        student = train(spool)
    chosen = student.model().probabilities([text for text, _ in test]).argmax(axis=1)
    right = np.mean(
        [labels[number] == label for number, (_, label) in zip(chosen, test, strict=True)]
    )
    assert right >= 0.910
