"""What changed of a model is told from its header's parts and slices of its weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gguf_models import CHATML, tiny_model
from malformed.gguf_parts import gguf as gguf_file
from malformed.gguf_parts import number, tensor, word
from rung.models.header import read_header
from rung.models.lock.changes import Part, in_words
from rung.models.lock.drift import Drift, Kind, check
from rung.models.lock.identity import SLICES, identity_of, slices_of, template_of
from rung.models.lock.pinning import local_artefact
from rung.models.lock.record import Identity, Lock

SAME = " (weights the same at 16 places)"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNG_HOME", str(tmp_path / "home"))


def drifts(root: Path, change: Callable[[Path], object]) -> tuple[Drift, ...]:
    """What is found when a model is pinned and then changed."""
    path = tiny_model(root / "tiny.gguf")
    lock = Lock().put(local_artefact("tiny.gguf", root))
    assert check(lock, root) == ()
    change(path)
    return check(lock, root)


def rewritten(**facts: Any) -> Callable[[Path], object]:  # Any: arguments of tiny_model
    """Writes the model again with other facts."""
    return lambda path: tiny_model(path, **facts)


def flipped(at: int) -> Callable[[Path], object]:
    """Flips a bit of the file."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    return flip


@pytest.mark.parametrize(
    ("change", "kind", "parts", "words"),
    [
        (rewritten(template=CHATML + " " * 64), Kind.SIZE, {Part.TEMPLATE}, "chat template only" + SAME),
        (rewritten(template=CHATML.upper()), Kind.CONTENT, {Part.TEMPLATE}, "chat template only" + SAME),
        (rewritten(template=None), Kind.SIZE, {Part.TEMPLATE}, "chat template only" + SAME),
        (rewritten(extra={"tokenizer.ggml.x": "y"}), Kind.SIZE, {Part.TOKENIZER}, "tokenizer only" + SAME),
        (rewritten(extra={"llama.rope.freq_base": 1e6}), Kind.SIZE, {Part.METADATA}, "metadata only" + SAME),
        (rewritten(extra={"general.name": "TINY"}), Kind.CONTENT, {Part.METADATA}, "metadata only" + SAME),
        (rewritten(seed=1), Kind.CONTENT, {Part.WEIGHTS}, "weights"),
        (flipped(-1), Kind.CONTENT, {Part.WEIGHTS}, "weights"),
        (flipped(-300_001), Kind.CONTENT, {Part.WEIGHTS}, "weights"),
        (
            rewritten(seed=1, template="{{ x }}"),
            Kind.SIZE,
            {Part.WEIGHTS, Part.TEMPLATE},
            "weights and chat template",
        ),
        (
            rewritten(layers=1),
            Kind.SIZE,
            {Part.TENSORS, Part.METADATA},
            "tensors (their types, shapes or order) and metadata",
        ),
    ],
)  # fmt: skip
def test_it_says_which_part_changed(
    tmp_path: Path, change: Callable[[Path], object], kind: Kind, parts: set[Part], words: str
) -> None:
    """From the file alone, offline."""
    (found,) = drifts(tmp_path, change)
    assert (found.kind, set(found.parts), in_words(found.parts, sampled=bool(found.sampled))) == (
        kind,
        parts,
        words,
    )
    assert (found.template is not None) == (
        Part.TEMPLATE in parts and template_of([read_header(tmp_path / "tiny.gguf")]) is not None
    )


def test_a_missing_file_and_one_that_is_no_model_are_told_apart(tmp_path: Path) -> None:
    """Neither is read further."""
    (gone,) = drifts(tmp_path, lambda path: path.unlink())
    assert (gone.kind, gone.parts, gone.sha256) == (Kind.MISSING, (), None)
    (other,) = drifts(tmp_path, lambda path: path.write_bytes(b"0" * path.stat().st_size))
    assert (other.kind, other.parts) == (Kind.CONTENT, ())
    assert "is not a GGUF file" in (other.reason or "")

    def to_folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    (folder,) = drifts(tmp_path, to_folder)
    assert folder.kind in (Kind.UNREADABLE, Kind.SIZE)


def test_the_order_of_metadata_is_no_identity_and_its_values_are(tmp_path: Path) -> None:
    """A converter that writes keys in another order makes the same model."""

    def identity(extra: Mapping[str, object], **facts: Any) -> Identity:  # Any: as above
        return identity_of([read_header(tiny_model(tmp_path / "m.gguf", extra=extra, **facts))])

    one = identity({"general.author": "a", "general.url": "b"})
    two = identity({"general.url": "b", "general.author": "a"})
    assert one.layout != two.layout
    assert one == msgspec.structs.replace(two, layout=one.layout)
    assert one.parameters != identity({"general.url": "b", "general.author": "c"}).parameters


def test_another_order_of_the_metadata_is_not_blamed_on_the_weights(tmp_path: Path) -> None:
    """Two entries change places: every byte of the weights is the same."""

    def swapped(path: Path) -> None:
        content, entries = path.read_bytes(), read_header(path).metadata.values()
        _, one, two, *_ = sorted(entries, key=lambda entry: entry.start)
        parts = (content[two.start : two.end], content[one.start : one.end])
        path.write_bytes(content[: one.start] + b"".join(parts) + content[two.end :])

    (found,) = drifts(tmp_path, swapped)
    assert found.parts == (Part.LAYOUT,)
    assert in_words(found.parts) == "order or padding of the file only" + SAME


