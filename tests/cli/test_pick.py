"""`rung pick`: ranked models with what each takes, why it is where it is, and what is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rung.cli import root
from rung.models.catalog.entries import catalog

GIB = 1024**3


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))


def pick(*words: str) -> Result:
    """What the command line does with these words."""
    return CliRunner().invoke(root, ["pick", *words])


def picked(*words: str) -> dict[str, Any]:
    """Its facts."""
    found: dict[str, Any] = json.loads(pick(*words, "--json").stdout)
    return found


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    """A 27 B model is not for 16 GiB; every model is either ranked or left out with a reason."""
    found = picked("--task", "extract", "--ram", "16")
    ranked = [item["name"] for item in found["ranked"]]
    left_out = {item["name"]: item["kind"] for item in found["left_out"]}
    assert left_out["gemma-3-27b-it"] == "memory"
    assert len(ranked) + len(left_out) == len(catalog().models)
    assert all(item["estimate"]["verdict"] != "no" for item in found["ranked"])


def test_wishes_hold_for_everything_that_is_ranked() -> None:
    """Languages, licence, context and speed."""
    words = (
        "--task answer --ram 32 --languages de,fr --context 32k --licence permissive --min-tps 8"
    )
    found = picked(*words.split())
    assert found["ranked"]
    for item in found["ranked"]:
        assert item["licence_kind"] == "permissive"
        assert item["estimate"]["run"]["context"] == 32768
        assert item["estimate"]["speed"]["tokens_per_s"] >= 8
        assert set(item["languages"]) >= {"de", "fr"} or item["languages_claimed"]
    reasons = {item["kind"] for item in found["left_out"]}
    assert {"licence", "context", "languages"} <= reasons


def test_a_claim_of_many_languages_is_told_from_a_list() -> None:
    """`100+ languages` is no list that has German in it."""
    found = picked("--task", "chat", "--ram", "16", "--languages", "de")
    unlisted = {item["name"]: item["languages_unlisted"] for item in found["ranked"]}
    assert unlisted["Qwen3-4B"] == ["de"]
    assert unlisted["Phi-4-mini-instruct"] == []


def test_every_place_has_a_reason_and_compares_within_one_harness() -> None:
    """All but the last say why they stand before the next."""
    found = picked("--task", "extract", "--ram", "64")
    assert all(item["because"] for item in found["ranked"][:-1])
    pairs = [one for item in found["ranked"] for one in item["compared"]]
    assert pairs
    assert {one["benchmark"] for one in pairs} <= {"IFEval", "DROP", "LiveBench"}


def test_published_results_outweigh_size() -> None:
    """Two neighbours that one harness took are in the order of their results."""
    found = picked("--task", "extract", "--ram", "256")
    for item, after in zip(found["ranked"], found["ranked"][1:], strict=False):
        wins = sum(
            (one["first"] > one["second"]) - (one["first"] < one["second"])
            for one in item["compared"]
        )
        assert wins >= 0, (item["name"], after["name"])


def test_the_text_says_what_is_not_known_and_ends_with_a_proof() -> None:
    """Benchmarks that nobody's figures are known of, those that count for nothing, and what to do."""
    text = pick("--task", "answer", "--ram", "64").stdout
    assert "not known of any" in text
    assert "SWE-bench Verified, ARC-AGI-2, HLE" in text
    assert "MMLU: near its ceiling" in text
    assert "step down in size instead" in text
    assert "rung pull hf:" in text
    assert "prove it on your data: rung eval" in text.splitlines()[-1]


def test_all_shows_every_model_with_its_reason() -> None:
    """Also those that are left out."""
    text = pick("--task", "answer", "--ram", "8", "--all").stdout
    assert all(entry.name in text for entry in catalog().models)


