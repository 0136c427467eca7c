"""A smaller copy of a model: each weight rounded to fewer bits, tensor by tensor, in bounded memory.

`mix` says what each tensor becomes and `ggml` rounds; the metadata is copied byte for byte but for the file type. The
tensors are those that llama.cpp's own quantiser writes.
"""

from __future__ import annotations

import shutil
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from rung.errors import InputError, ModelError, StorageError
from rung.files import whole_file
from rung.models.filetypes import FileType
from rung.models.ggml import Quantizer, Weights, open_quantizer
from rung.models.header import Header, Tensor, read_header
from rung.models.metadata import MAGIC
from rung.models.mix import Target, plan
from rung.models.tensortypes import TensorType

SLAB = 1 << 20
"""Weights rounded at once by a thread: 4 MiB as float32."""

LARGEST = 65_504.0
"""The largest float16: the scales of every block are float16, and beyond it they would be infinite."""

GGUF_VERSION = 3
QUANTIZATION_VERSION = 2
REPLACED = (
    "general.quantization_version",
    "general.file_type",
    "split.no",
    "split.count",
    "split.tensors.count",
)
"""Keys of the source that the copy does not take over."""

Progress = Callable[[int, int], None]
"""Called with the bytes of the source that are done, and all of them."""


class Fallback(msgspec.Struct, frozen=True):
    """A tensor that got another type because its rows do not divide into the blocks of the right one."""

    tensor: str
    columns: int
    wanted: str
    got: str


