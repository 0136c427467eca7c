"""`rung pull` killed at many moments: whether a bad file is ever visible, and what is fetched again.

    python bench/pull_kill.py --kills 200 --seed 0 --size-mb 16

A random model of about `--size-mb` megabytes lies on a loopback server that imitates Hugging Face (with `--source url`,
a plain web server that publishes no digest) and sends `--rate-mb` megabytes a second. The real command is started and
killed with SIGKILL, itself or with its children: when a random number of bytes is there, at a random moment after the
last byte (while the file is hashed or scanned), or as soon as the file is visible (while it is pinned). After every
kill the folder of models holds nothing or the whole right file, and `rung.lock` is none or whole. When the file is
visible and not pinned, the next pull is let be and has to pin it. Whenever all is pinned it is verified, and everything
begins anew. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "models" / "pull")]

from killing import Killer  # noqa: E402
from pullable import FILE, REFERENCE, REPO, model, sha256  # noqa: E402

from hub import Hub  # noqa: E402

LAYER_MB = 1.31
"""Megabytes of a layer of the random model with 256 columns."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", choices=["hf", "url"], default="hf")
    parser.add_argument("--size-mb", type=float, default=16.0)
    parser.add_argument("--rate-mb", type=float, default=40.0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        Hub(rate=arguments.rate_mb * 1e6) as hub,
    ):
        layers = max(1, round(arguments.size_mb / LAYER_MB))
        original = model(Path(folder), layers=layers, seed=arguments.seed)
        root = Path(folder) / "project"
        root.mkdir()
        hub.add_repo(REPO, {FILE: original})
        reference = REFERENCE if arguments.source == "hf" else hub.add_file(FILE, original)
        size, digest = original.stat().st_size, sha256(original)
        killer = Killer(hub, reference, root, digest, size, arguments.seed, arguments.kills)
        tally = killer.run(arguments.kills)
        right = sha256(root / "models" / FILE) == digest
    for line in tally.bad:
        print(line)
    print(
        json.dumps(
            {
                "kills": tally.kills,
                "pulls_that_ended_first": tally.too_late,
                "kills_with_all_bytes_and_nothing_visible": tally.whole,
                "kills_when_visible": tally.shown,
                "kills_when_visible_and_not_pinned": tally.unpinned,
                "resumed_bytes": tally.resumed,
                "visible_bad_files": len(tally.bad),
                "final_digest_right": right,
                "source": arguments.source,
                "file_bytes": size,
                "seed": arguments.seed,
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
