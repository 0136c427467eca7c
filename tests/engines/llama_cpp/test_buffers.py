"""What the engine's log says of its memory is read, and what it is asked never gets into that log."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from supervised import parameters

from rung.engines.llama_cpp.buffers import BufferLog, Buffers
from rung.engines.llama_cpp.build import engine_build
from rung.engines.llama_cpp.handshake import Instructions, Ready
from rung.engines.llama_cpp.role import Role

MIB = 1024 * 1024
LINES = """
0.00.012.702 I load_tensors:   CPU_Mapped model buffer size =   196.25 MiB
0.00.012.802 I load_tensors:   CPU_REPACK model buffer size =   124.50 MiB
0.00.016.654 I llama_context:        CPU  output buffer size =     0.25 MiB
0.00.016.700 I llama_kv_cache_iswa: creating non-SWA KV cache, size = 1024 cells
0.00.016.834 I llama_kv_cache:        CPU KV buffer size =     2.00 MiB
0.00.016.934 I llama_kv_cache:        CPU KV buffer size =    18.50 MiB
0.00.016.934 I llama_memory_recurrent:        CPU RS buffer size =     3.00 MiB
0.00.020.463 I sched_reserve:        CPU compute buffer size =     5.00 MiB
0.00.020.563 I sched_reserve:        CPU compute buffer size =     4.00 MiB
0.00.020.663 I sched_reserve:      CUDA0 compute buffer size =     7.00 MiB
""".strip().splitlines()


def read(*lines: str) -> Buffers:
    """What a log of these lines says."""
    log = BufferLog()
    for line in lines:
        log.take(line)
    return log.buffers()


def test_buffers_are_read_by_device() -> None:
    """Caches of several kinds are added; evaluations take turns in the largest working memory."""
    assert read(*LINES) == Buffers(
        weights={"CPU_Mapped": 196 * MIB + MIB // 4, "CPU_REPACK": 124 * MIB + MIB // 2},
        cache={"CPU": 20 * MIB + MIB // 2},
        state={"CPU": 3 * MIB},
        compute={"CPU": 5 * MIB, "CUDA0": 7 * MIB},
        output={"CPU": MIB // 4},
    )


@pytest.mark.parametrize(
    "line",
    [
        "load_tensors:   CPU_Mapped model buffer size =   196.25 MiB",  # without a level
        "0.1 W load_tensors:   CPU_Mapped model buffer size =   196.25 MiB",
        "0.1 I load_tensors:   CPU_Mapped model buffer size =  -196.25 MiB",
        "0.1 I load_tensors:   CPU_Mapped model buffer size = 1e9 MiB",
        "0.1 I load_tensors:   CPU_Mapped model buffer size = 9999999999.00 MiB",
        "0.1 I load_tensors:   CPU_Mapped model buffer size =   196.25 GiB",
        "0.1 I load_tensors:   CPU_Mapped other buffer size =   196.25 MiB",
        "0.1 I load_tensors:   CPU_Mapped model buffer size =   196.25 MiB and more",
        "0.1 I said: the CPU model buffer size =   196.25 MiB",
        f"0.1 I load_tensors:   {'x' * 65} model buffer size =   196.25 MiB",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    """Only a whole line in the engine's own words counts."""
    assert read(line).total == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=20))
@example(["0.0 I " + "a" * 1999])
@example([f"0.0 I f: D{number} KV buffer size = 1.00 MiB" for number in range(1000)])
def test_any_text_is_taken(lines: list[str]) -> None:
    """Whatever a log says, reading it ends and holds little."""
    found = read(*lines)
    assert len(found.cache) <= 64


def test_information_is_no_reason_for_a_failure() -> None:
    """Nor is what the log quotes of the model; what has a level or follows nothing quoted may be one."""
    log = BufferLog()
    assert log.take("0.1 I srv init: init: chat template, example_format: 'error in the system")
    assert log.take("failed is what the user said")
    assert not log.take("0.1 E llama_model_load: error loading model")
    assert not log.take("terminate called after throwing an instance of 'std::bad_alloc'")
    assert log.take("0.1 I print_info: general.name = error")


def child(path: Path, role: Role, socket_path: Path) -> tuple[subprocess.Popen[bytes], Ready]:
    """A child program, started by hand."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", role.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = Instructions(
        parameters=parameters(path), socket=str(socket_path), key="key", address_space=None
    )
    process.stdin.write(msgspec.json.encode(told) + b"\n")
    process.stdin.flush()
    return process, msgspec.json.decode(process.stdout.readline(), type=Ready)


def said(process: subprocess.Popen[bytes]) -> str:
    """All that a child wrote to standard error, once it is ended."""
    process.kill()
    with process:
        assert process.stderr is not None
        return process.stderr.read().decode()


def test_a_server_tells_its_memory_and_nothing_it_is_asked(tiny: Path, tmp_path: Path) -> None:
    """It falls silent before the first request."""
    process, ready = child(tiny, Role.SERVER, tmp_path / "s.sock")
    try:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(tmp_path / "s.sock"))
        for path, body in {
            "/completion": {"prompt": "the secret word is card", "n_predict": 2},
            "/v1/chat/completions": {
                "messages": [{"role": "user", "content": "the secret word"}],
                "max_tokens": 2,
            },
            "/completion?": {"prompt": "the secret word " * 400},  # more than the context
        }.items():
            content = json.dumps(body)
            connection.request("POST", path, content, {"Authorization": "Bearer key"})
            connection.getresponse().read()
        connection.close()
    finally:
        log = said(process)
    assert "secret" not in log
    found = read(*log.splitlines())
    assert (found.weights, found.cache) == ({"CPU_Mapped": 3 * MIB}, {"CPU": 2 * MIB})
    assert 4 * MIB < found.compute["CPU"] < 6 * MIB
    assert ready.build == engine_build()


def test_a_scorer_tells_its_memory(tiny: Path, tmp_path: Path) -> None:
    """Only that, of all that the library would say."""
    process, ready = child(tiny, Role.SCORER, tmp_path / "s.sock")
    log = said(process)
    found = read(*log.splitlines())
    assert found.cache == {"CPU": MIB}
    assert found.weights
    assert found.compute
    assert all(" buffer size = " in line for line in log.splitlines())
    assert ready.build == engine_build()
