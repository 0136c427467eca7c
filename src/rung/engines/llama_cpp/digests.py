"""SHA-256 of model files, computed once for as long as a file stays as it is."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from rung.engines.llama_cpp.model_file import Fingerprint, fingerprint
from rung.errors import EngineUnavailable, ModelError


def file_digest(path: str) -> str:
    """The hexadecimal SHA-256 of a file, about a second for each GB the first time.

    Raises:
        EngineUnavailable: it cannot be read.
    """
    try:
        return _digest(path, fingerprint(Path(path)))
    except ModelError as error:
        raise EngineUnavailable(error.message, hint=error.hint) from error
    except OSError as error:
        raise EngineUnavailable(
            f"the model file {path!r} cannot be read: {error.strerror}",
            hint="check the path in rung.toml and the file's permissions",
        ) from error


@functools.lru_cache(maxsize=64)
def _digest(path: str, print_: Fingerprint) -> str:
    """The digest; `print_` makes a changed file another question."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