def test_an_array_of_templates_belongs_to_the_tokenizer(tmp_path: Path) -> None:
    """It is no text of a template, and in one of the digests all the same."""
    one, two = (
        identity_of([read_header(tiny_model(tmp_path / "m.gguf", extra={key: ["a", word]}))])
        for key, word in (("tokenizer.chat_templates", "b"), ("tokenizer.chat_templates", "c"))
    )
    assert one.tokenizer != two.tokenizer
    assert one.template == two.template


def test_named_templates_count_as_the_template(tmp_path: Path) -> None:
    """Each under a line with its key."""
    extra = {"tokenizer.chat_template.tool_use": "{{ tools }}"}
    header = read_header(tiny_model(tmp_path / "m.gguf", template="{{ a }}", extra=extra))
    assert template_of([header]) == ("{{ a }}\n{# tokenizer.chat_template.tool_use #}\n{{ tools }}")
    plain = read_header(tiny_model(tmp_path / "n.gguf", template="{{ a }}"))
    assert identity_of([header]).tokenizer == identity_of([plain]).tokenizer
    assert identity_of([header]).template != identity_of([plain]).template


def test_slices_lie_in_the_data_and_move_with_it(tmp_path: Path) -> None:
    """The same bytes whatever comes before them."""
    short = read_header(tiny_model(tmp_path / "a.gguf", template=None))
    long = read_header(tiny_model(tmp_path / "b.gguf", template=CHATML * 9))
    first, second = slices_of([short]), slices_of([long])
    assert len(first) == len(second) == SLICES
    shift = min(t.start for t in long.tensors) - min(t.start for t in short.tensors)
    assert shift > 0
    assert [piece.start + shift for piece in first] == [piece.start for piece in second]
    assert all(0 < piece.start <= short.size - piece.length for piece in first)


def test_a_quick_look_reads_only_what_changed_since_it_was_read(tmp_path: Path) -> None:
    """A full look reads everything, and finds what hides behind an old time."""
    path = tiny_model(tmp_path / "tiny.gguf")
    time.sleep(0.1)  # a file that was only just written is not trusted by its times
    lock = Lock().put(local_artefact("tiny.gguf", tmp_path))
    read: list[int] = []
    assert check(lock, tmp_path, quick=True, progress=lambda done, total: read.append(done)) == ()
    assert read == [path.stat().st_size]  # one step: the file counted, not read
    flipped(-5)(path)
    (found,) = check(lock, tmp_path, quick=True)
    assert found.kind is Kind.CONTENT


def test_a_model_without_tensors_can_be_pinned(tmp_path: Path) -> None:
    """A vocabulary alone: nothing to take slices of."""
    import gguf

    path = tmp_path / "vocab.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    artefact = local_artefact("vocab.gguf", tmp_path)
    assert (artefact.sample, artefact.parameters, artefact.bits_per_weight) == (None, 0, 0.0)
    assert np.isfinite(artefact.bits_per_weight)


def test_it_says_at_how_many_places_the_weights_were_compared(tmp_path: Path) -> None:
    """Parts share the slices, and small tensors have room for fewer."""

    def write(path: Path, part: int, name: str) -> None:
        keys = {"split.no": part, "split.count": 3, "split.tensors.count": 3}
        entries = [number(key, value) for key, value in keys.items()]
        if part == 0:
            entries += [word("general.architecture", "llama"), word("general.name", name)]
        path.write_bytes(gguf_file(entries, [tensor(f"blk.{part}.weight")]))

    paths = [tmp_path / f"m-{part + 1:05}-of-00003.gguf" for part in range(3)]
    for part, path in enumerate(paths):
        write(path, part, "one")
    lock = Lock().put(local_artefact(paths[0].name, tmp_path))
    write(paths[0], 0, "two")
    (found,) = check(lock, tmp_path)
    compared = len(slices_of([read_header(path) for path in paths]))
    assert (found.sampled, found.places) == (True, compared)
    assert compared < SLICES
    paths[0].unlink()
    (gone,) = check(lock, tmp_path)
    assert (gone.sampled, gone.places) == (None, 0)


def test_a_split_model_is_one_pin_of_all_its_parts(tmp_path: Path) -> None:
    """Whichever part is named; a changed part is told from the others."""
    paths = []
    for part in range(3):
        keys = {"split.no": part, "split.count": 3, "split.tensors.count": 3}
        entries = [number(key, value) for key, value in keys.items()]
        if part == 0:
            entries.append(word("general.architecture", "llama"))
        paths.append(tmp_path / f"m-{part + 1:05}-of-00003.gguf")
        paths[-1].write_bytes(gguf_file(entries, [tensor(f"blk.{part}.weight")]))
    artefact = local_artefact(paths[1].name, tmp_path)
    assert (artefact.name, artefact.source) == ("m", f"file:{paths[0].name}")
    assert [file.path for file in artefact.weights] == [path.name for path in paths]
    lock = Lock().put(artefact)
    assert check(lock, tmp_path) == ()
    flipped(-1)(paths[2])
    (found,) = check(lock, tmp_path)
    assert (found.file.path, found.kind, found.parts) == (
        paths[2].name,
        Kind.CONTENT,
        (Part.WEIGHTS,),
    )
    paths[0].unlink()
    kinds = {drift.file.path: drift.kind for drift in check(lock, tmp_path)}
    assert kinds == {paths[0].name: Kind.MISSING, paths[2].name: Kind.CONTENT}