class Quantized(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        source, output: the files.
        file_type: of the copy, as `Q4_K_M`.
        source_bytes, output_bytes: sizes of the files.
        parameters: weights.
        bits_per_weight: bits of tensor data in the copy for each of them.
        tensors: how many tensors have each type.
        fallbacks: tensors that could not have their type.
        seconds: wall time.
    """

    source: str
    output: str
    file_type: str
    source_bytes: int
    output_bytes: int
    parameters: int
    bits_per_weight: float
    tensors: Mapping[str, int]
    fallbacks: tuple[Fallback, ...]
    seconds: float


def quantize(
    source: Path,
    output: Path,
    kind: FileType,
    *,
    threads: int,
    replace: bool = False,
    progress: Progress = lambda done, total: None,
) -> Quantized:
    """Write a smaller copy of a model.

    Args:
        source: a dense model as GGUF in F32, F16 or BF16.
        output: where the copy goes; it appears when it is whole.
        kind: the file type to make.
        threads: rows are rounded on so many at once; the bytes do not depend on it.
        replace: whether a file that is there may be replaced.
        progress: told what is done.

    Raises:
        ModelError: the source is no model that can be quantised, or a weight in it is no number.
        InputError: `output` is the source, or is there already.
        StorageError: the copy cannot be written.
        EngineUnavailable: the library that rounds is not there.
    """
    started = time.perf_counter()
    header = read_header(source)
    _check_output(source, output, replace=replace)
    targets = plan(header, kind)
    quantizer = open_quantizer()
    data_bytes = sum(target.size for target in targets)
    _check_room(output, data_bytes)
    with (
        _opened(source) as file,
        whole_file(output) as copy,
        ThreadPoolExecutor(threads) as pool,
    ):
        copy.write(_front(file, header, targets, kind))
        _Copy(file, copy, header, quantizer, pool, threads, progress).write(targets)
        written = copy.tell()
    return Quantized(
        source=str(source),
        output=str(output),
        file_type=kind.name,
        source_bytes=header.size,
        output_bytes=written,
        parameters=header.parameters,
        bits_per_weight=data_bytes * 8 / header.parameters,
        tensors=dict(Counter(target.type.name for target in targets).most_common()),
        fallbacks=tuple(_fallbacks(targets)),
        seconds=time.perf_counter() - started,
    )


def _opened(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise ModelError(f"cannot read {str(source)!r}: {error.strerror}") from error


def _check_output(source: Path, output: Path, *, replace: bool) -> None:
    """Refuse to write over the source, or over anything that nobody agreed to lose."""
    if not output.exists():
        return
    if output.samefile(source):
        raise InputError(
            f"{str(output)!r} is the model itself", hint="name another file for the copy"
        )
    if output.is_dir():
        raise InputError(f"{str(output)!r} is a folder", hint="name the file to write")
    if not replace:
        raise InputError(f"{str(output)!r} is there already", hint="--force replaces it")


def _check_room(output: Path, needed: int) -> None:
    """Say before the work that the disk is too small for it; what else fills it meanwhile is met when writing."""
    folder = next((parent for parent in output.absolute().parents if parent.is_dir()), None)
    if folder is None:
        return
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the copy takes {needed / 1e6:,.1f} MB and {str(folder)!r} has {free / 1e6:,.1f} MB free",
            hint="free some space, or name another folder",
        )


def _fallbacks(targets: Sequence[Target]) -> Iterator[Fallback]:
    for target in targets:
        if target.wanted is not None:
            tensor = target.tensor
            yield Fallback(tensor.name, tensor.columns, target.wanted.name, target.type.name)


def _front(file: BinaryIO, header: Header, targets: Sequence[Target], kind: FileType) -> bytes:
    """Everything before the tensors' data, filled up to the alignment."""
    entries = [
        _bytes(file, entry.start, entry.end)
        for key, entry in header.metadata.items()
        if key not in REPLACED
    ]
    entries.append(_entry("general.quantization_version", QUANTIZATION_VERSION))
    entries.append(_entry("general.file_type", kind.value))
    infos, offset = [], 0
    for target in targets:
        infos.append(_info(target, offset))
        offset += _padded(target.size, header.alignment)
    counts = struct.pack("<IQQ", GGUF_VERSION, len(targets), len(entries))
    front = MAGIC + counts + b"".join(entries) + b"".join(infos)
    return front.ljust(_padded(len(front), header.alignment), b"\0")


def _bytes(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _entry(key: str, value: int) -> bytes:
    """A metadata entry of type uint32."""
    return _text(key) + struct.pack("<II", 4, value)


def _info(target: Target, offset: int) -> bytes:
    """The entry of a tensor; dimensions of one element at the end are not written."""
    shape = list(target.tensor.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    form = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, int(target.type), offset)
    return _text(target.tensor.name) + form


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


class _Copy:
    """Writes the tensors: slabs of rows are read in order, rounded on threads, and written in order."""

    def __init__(
        self,
        source: BinaryIO,
        copy: BinaryIO,
        header: Header,
        quantizer: Quantizer,
        pool: ThreadPoolExecutor,
        threads: int,
        progress: Progress,
    ) -> None:
        self._source = source
        self._copy = copy
        self._header = header
        self._quantizer = quantizer
        self._pool = pool
        self._ahead = 2 * threads
        self._progress = progress
        self._done = 0
        self._total = sum(tensor.size for tensor in header.tensors)

    def write(self, targets: Sequence[Target]) -> None:
        """Write the data of every tensor, each filled up to the alignment."""
        self._progress(0, self._total)
        for target in targets:
            waiting: deque[tuple[Future[bytes], int]] = deque()
            for slab in self._slabs(target.tensor):
                waiting.append((self._pool.submit(self._rounded, slab, target), len(slab)))
                if len(waiting) > self._ahead:
                    self._finish(*waiting.popleft())
            while waiting:
                self._finish(*waiting.popleft())
            gap = _padded(target.size, self._header.alignment) - target.size
            self._copy.write(b"\0" * gap)

    def _finish(self, rounded: Future[bytes], size: int) -> None:
        self._copy.write(rounded.result())
        self._done += size
        self._progress(self._done, self._total)

    def _slabs(self, tensor: Tensor) -> Iterator[bytes]:
        """The data of a tensor, some whole rows at a time."""
        row = tensor.type.row_bytes(tensor.columns)
        rows = max(1, SLAB // tensor.columns)
        self._source.seek(tensor.start)
        for first in range(0, tensor.rows, rows):
            size = min(rows, tensor.rows - first) * row
            slab = self._source.read(size)
            if len(slab) < size:
                raise ModelError(
                    f"{str(self._header.path)!r} became shorter while it was read",
                    hint="wait until nothing writes to it any more",
                )
            yield slab

    def _rounded(self, slab: bytes, target: Target) -> bytes:
        """A slab as the copy has it."""
        tensor = target.tensor
        if tensor.type not in _FLOATS:
            return slab
        weights = _FLOATS[tensor.type](slab).reshape(-1, tensor.columns)
        # The comparison is also false for NaN, which the largest of an array is when one is in it.
        limit = LARGEST if target.type is not tensor.type else float(np.finfo(np.float32).max)
        if not np.abs(weights).max() <= limit:
            self._refuse(weights, target, limit)
        if target.type is tensor.type:
            return slab
        return self._quantizer.quantize(weights, target.type).tobytes()

    def _refuse(self, weights: Weights, target: Target, limit: float) -> None:
        wrong = weights[~(np.abs(weights) <= limit)]
        raise ModelError(
            f"tensor {target.tensor.name!r} of {str(self._header.path)!r} holds {wrong[0]:g} among its weights, "
            f"which {target.type.name} cannot hold",
            hint="the model is damaged, or its training failed; fetch or convert it again",
        )


def _from_f32(slab: bytes) -> Weights:
    return np.frombuffer(slab, dtype="<f4")


def _from_f16(slab: bytes) -> Weights:
    return np.frombuffer(slab, dtype="<f2").astype(np.float32)


def _from_bf16(slab: bytes) -> Weights:
    """BF16 is the upper half of a float32."""
    upper: npt.NDArray[np.uint32] = np.frombuffer(slab, dtype="<u2").astype(np.uint32)
    return (upper << 16).view(np.float32)


_FLOATS: Mapping[TensorType, Callable[[bytes], Weights]] = {
    TensorType.F32: _from_f32,
    TensorType.F16: _from_f16,
    TensorType.BF16: _from_bf16,
}
