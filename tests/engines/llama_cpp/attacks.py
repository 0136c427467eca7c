"""Requests that crash or stall the bare engine, as bodies for its HTTP API, and odd ones beside them."""

from __future__ import annotations

import asyncio
import json

from rung.engines.llama_cpp.lease import Lease

HUGE = 2_000_000_000
DEEP = "deep"
"""Stands for a schema that Python itself would not write: twenty thousand levels."""


CRASHING: dict[str, dict[str, object]] = {
    "deep GBNF": {"grammar": "root ::= " + "(" * 200_000 + '"a"' + ")" * 200_000},
    "deep schema": {"json_schema": DEEP},
    "100,000 question marks": {"grammar": 'root ::= "a"' + "?" * 100_000},
}
"""Sent as they are, these can end the process."""

STALLING: dict[str, dict[str, object]] = {
    "repeat window": {"repeat_last_n": HUGE, "repeat_penalty": 1.5},
    "dry window": {"dry_penalty_last_n": HUGE, "dry_multiplier": 1.0},
    "a thousand optional letters": {"grammar": "root ::= " + "[a-z]? " * 1000},
    "an optional letter a thousand times": {"grammar": "root ::= ([a-z]?){1000}"},
    "a rule of a letter a thousand times": {
        "grammar": "root ::= " + "a " * 1000 + "\na ::= [a-z]?"
    },
    "a thousand letters or nothing": {"grammar": "root ::= " + '([a-z]|"") ' * 1000},
    "ten times ten times ten letters": {
        "grammar": f"root ::= {'b ' * 10}\nb ::= {'a ' * 10}\na ::= {'c ' * 10}\nc ::= [a-z]?"
    },
}
"""Sent as they are, these can keep the process busy for minutes."""

ODD: dict[str, dict[str, object]] = {
    "grammar in circles": {"grammar": "root ::= root"},
    "broken grammar": {"grammar": "root ::= ("},
    "unknown adapter": {"lora": [{"id": 7, "scale": 1.0}]},
    "no such token": {"prompt": [10**9]},
    "negative token": {"prompt": [-5]},
    "empty prompt": {"prompt": []},
    "prompt of another kind": {"prompt": {"a": 1}},
    "no dice": {"temperature": "hot"},
    "endless stop": {"stop": ["x" * 1_000_000]},
    "all alternatives": {"n_probs": HUGE},
    "keep all": {"n_keep": -1, "n_discard": HUGE},
    "unknown sampler": {"samplers": ["magic"]},
    "bias of nothing": {"logit_bias": [[10**9, 1.0], [-1, 1.0], ["x", None]]},
    "longer than the context": {"prompt": [5] * 5000},
}
"""Sent as they are, these are answered or refused."""


async def send(lease: Lease, **fields: object) -> bytes:
    """A streamed completion asked of the child as it stands, around the guard; the whole answer."""
    request = {"prompt": [5], "n_predict": 4, "temperature": 0, "stream": True, **fields}
    deep = '{"items":' * 20_000 + "{}" + "}" * 20_000
    content = json.dumps(request).replace(f'"{DEEP}"', deep).encode()
    reader, writer = await asyncio.open_unix_connection(lease.socket)
    try:
        writer.write(
            f"POST /completion HTTP/1.0\r\nAuthorization: Bearer {lease.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        return await reader.read()
    finally:
        writer.close()
