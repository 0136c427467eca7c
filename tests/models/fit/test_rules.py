"""The rule sets are data: complete, named, found by the names that people use; and they hold on other people's logs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rung.errors import InputError
from rung.models.fit.rules import DEFAULT, Logits, default_rules, rule_names, rules

BENCH = Path(__file__).resolve().parents[3] / "bench" / "fit.py"


def test_every_set_is_found_by_its_name_and_its_aliases() -> None:
    """No two sets share one."""
    names = [name for own in rule_names() for name in (own, *rules(own).aliases)]
    assert len(names) == len(set(names))
    assert all(rules(name).source for name in names)


def test_the_default_is_the_embedded_engines() -> None:
    """Which has room for one token's logits per slot, and copies some types of matrices."""
    assert rules() == default_rules() == rules("llama.cpp") == rules("rung")
    assert rules().name == DEFAULT
    assert rules().logits is Logits.SLOTS
    assert rules().repacked == ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4")


def test_an_unknown_engine_is_refused_with_the_nearest_name() -> None:
    """Or with all names, where none is near."""
    with pytest.raises(InputError, match="'olama'") as near:
        rules("olama")
    assert near.value.hint == "did you mean ollama?"
    with pytest.raises(InputError) as other:
        rules("vllm")
    assert (other.value.hint or "").startswith("choose one of ")
    with pytest.raises(InputError) as far:
        rules("zzz")
    assert "ik_llama.cpp" in (far.value.hint or "")


def test_servers_say_how_many_slots_they_open_unasked() -> None:
    """llama.cpp's opens four that share one cache."""
    assert (rules().default_slots, rules().default_unified) == (4, True)
    assert rules("ollama").default_slots == 1


def test_cache_and_state_are_exact_on_other_peoples_logs_and_compute_knows_where_it_misses(
    shared_data: Path,
) -> None:
    """Every row of the public logs, by the bench that anybody can run on further ones."""
    cases = shared_data / "fit" / "cases.jsonl"
    done = subprocess.run(
        [sys.executable, str(BENCH), "--cases", str(cases)],
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["cases"]["skipped"] == {}
    assert facts["kv"]["exact"] == facts["kv"]["rows"] >= 49
    assert facts["recurrent"]["exact"] == facts["recurrent"]["rows"] >= 4
    assert facts["compute"]["share"] >= 0.75
    assert facts["compute"]["sure_beyond"] == 0
    assert facts["gate"] == "pass"


def test_a_bench_without_data_is_no_success() -> None:
    """There is nothing that it could have shown."""
    done = subprocess.run([sys.executable, str(BENCH)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is nothing to compare" in done.stderr


def test_rows_that_lack_what_is_needed_are_counted_and_not_guessed(tmp_path: Path) -> None:
    """A bench on unseen data ends with its line, whatever the rows are."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"id": "a"}\n{"id": "b", "hparams": {"n_layer": 0}}\nnot json\n', encoding="utf-8"
    )
    arguments = [sys.executable, str(BENCH), "--cases", str(rows), "--totals", str(rows)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, facts["gate"]) == (1, "fail")  # nothing was compared
    assert sum(facts["cases"]["skipped"].values()) == 3
    assert sum(facts["totals"]["skipped"].values()) == 3