def test_a_smaller_quantisation_is_named_as_such() -> None:
    """Where Q4_K_M does not fit and Q3_K_M does, the latter is offered with its caution, and nothing smaller."""
    kinds = set()
    for ram in range(6, 40, 2):
        for item in picked("--task", "chat", "--ram", str(ram))["ranked"]:
            kinds.add(item["quantisation"]["name"])
            if item["quantisation"]["name"] == "Q3_K_M":
                assert "evaluate on yours" in item["quantisation"]["why"]
    assert kinds == {"Q4_K_M", "Q3_K_M"}


def test_more_memory_never_takes_a_model_away() -> None:
    """What fits 8 GiB fits 32 GiB."""
    small = {item["name"] for item in picked("--task", "chat", "--ram", "8")["ranked"]}
    large = {item["name"] for item in picked("--task", "chat", "--ram", "32")["ranked"]}
    assert small < large


def test_nothing_that_will_do_is_a_no() -> None:
    """Exit code 1 with what to relax."""
    done = pick("--task", "chat", "--ram", "8", "--min-tps", "100000")
    assert done.exit_code == 1
    assert "0 of 27 models" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--task sing", "sing"),
        ("--task chat --languages german", "'german' is not a two-letter language code"),
        ("--task chat --context 0", "is not a number of tokens"),
        ("--task chat --ram 16GB", "give it without a unit"),
        ("--task chat --ram nan", "'nan' is not a finite number"),
        ("--task chat --min-tps inf", "'inf' is not a finite number"),
        ("--task chat --on toaster", "no profile of a machine named 'toaster'"),
        ("--task chat --on rtx-4090 --ram 8", "--ram and --on both name a machine"),
    ],
)
def test_wrong_words_are_a_sentence(words: str, said: str) -> None:
    """With exit code 2."""
    done = pick(*words.split())
    assert done.exit_code == 2 or said in str(done.exception)
    assert said in done.stderr + str(done.exception)


def test_machines_may_be_named() -> None:
    """A card of 24 GiB takes what 16 GiB of memory do not, and faster."""
    found = picked("--task", "chat", "--on", "rtx-4090", "--min-tps", "20")
    names = {item["name"] for item in found["ranked"]}
    assert "Qwen3-14B" in names


def test_the_lower_rung_of_a_ladder_is_the_faster_one() -> None:
    """By the estimated speeds, not by sizes: a large mixture of experts may be the faster model."""
    found = picked("--task", "chat", "--on", "rtx-4090")
    speeds = {item["name"]: item["estimate"]["speed"] for item in found["ranked"]}
    line = next(
        line
        for line in pick("--task", "chat", "--on", "rtx-4090").stdout.splitlines()
        if line.startswith("as a ladder")
    )
    small, large = (word for word in line.split() if word.rstrip(":") in speeds)
    assert speeds[small]["tokens_per_s"] >= 2 * speeds[large.rstrip(":")]["tokens_per_s"]


def test_recalled_sizes_and_assumed_machines_are_marked() -> None:
    """A tilde, and what was assumed of the machine."""
    text = pick("--task", "chat", "--ram", "4").stdout
    assert "~" in text
    assert "GiB are left to its system" in text
    rough = {
        item["name"]: item["size_recalled"]
        for item in picked("--task", "chat", "--ram", "64")["ranked"]
    }
    assert rough["Qwen3-14B"]
    assert not rough["Llama-3.2-3B-Instruct"]


def test_models_of_like_size_are_ranked_by_age() -> None:
    """Qwen3-8B is newer than gemma-2-9b, which is larger by an eighth."""
    names = [item["name"] for item in picked("--task", "classify", "--ram", "64")["ranked"]]
    assert names.index("Qwen3-8B") < names.index("gemma-2-9b-it")


def test_a_machine_too_small_for_four_bits_is_told_what_three_cost() -> None:
    """The caution stands under the table, not in the facts for machines alone."""
    assert "evaluate on yours" in pick("--task", "chat", "--ram", "4").stdout


def test_one_model_needs_no_reasons() -> None:
    """There is nothing that it stands before."""
    text = pick("--task", "chat", "--ram", "1").stdout
    assert "SmolLM2" in text
    assert "why in this order" not in text
