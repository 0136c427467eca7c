"""A hub with models and a project to pull them into, for the tests of `pull`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gguf_models import tiny_model
from hub import Hub
from rung.models.hardware.machine import Device, DeviceKind, Machine
from rung.models.lock.drift import check
from rung.models.lock.file import LOCK_NAME, read_lock
from rung.models.pull.events import Event, Tell
from rung.models.pull.fitting import Fitting
from rung.models.pull.pulling import Pulled, pull
from rung.models.reference import parse_reference
from rung.models.sources.opening import Sources

REPO = "maker/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
REFERENCE = f"hf:{REPO}:Q4_K_M"

LARGE = Machine(
    name="large",
    devices=(
        Device(
            name="CPU", kind=DeviceKind.HOST, backend="cpu", total=64 * 2**30, available=60 * 2**30
        ),
    ),
    detected=False,
)


def sha256(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model(folder: Path, **shape: object) -> Path:
    """A tiny model with a template that knows tools."""
    path = folder / f"{hashlib.sha256(repr(sorted(shape.items())).encode()).hexdigest()[:8]}.gguf"
    if not path.exists():
        tiny_model(path, **{"layers": 2, **shape})  # type: ignore[arg-type]  # the caller knows them
    return path


async def pulled(
    reference: str,
    root: Path,
    *,
    tell: Tell = lambda event: None,
    force: bool = False,
    projector: str | None = None,
    into: str | None = None,
) -> Pulled:
    """`pull` with real sources, for a machine that everything fits."""
    async with Sources() as sources:
        return await pull(
            parse_reference(reference),
            root,
            sources,
            fit=Fitting(LARGE, context=None, force=False),
            tell=tell,
            force=force,
            projector=projector,
            into=into,
        )


class Told:
    """Everything that was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def kinds(self) -> list[str]:
        """Names of what was told, each once, in order."""
        return list(dict.fromkeys(type(event).__name__ for event in self.events))


def visible(root: Path) -> list[str]:
    """Names of what is to be seen in the folder of models."""
    folder = root / "models"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def left_over(root: Path) -> list[str]:
    """Endings of what lies in the folder of unfinished files."""
    folder = root / "models" / ".part"
    return sorted(path.suffix for path in folder.iterdir()) if folder.is_dir() else []


def drift(root: Path) -> list[object]:
    """What `rung verify` would say."""
    return list(check(read_lock(root / LOCK_NAME), root))


def pull_environment(root: Path, hub: Hub) -> Mapping[str, str]:
    """Of a user who has no other program's store."""
    own = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    places = {name: str(root / ".home") for name in ("HOME", "HF_HOME", "RUNG_HOME")}
    nowhere = {"OLLAMA_MODELS": str(root / ".none"), "PYTHONWARNINGS": "error"}
    return {**own, **hub.environment, **places, **nowhere}


def start(root: Path, hub: Hub, words: Sequence[str]) -> subprocess.Popen[str]:
    """The real command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "rung", "pull", *words],
        cwd=root,
        env=pull_environment(root, hub),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def split_model(folder: Path, source: Path, tensors: int) -> list[Path]:
    """The same model in parts of so many tensors, as the engine's splitter writes them."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(folder / "big-Q8_0.gguf", "llama", split_max_tensors=tensors)
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = entry.types[0]
        items = entry.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, entry.contents(), kind, sub_type=items)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("big-Q8_0-*.gguf"))
