"""A bare engine that completes under grammars: JSON requests on stdin, their texts as JSON on stdout.

Started by the tests as a process of its own, because the bare engine can end the process it lives in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, folder: Path) -> None:
    """Answer the requests on stdin (grammar, seed, max_tokens) with [text, why it ended] in `answers.json`."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = 1024
    parameters.n_parallel = 1
    parameters.hostnames = [str(folder / "engine.sock")]
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    answers = []
    for request in json.load(sys.stdin):
        body = {"prompt": "Write: ", "temperature": 1.0, "top_k": 0, **request}
        choice = server.handle_completions(body)["choices"][0]
        answers.append([choice["text"], choice["finish_reason"]])
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
