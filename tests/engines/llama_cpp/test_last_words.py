"""The reason in a heap of log lines."""

from __future__ import annotations

from rung.engines.llama_cpp.last_words import reason, sentence


def test_the_first_complaint_is_the_reason() -> None:
    """Later ones repeat it from further out; who complained is left out."""
    lines = (
        "0.00.000.100 W srv          init: a warning that says error",
        "0.00.015.738 E llama_init_from_model: quantized V cache requires flash_attn to be enabled",
        "0.00.016.469 E srv          init: exiting due to model loading error",
        "rung: Failed to init server, please check the input params.",
    )
    expected = "quantized V cache requires flash_attn to be enabled"
    assert reason(lines) == expected
    assert sentence(3, lines) == f"the engine refused it: {expected}"


def test_an_assertion_is_told_without_the_folder_it_was_built_in() -> None:
    """And with the signal that it raised."""
    lines = ("/build/llama.cpp/src/llama-model.cpp:1356: GGML_ASSERT(n > 0) failed", "")
    assert sentence(-6, lines) == (
        "the engine process was ended by SIGABRT: llama-model.cpp:1356: GGML_ASSERT(n > 0) failed"
    )


def test_a_child_that_answered_requests_is_quoted_on_its_assertions_only() -> None:
    """Its other lines may hold what a caller wrote."""
    asserted = "/build/src/llama-context.cpp:7: GGML_ASSERT(n_tokens > 0) failed"
    spoken = (
        "parse: error parsing grammar: Undefined rule identifier 'my-secret'",
        "/x/y.cpp:3: GGML_ASSERT(my secret) failed, said the user",
        "0.00.015.738 E srv: failed to parse my secret",
        "rung: my secret",
    )
    assert sentence(-6, (*spoken, asserted), had_been_ready=True) == (
        "the engine process was ended by SIGABRT: llama-context.cpp:7: GGML_ASSERT(n_tokens > 0) failed"
    )
    for number, name in ((-6, "SIGABRT"), (-9, "SIGKILL"), (-11, "SIGSEGV")):
        assert sentence(number, spoken, had_been_ready=True) == (
            f"the engine process was ended by {name}"
        )
    assert sentence(-9, (asserted,), had_been_ready=True).endswith("SIGKILL")


def test_what_we_ended_ourselves_says_why() -> None:
    """Whatever the log holds."""
    assert sentence(-9, ("x error",), ended_because="it was idle") == (
        "the engine process was ended because it was idle"
    )


def test_silence_and_noise_make_a_sentence_too() -> None:
    """Unknown signals, no lines, control characters, endless lines."""
    assert sentence(-64, ()) == "the engine process was ended by SIGRTMAX"
    assert sentence(-63, ()) == "the engine process was ended by signal 63"
    assert sentence(1, ("rung: \x1b[31mbad\x07 news.",)) == (
        "the engine process exited with status 1: [31mbad news"
    )
    assert len(sentence(1, ("rung: " + "x" * 5000,))) < 400
