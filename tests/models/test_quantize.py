"""Copies of real files, read back with the independent `gguf` library and run by the real engine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_models import Tensors, weights, write_model

from gguf_models import tiny_model
from rung.errors import InputError, ModelError, StorageError
from rung.models.filetypes import FileType, file_type_name
from rung.models.header import read_header
from rung.models.quantize import Quantized, quantize

DIGESTS = {
    FileType.Q8_0: "22bb9cab37dea9ec",
    FileType.Q6_K: "6c0d405a2f5600ef",
    FileType.Q5_K_M: "552301fb93a8ece7",
    FileType.Q5_K_S: "cbd5fbf43ac5370a",
    FileType.Q4_K_M: "fc0475c05526d598",
    FileType.Q4_K_S: "81ef2978e9dbbd7e",
    FileType.Q3_K_L: "3fe5fff408bc71c9",
    FileType.Q3_K_M: "61002020e162e782",
    FileType.Q3_K_S: "1b4a8a1095822f1f",
}
"""Of the tensors that llama.cpp's own `llama_model_quantize` (b11549) made of `model`."""

ERRORS = {"Q8_0": 0.01, "Q6_K": 0.025, "Q5_K": 0.045, "Q4_K": 0.085, "Q3_K": 0.17}
"""Largest deviation of a rounded matrix, as a share of the weights' own (root mean squares)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine layers in F32."""
    path = tmp_path_factory.mktemp("quantize") / "model.gguf"
    return write_model(path, weights(layers=9, inner=512, rows=8))


def copied(
    source: Path, kind: FileType, **options: Any
) -> Quantized:  # Any: quantize's own options
    """A copy beside its source."""
    output = source.with_name(f"{source.stem}-{kind.name}.gguf")
    return quantize(source, output, kind, threads=2, replace=True, **options)


def tensors(path: Path | str) -> dict[str, Any]:  # Any: gguf's own tensors
    """What an independent reader finds in a file."""
    import gguf

    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def digest(path: Path | str) -> str:
    """Of names, types, shapes and data of all tensors."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors(path).items()):
        total.update(f"{name} {tensor.tensor_type.name} {tensor.shape.tolist()}\n".encode())
        total.update(tensor.data.tobytes())
    return total.hexdigest()[:16]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="digests were taken on x86-64")
@pytest.mark.parametrize("kind", list(FileType))
def test_tensors_are_those_of_llama_cpps_own_quantiser(model: Path, kind: FileType) -> None:
    """Bit for bit, for every file type."""
    assert digest(copied(model, kind).output) == DIGESTS[kind]


@pytest.mark.parametrize("kind", list(FileType))
def test_what_comes_back_is_close_to_what_went_in(model: Path, kind: FileType) -> None:
    """Every matrix, read with another library's arithmetic; what is not rounded is the same."""
    import gguf

    before, after = tensors(model), tensors(copied(model, kind).output)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        was = before[name].data.astype(np.float32)
        now = gguf.dequantize(tensor.data, tensor.tensor_type)
        off = float(np.sqrt(np.square(now - was).mean() / np.square(was).mean()))
        assert off <= ERRORS.get(tensor.tensor_type.name, 0.0), (name, tensor.tensor_type.name)


def test_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    """A tensor of several slabs, on one thread and on three."""
    large = np.linspace(-1, 1, 2500 * 1024, dtype=np.float32).reshape(2500, 1024)
    model = write_model(tmp_path / "m.gguf", weights(layers=1) | {"output.weight": large})
    contents = []
    for threads in (1, 3):
        output = tmp_path / f"{threads}.gguf"
        quantize(model, output, FileType.Q8_0, threads=threads)
        contents.append(output.read_bytes())
    assert contents[0] == contents[1]


def test_the_metadata_is_kept_but_for_the_file_type(model: Path) -> None:
    """In order, byte for byte; and the result counts what is in the file."""
    done = copied(model, FileType.Q4_K_M)
    old, new = read_header(model), read_header(Path(done.output))
    values = {key: entry.value for key, entry in new.metadata.items()}
    was = {key: entry.value for key, entry in old.metadata.items()}
    assert values == {
        **{key: value for key, value in was.items() if key != "general.file_type"},
        "general.quantization_version": 2,
        "general.file_type": 15,
    }
    assert file_type_name(new.number("general.file_type")) == "Q4_K_M"
    assert done.output_bytes == Path(done.output).stat().st_size == new.size
    assert done.parameters == new.parameters
    assert done.bits_per_weight == pytest.approx(
        sum(tensor.size for tensor in new.tensors) * 8 / new.parameters
    )
    assert sum(done.tensors.values()) == len(new.tensors)


def test_f16_and_bf16_are_sources_too(tmp_path: Path) -> None:
    """A copy of the halved file is a copy of its values in F32."""
    exact = weights(layers=1)
    half = {k: v.astype(np.float16) if v.ndim > 1 else v for k, v in exact.items()}
    upper = {k: (v.view(np.uint32) >> 16) for k, v in exact.items()}
    bf16 = {k: upper[k].astype(np.uint16) if v.ndim > 1 else v for k, v in exact.items()}
    same: dict[str, tuple[Tensors, Tensors]] = {
        "f16": (half, {k: v.astype(np.float32) for k, v in half.items()}),
        "bf16": (
            bf16,
            {k: (upper[k] << 16).view(np.float32) if v.ndim > 1 else v for k, v in exact.items()},
        ),
    }
    for name, (narrow, wide) in same.items():
        first = copied(write_model(tmp_path / f"{name}.gguf", narrow), FileType.Q4_K_M)
        second = copied(write_model(tmp_path / f"{name}-wide.gguf", wide), FileType.Q4_K_M)
        assert digest(first.output) == digest(second.output)


