"""The shipped catalogue: complete, dated, sourced, and consistent with itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rung.models.catalog.entries import Entry, catalog


def counted(entry: Entry) -> int:
    """Parameters that a plain transformer of these hyperparameters has, biases and norms left out."""
    h = entry.hyperparameters
    attention = h.embedding * h.head_dim * (2 * h.heads + 2 * h.kv_heads)
    inside = h.expert_feed_forward * h.experts if h.experts else h.feed_forward
    tables = h.vocabulary * h.embedding * (1 if h.tied else 2)
    return h.layers * (attention + 3 * h.embedding * inside) + tables


@pytest.mark.parametrize("entry", catalog().models, ids=lambda entry: entry.name)
def test_parameters_follow_from_hyperparameters(entry: Entry) -> None:
    """Every count is within half a per cent of what its layers have; norms and biases are the rest."""
    assert entry.parameters == pytest.approx(counted(entry), rel=0.005)


@pytest.mark.parametrize("entry", catalog().models, ids=lambda entry: entry.name)
def test_every_entry_says_where_its_figures_are_from(entry: Entry) -> None:
    """Sources are named, a size from memory says so, and every score has a harness."""
    assert entry.sources
    assert entry.size_recalled == ("recalled" in entry.size_source)
    assert all(score.harness for score in entry.scores)
    assert 4.0 < entry.q4_k_m_bytes * 8 / entry.parameters < 7.0


def test_models_are_named_once_and_the_catalogue_is_dated() -> None:
    """No model is there twice."""
    names = [entry.name for entry in catalog().models]
    assert len(set(names)) == len(names) >= 27
    assert catalog().dated == "2026-11-21"


def test_vendors_own_figures_are_a_harness_of_that_vendor() -> None:
    """Two vendors' own figures can therefore never be compared."""
    for entry in catalog().models:
        for score in entry.scores:
            assert score.harness != "vendor"
            if score.harness.startswith("vendor"):
                assert score.harness == f"vendor: {entry.developer}"


def test_scores_are_those_of_the_source(shared_data: Path) -> None:
    """No figure was changed on its way from the public file."""
    lines = (shared_data / "fit" / "catalog.jsonl").read_text(encoding="utf-8").splitlines()
    source = {row["model"]: row for row in map(json.loads, lines)}
    for entry in catalog().models:
        row = source[entry.name]
        published = sorted(value for scores in row["scores"].values() for value in scores.values())
        assert sorted(score.value for score in entry.scores) == published
        assert entry.parameters == row["n_params"]
        assert entry.context == row["context_length"]
        assert entry.q4_k_m_bytes == round(row["q4_k_m_gb"] * 1e9)
