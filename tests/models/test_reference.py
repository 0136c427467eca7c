"""References: the forms that are read, the spelling they are written back in, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rung.errors import InputError
from rung.models.addresses import redirect_problem
from rung.models.reference import Origin, Reference, parse_reference

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = f"sha256:{'ab' * 32}"

READ = {
    "hf:Qwen/Qwen3-4B-GGUF": Reference(origin=Origin.HF, repo="Qwen/Qwen3-4B-GGUF"),
    "hf:Qwen/Qwen3-4B-GGUF:q4_k_m": Reference(
        origin=Origin.HF, repo="Qwen/Qwen3-4B-GGUF", quant="Q4_K_M"
    ),
    "hf:o/r:UD-Q4_K_XL": Reference(origin=Origin.HF, repo="o/r", quant="UD-Q4_K_XL"),
    f"hf:o/r@{COMMIT}:Q8_0": Reference(origin=Origin.HF, repo="o/r", revision=COMMIT, quant="Q8_0"),
    "hf:o/r@refs/pr/1:Q4_K_M/x-00001-of-00002.gguf": Reference(
        origin=Origin.HF, repo="o/r", revision="refs/pr/1", file="Q4_K_M/x-00001-of-00002.gguf"
    ),
    "hf.co/o/r:Q8_0": Reference(origin=Origin.HF, repo="o/r", quant="Q8_0"),
    "hf.co/o/r@v1:Q8_0": Reference(origin=Origin.HF, repo="o/r", revision="v1", quant="Q8_0"),
    "https://hf.co/o/r:Q8_0": Reference(origin=Origin.HF, repo="o/r", quant="Q8_0"),
    "https://example.com/x.gguf?": Reference(
        origin=Origin.URL, repo="https://example.com/x.gguf", query=""
    ),
    "huggingface.co/o/r": Reference(origin=Origin.HF, repo="o/r"),
    "https://huggingface.co/o/r": Reference(origin=Origin.HF, repo="o/r"),
    "https://huggingface.co/o/r/": Reference(origin=Origin.HF, repo="o/r"),
    "https://huggingface.co/o/r/tree/main": Reference(
        origin=Origin.HF, repo="o/r", revision="main"
    ),
    "https://HF.co/o/r/blob/main/x.gguf": Reference(
        origin=Origin.HF, repo="o/r", revision="main", file="x.gguf"
    ),
    "https://huggingface.co/o/r/resolve/v1/a/x.gguf?download=true": Reference(
        origin=Origin.HF, repo="o/r", revision="v1", file="a/x.gguf"
    ),
    "ollama:qwen3": Reference(origin=Origin.OLLAMA, repo="library/qwen3", revision="latest"),
    "ollama:qwen3:4b": Reference(origin=Origin.OLLAMA, repo="library/qwen3", revision="4b"),
    "ollama:ns/n:4b-q4_K_M": Reference(origin=Origin.OLLAMA, repo="ns/n", revision="4b-q4_K_M"),
    f"ollama:n@{DIGEST}": Reference(origin=Origin.OLLAMA, repo="library/n", revision=DIGEST),
    "https://Example.COM/a/x.gguf": Reference(
        origin=Origin.URL, repo="https://example.com/a/x.gguf"
    ),
    "https://xn--bcher-kva.example/x.gguf": Reference(
        origin=Origin.URL, repo="https://xn--bcher-kva.example/x.gguf"
    ),
    "http://127.0.0.1:8080/x.gguf": Reference(
        origin=Origin.URL, repo="http://127.0.0.1:8080/x.gguf"
    ),
    "http://[::1]:80/x.gguf": Reference(origin=Origin.URL, repo="http://[::1]:80/x.gguf"),
    "lmstudio:p/r": Reference(origin=Origin.LMSTUDIO, repo="p/r"),
    "lmstudio:p/r/x.gguf": Reference(origin=Origin.LMSTUDIO, repo="p/r", file="x.gguf"),
    "file:x.bin": Reference(origin=Origin.FILE, repo="x.bin"),
    "file:///a/x.gguf": Reference(origin=Origin.FILE, repo="/a/x.gguf"),
    "../models/模型.gguf": Reference(origin=Origin.FILE, repo="../models/模型.gguf"),
    "x.gguf": Reference(origin=Origin.FILE, repo="x.gguf"),
    "C:\\models\\x.gguf": Reference(origin=Origin.FILE, repo="C:\\models\\x.gguf"),
}

REFUSED = [
    # traversal
    "hf:../r",
    "hf:o/..",
    "hf:o/r:../x.gguf",
    "hf:o/r:a/../../x.gguf",
    "hf:o/r:/etc/x.gguf",
    "hf:o/r:a//x.gguf",
    "hf:o/r:./x.gguf",
    "hf:o/r:a\\x.gguf",
    "hf:o\\r",
    "hf:o/r:%2e%2e/x.gguf",
    "hf:o/r:a%2fx.gguf",
    "hf:o/r@../main",
    "hf:o/r@a..b",
    "hf:o/r@/main",
    "hf:o/r:..gguf",
    "hf:.o/r",
    "lmstudio:p/..",
    "lmstudio:p/r/../../x.gguf",
    "lmstudio:p",
    "ollama:../n",
    "ollama:a/b/c",
    "ollama:n:../tag",
    # NUL, control characters, white space
    "hf:o/r\x00",
    "hf:o/r:x\x00.gguf",
    "hf:o/r\n",
    "hf:o /r",
    "file:a\x00b.gguf",
    "a/b\x00.gguf",
    # Windows: devices, drives, trailing dots
    "hf:con/r",
    "hf:o/nul",
    "hf:o/r:COM1.gguf",
    "hf:o/r:a/lpt9/x.gguf",
    "hf:o/r:C:/x.gguf",
    "hf:o/r:x.gguf.",
    "hf:o./r",
    # overlong
    f"hf:{'o' * 97}/r",
    f"hf:o/r:{'x' * 300}.gguf",
    f"hf:o/r:{'a/' * 300}x.gguf",
    f"hf:o/r@{'a' * 200}",
    f"a/{'x' * 3000}.gguf",
    "",
    # letters that look like others
    "hf:Qwеn/Qwen3-4B-GGUF",  # a Cyrillic letter
    "hf:Qwen/Qwen3\u200b-4B",  # a zero-width space
    "hf:Ｑwen/r",
    "hf:o/r:x\u2024gguf",
    "hf:o\u2215r",
    "hf\uff1ao/r",
    "ollama:qwеn3",
    # addresses
    "https://huggingface.co@evil.example/x.gguf",
    "https://user:secret@example.com/x.gguf",
    "https://example.com:8443/x.gguf",
    "https://example.com:/x.gguf",
    "https://example.com/x.gguf#y",
    "https://bücher.example/x.gguf",
    "https://huggingfаce.co/o/r/blob/main/x.gguf",
    "https://2130706433/x.gguf",
    "https://0x7f.1/x.gguf",
    "https://example.com/a/../x.gguf",
    "https://example.com/a/%2E%2e/x.gguf",
    "https://example.com/a%5Cx.gguf",
    "https://example.com/a%252fx.gguf",
    "https://example.com/%00x.gguf",
    "https://example.com\\@evil.example/x.gguf",
    "https://example.com/a//x.gguf",
    "https://example.com/",
    "https://example/x.gguf",
    "https://-example.com/x.gguf",
    "https:///x.gguf",
    "https://[::1/x.gguf",
    "http://example.com/x.gguf",
    "http://127.0.0.1.evil.example/x.gguf",
    "https://huggingface.co/datasets/o/r",
    "https://huggingface.co/o/r/blob/main/../x.gguf",
    "https://huggingface.co/o/r/settings/x",
    "https://huggingface.co/o",
    "file://host/x.gguf",
    "file:///a%20b.gguf",
    "file:",
    # forms
    "hf:o",
    "hf:o/r/x",
    "hf:o/r:",
    "hf:o/r@",
    "hf:o/r:Q4 K",
    "HF:o/r",
    "s3:bucket/x.gguf",
    "ftp://example.com/x.gguf",
    "ollama:",
    "ollama:n:",
    "ollama:n@sha256:xyz",
    f"ollama:n@SHA256:{'ab' * 32}",
    "qwen3",
]


@pytest.mark.parametrize("text", READ)
def test_each_form_is_read(text: str) -> None:
    """Every form becomes its value."""
    assert parse_reference(text) == READ[text]


@pytest.mark.parametrize("text", READ)
def test_what_is_written_is_read_back(text: str) -> None:
    """The canonical spelling stands for the same value and does not change again."""
    spelled = str(READ[text])
    assert parse_reference(spelled) == READ[text]
    assert str(parse_reference(spelled)) == spelled


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_what_could_mislead_is_refused_in_one_sentence(text: str) -> None:
    """Traversal, look-alikes and hidden hosts are refused, with what to write instead."""
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert "\x00" not in caught.value.message


def test_a_file_that_exists_needs_no_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare name is a path when there is such a file, also with a colon in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "my:model"):
        Path(name).touch()
        assert parse_reference(name) == Reference(origin=Origin.FILE, repo=name)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60) | st.from_regex(r"(hf|ollama|lmstudio|https|file):.{0,40}", fullmatch=True)
)
@example("file:////a")
def test_any_text_is_read_back_the_same_or_refused(text: str) -> None:
    """No text makes anything but a value that is written and read back, or an `InputError`."""
    try:
        reference = parse_reference(text)
    except InputError:
        return
    known = reference if reference.query is None else msgspec.structs.replace(reference, query="")
    assert parse_reference(str(reference)) == known


def test_a_query_is_sent_and_not_written() -> None:
    """It may be a key; that there was one is kept."""
    reference = parse_reference("https://example.com/x.gguf?sig=abc&x=1")
    assert reference.address == "https://example.com/x.gguf?sig=abc&x=1"
    assert str(reference) == "https://example.com/x.gguf?"
    assert "sig" not in repr(reference)
    assert parse_reference(str(reference)) == msgspec.structs.replace(reference, query="")


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@[::1/model.gguf",
        "https://me:hunter2@host.example:99999/model.gguf",
        "https://me:hunter2@exämple.com/model.gguf",
        "https://me:hunter2@host.example/model.gguf",
        "https://me:hunter2/x@host.example/model.gguf",
        "https://me:hunter2\uff20host.example/model.gguf",
        "HTTPS://me:hunter2@host.example/model.gguf",
        "ftp://me:hunter2@host.example/model.gguf",
        "file://me:hunter2@host.example/model.gguf",
        "https://host.example:8443/model.gguf?key=hunter2",
        "https://host.example/mödel.gguf?key=hunter2",
        "https://host.example/model.gguf#hunter2",
        "hf.co/o/r/nothing?token=hunter2",
        "S3://host.example/model.gguf?key=hunter2",
    ],
    ids=ascii,
)
def test_no_message_repeats_a_password(text: str) -> None:
    """Whichever part of the address is wrong."""
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["..", ".", "", "a\\b", "%2e%2e", "nul", "x.", "\x00", "ａ"]),
    st.integers(0, 3),
)
def test_a_bad_part_is_refused_wherever_it_stands(bad: str, place: int) -> None:
    """A part of a path that leads elsewhere is refused at any depth."""
    parts = ["a", "b", "c", "x.gguf"]
    parts[place] = bad
    with pytest.raises(InputError):
        parse_reference(f"hf:o/r:{'/'.join(parts)}")


REDIRECTS = [
    ("https://a.example/x", "https://b.example/x", None),
    ("https://a.example/x", "http://a.example/x", "is not encrypted"),
    ("https://a.example/x", "https://127.0.0.1/x", "leads into a private network"),
    ("https://a.example/x", "https://localhost/x", "leads into a private network"),
    ("https://a.example/x", "https://10.1.2.3/x", "leads into a private network"),
    ("https://a.example/x", "https://169.254.169.254/x", "leads into a private network"),
    ("https://a.example/x", "https://[::ffff:10.0.0.1]/x", "leads into a private network"),
    ("https://a.example/x", "https://[fe80::1]/x", "leads into a private network"),
    ("https://a.example/x", "https://[64:ff9b::7f00:1]/x", "leads into a private network"),
    ("https://a.example/x", "https://[2002:7f00:1::]/x", "leads into a private network"),
    ("https://a.example/x", "https://[::7f00:1]/x", "leads into a private network"),
    ("https://a.example/x", "https://[64:ff9b::808:808]/x", None),
    ("https://a.example/x", "https://[2606:4700::1111]/x", None),
    ("https://a.example/x", "https://user@b.example/x", "hides its host"),
    ("https://a.example/x", "https://0x7f000001/x", "hides its host"),
    ("https://a.example/x", "file:///etc/passwd", "hides its host"),
    ("https://a.example/x", "https://b.example:99999/x", "is not an address"),
    ("http://127.0.0.1:1/x", "http://127.0.0.1:2/x", None),
    ("http://127.0.0.1:1/x", "http://10.0.0.1/x", "is not encrypted"),
    ("http://127.0.0.1:1/x", "https://b.example/x", None),
]


@pytest.mark.parametrize(("first", "target", "problem"), REDIRECTS)
def test_redirects_lead_to_encrypted_public_hosts(
    first: str, target: str, problem: str | None
) -> None:
    """A server may hand over to another host, not to an unencrypted or a private one."""
    assert redirect_problem(first, target) == problem


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("hf:acme/tiny/tiny-Q8_0.gguf", "write hf:acme/tiny:tiny-Q8_0.gguf"),
        ("hf:acme/tiny/a/b.gguf", "write hf:acme/tiny:a/b.gguf"),
        ("hf:acme/tiny/", "write hf:owner/repo"),
        ("HF:acme/tiny", "write hf: in lower case"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(text: str, hint: str) -> None:
    """Where that can be read back."""
    with pytest.raises(InputError) as refused:
        parse_reference(text)
    assert refused.value.hint == hint
