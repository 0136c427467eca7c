"""llama.cpp without Rung, out of the same wheel: its own HTTP server, and bare decoding.

Each runs in a process of its own with one slot or sequence and its own defaults otherwise.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from rung.engines.llama_cpp.parameters import ModelParameters
from rung.task import Message

SERVER = """
import sys, xllamacpp
path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = path, context, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
params.verbosity = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""

DECODE = """
import sys, time
from rung.engines.llama_cpp.parameters import ModelParameters
from rung.engines.llama_cpp.scoring.capi import Model, Run
path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = Model(ModelParameters(path=path, context=context, threads=threads), 1)
for line in sys.stdin:
    prompt, count = [int(number) for number in line.split()]
    model.clear()
    model.evaluate([Run(0, 0, list(range(prompt)))], lambda: False)
    cpu, wall = time.process_time(), time.perf_counter()
    for step in range(count):
        model.evaluate([Run(0, prompt + step, [17])], lambda: False)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


class _Program:
    """A Python program in a process of its own."""

    def __init__(self, code: str, parameters: ModelParameters) -> None:
        arguments = [parameters.path, str(parameters.context), str(parameters.threads)]
        # Spared libgomp's spinning, as Rung's own children are: it is worst for whoever calls most often.
        quiet = {"GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(parameters.threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | quiet,
            start_new_session=True,  # as Rung's children are: sessions share the processor evenly
            text=True,
        )
        self.pid = self._process.pid

    def say(self, line: str) -> None:
        """A line to its standard input."""
        if self._process.stdin is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def hear(self) -> str:
        """A line of its standard output."""
        line = self._process.stdout.readline().strip() if self._process.stdout is not None else ""
        return line or sys.exit("the program beside Rung broke off")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class BareDecoder(_Program):
    """`llama_decode`, token after token, as llama-bench calls it.

    Args:
        parameters: the model, its context and threads.
    """

    def __init__(self, parameters: ModelParameters) -> None:
        super().__init__(DECODE, parameters)

    def decode(self, prompt: int, count: int) -> tuple[float, float]:
        """Wall and CPU seconds of `count` tokens after a prompt of `prompt` tokens."""
        self.say(f"{prompt} {count}")
        wall, cpu = self.hear().split()
        return float(wall), float(cpu)


class BareServer(_Program):
    """The HTTP server, on a port of its own, with its prefix cache on.

    Args:
        parameters: the model, its context and threads.
    """

    def __init__(self, parameters: ModelParameters) -> None:
        super().__init__(SERVER, parameters)
        self._connection = http.client.HTTPConnection(self.hear().removeprefix("http://"))

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to one request on a kept connection."""
        raw = msgspec.json.encode(body)
        try:
            self._connection.request("POST", path, raw)
            reply = self._connection.getresponse()
        except (BrokenPipeError, http.client.RemoteDisconnected):
            # It hung up while others had their turn.
            self._connection.close()
            self._connection.request("POST", path, raw)
            reply = self._connection.getresponse()
        answer = msgspec.json.decode(reply.read())
        if "error" in answer:
            sys.exit(f"{path}: {answer['error']}")
        return answer

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.ask("/tokenize", {"content": text, "parse_special": True})["tokens"])

    def render(self, messages: Sequence[Message]) -> str:
        """A prompt as the model's template writes it."""
        return str(self.ask("/apply-template", {"messages": plain(messages)})["prompt"])

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        super().close()


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as the server takes them."""
    return [{"role": message.role, "content": message.content} for message in messages]
