"""ggml's quantiser, called in the library that comes with the embedded engine: no compiler, the engine's own rounding.

One function of the library is used, on arrays made here whose sizes fit; files are `quantize`'s. Its rows are
independent of each other, so any number of them can be handed over at once, from several threads.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rung.errors import EngineUnavailable, InternalError
from rung.models.tensortypes import TensorType

Weights = npt.NDArray[np.float32]
_NAMES = {TensorType.F16: b"f16", TensorType.Q8_0: b"q8_0", TensorType.Q4_K: b"q4_K"}


class Quantizer:
    """Rounds rows of weights to a tensor type."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._quantize = _function(
            library,
            "ggml_quantize_chunk",
            ctypes.c_size_t,
            [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p],
        )  # fmt: skip

    def quantize(self, weights: Weights, kind: TensorType) -> npt.NDArray[np.uint8]:
        """Round rows; Python's lock is free meanwhile.

        Args:
            weights: (rows, columns) finite weights; `kind`'s block divides the columns.
            kind: what to round to.

        Returns:
            (rows * bytes of a row,) the rows as the file holds them.
        """
        rows, columns = weights.shape
        weights = np.ascontiguousarray(weights)
        target = np.empty(rows * kind.row_bytes(columns), dtype=np.uint8)
        written = self._quantize(
            int(kind), weights.ctypes.data, target.ctypes.data, 0, rows, columns, None
        )
        if written != target.size:
            raise InternalError(
                f"ggml wrote {written} bytes of {kind.name} where {target.size} belong"
            )
        return target


def open_quantizer() -> Quantizer:
    """Load the library that the embedded engine comes with.

    Raises:
        EngineUnavailable: it is not installed, cannot be loaded, or numbers its types differently.
    """
    path = _library()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _unusable(f"the engine's library cannot be loaded: {error}") from error
    type_name = _function(library, "ggml_type_name", ctypes.c_char_p, [ctypes.c_int])
    row_size = _function(library, "ggml_row_size", ctypes.c_size_t, [ctypes.c_int, ctypes.c_int64])
    for kind, name in _NAMES.items():
        if type_name(int(kind)) != name or row_size(int(kind), 256) != kind.row_bytes(256):
            raise _unusable(f"the engine's library knows another type by the number {int(kind)}")
    return Quantizer(library)


def _library() -> Path:
    """The file of the engine's library, found without running any of it."""
    found = importlib.util.find_spec("xllamacpp")
    folders = found.submodule_search_locations if found is not None else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("xllamacpp*")):
            if path.suffix in (".so", ".pyd"):
                return path
    raise _unusable("the engine's library (xllamacpp) is not installed")


def _function(
    library: ctypes.CDLL, name: str, result: type, arguments: list[type]
) -> Callable[..., object]:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise _unusable(f"the engine's library has no {name}") from None
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]  # a ctypes function, typed by the two lines above


def _unusable(what: str) -> EngineUnavailable:
    return EngineUnavailable(what, hint="install Rung's packages again: pip install rung")