@pytest.mark.parametrize("kind", [FileType.Q8_0, FileType.Q6_K, FileType.Q4_K_M, FileType.Q3_K_M])
def test_extreme_weights_come_back_finite(tmp_path: Path, kind: FileType) -> None:
    """All zero, all equal, the largest and the smallest float16, one outlier in a row: nothing crashes or overflows."""
    import gguf

    extremes = weights(layers=9, rows=6)
    for name, matrix in extremes.items():
        if matrix.ndim > 1:
            matrix[0], matrix[1], matrix[2] = 0, 1e-45, 65_504
            matrix[3, ::2], matrix[3, 1::2] = 65_504, -65_504
            matrix[4, 7] = -65_504 if "k" in name else 6e-8
    done = copied(write_model(tmp_path / "m.gguf", extremes), kind)
    for tensor in tensors(done.output).values():
        assert np.isfinite(gguf.dequantize(tensor.data, tensor.tensor_type)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", ["blk.0.ffn_up.weight", "blk.1.attn_output.bias"])
def test_a_weight_that_is_no_number_is_refused(tmp_path: Path, name: str, value: float) -> None:
    """The sentence names the tensor and the value, and nothing is left behind."""
    tensors = weights()
    tensors[name].reshape(-1)[100] = value
    path = write_model(tmp_path / "m.gguf", tensors)
    if value == 1e30 and name.endswith("bias"):
        copied(path, FileType.Q4_K_M)
        return
    with pytest.raises(ModelError, match=f"{name}.*holds {value:g}".replace("+", r"\+")):
        copied(path, FileType.Q4_K_M)
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_the_source_and_files_that_are_there_are_safe(tmp_path: Path, model: Path) -> None:
    """A link to the source counts as the source; an old file stays unless it may go."""
    source = tmp_path / "m.gguf"
    source.write_bytes(model.read_bytes())
    (tmp_path / "link.gguf").symlink_to(source)
    (tmp_path / "old.gguf").write_text("old")
    for name, replace, sentence in (
        ("m.gguf", True, "is the model itself"),
        ("link.gguf", True, "is the model itself"),
        ("old.gguf", False, "is there already"),
        (".", True, "is a folder"),
    ):
        with pytest.raises(InputError, match=sentence):
            quantize(source, tmp_path / name, FileType.Q8_0, threads=1, replace=replace)
    assert (tmp_path / "old.gguf").read_text() == "old"
    assert source.read_bytes() == model.read_bytes()
    quantize(source, tmp_path / "old.gguf", FileType.Q8_0, threads=1, replace=True)
    assert (tmp_path / "old.gguf").read_bytes()[:4] == b"GGUF"


def test_a_source_that_shrinks_meanwhile_is_one_sentence(tmp_path: Path) -> None:
    """Nothing is mapped, so nothing crashes, and no half copy stays."""
    path = write_model(tmp_path / "m.gguf", weights(layers=4, columns=1024, rows=600))

    def cut(done: int, total: int) -> None:
        os.truncate(path, total // 4)

    with pytest.raises(ModelError, match="became shorter while it was read"):
        copied(path, FileType.Q8_0, progress=cut)
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_a_target_that_cannot_be_written_is_a_storage_error(tmp_path: Path, model: Path) -> None:
    """A path through a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*out\.gguf"):
        quantize(model, tmp_path / "file" / "out.gguf", FileType.Q8_0, threads=1)


def test_progress_ends_at_the_whole(model: Path) -> None:
    """It only grows, from nothing to every byte of the tensors."""
    seen: list[tuple[int, int]] = []
    copied(model, FileType.Q8_0, progress=lambda done, total: seen.append((done, total)))
    total = sum(tensor.size for tensor in read_header(model).tensors)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


GENERATE = """
import json, sys, xllamacpp
given = json.load(sys.stdin)
parameters = xllamacpp.CommonParams()
parameters.model.path = given["model"]
parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 128, 1, 1
parameters.cache_ram_mib = 0
server = xllamacpp.Server(parameters)
answer = server.handle_completions(
    {"prompt": given["prompt"], "max_tokens": 8, "temperature": 0, "logprobs": 1}
)
print(json.dumps([answer["choices"][0]["text"], answer["usage"]["completion_tokens"]]))
"""


@pytest.mark.parametrize("kind", [FileType.Q4_K_M, FileType.Q3_K_S])
def test_the_engine_loads_a_copy_and_answers(tmp_path: Path, kind: FileType) -> None:
    """In a process of its own, with the library that the embedded engine uses."""
    done = copied(tiny_model(tmp_path / "tiny.gguf"), kind)
    ran = subprocess.run(
        [sys.executable, "-c", GENERATE],
        input=json.dumps({"model": done.output, "prompt": "The answer is"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": "1", "GGML_NO_BACKTRACE": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    text, count = json.loads(ran.stdout.splitlines()[-1])
    assert text
    assert 1 <= count <= 8


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM in the middle of the work: the right exit code, no traceback, no half copy."""
    source = write_model(
        tmp_path / "m.gguf", {**weights(layers=1), "output.weight": np.ones((30_000, 1024), "f4")}
    )
    (tmp_path / "out").mkdir()
    run = subprocess.Popen(
        [sys.executable, "-m", "rung", "quantize", source, tmp_path / "out" / "q.gguf", "Q3_K_S",
         "--threads", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not os.listdir(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(number)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (code, "")
    assert "Traceback" not in errors
    assert os.listdir(tmp_path / "out") == []
