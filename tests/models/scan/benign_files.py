"""Files that are what they say and must be clean: chat templates in the styles in use, tokenizers, small models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from gguf_models import CHATML, tiny_lora, tiny_model, vocabulary
from malformed.hostile_files import sentencepiece

TEMPLATES: dict[str, str] = {
    "chatml": CHATML,
    "turns in brackets": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
        "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message %}{% set content ="
        " '<<SYS>>' + system_message + '<</SYS>>' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "headers": (
        "{{- bos_token }}\n{%- if not date_string is defined %}{%-"
        " set date_string = strftime_now('%d %b %Y') %}{%- endif %}\n"
        "{%- for message in messages %}\n{{- '<|start_header_id|>'"
        " + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{%- if message.content is string %}{{- message['content'] | trim + '<|eot_id|>' }}{%- else %}"
        "{%- for part in message.content %}{%- if part.type == 'text'"
        " %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}"
        "{%- endfor %}\n{%- if add_generation_prompt %}\n{{-"
        " '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
    ),
    "tools and thinking": (
        "{%- if tools %}\n{{- '<|im_start|>system\\n' }}{%- for"
        " tool in tools %}{{- tool | tojson }}\n{%- endfor %}"
        "{{- '<|im_end|>\\n' }}{%- endif %}\n{%- set ns = namespace(last=messages|length - 1) %}"
        "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
        "{%- if message.role == 'user' and message.content is"
        " string and not message.content.startswith('<tool') %}"
        "{%- set ns.last = index %}{%- endif %}{%- endfor %}\n{%- for message in messages %}"
        "{%- set content = message.content if message.content is string else '' %}"
        "{%- if '</think>' in content %}{%- set content ="
        " content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
        "{{- '<|im_start|>' + message.role + '\\n' + content }}"
        "{%- if message.tool_calls %}{%- for call in message.tool_calls %}"
        "{%- if call.function %}{%- set call = call.function %}{%- endif %}"
        "{{- '<tool_call>{\"name\": \"' + call.name + '\", \"arguments\": ' }}"
        "{{- call.arguments if call.arguments is string else call.arguments | tojson }}{{- '}</tool_call>' }}"
        "{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false"
        " %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
    ),
    "macro and turns": (
        "{%- macro turn(role, text) -%}<start_of_turn>{{ role }}\n{{ text | trim }}<end_of_turn>\n{%- endmacro -%}"
        "{{ bos_token }}{%- for message in messages -%}{%- set role ="
        " 'model' if message.role == 'assistant' else message.role -%}"
        "{{ turn(role, message.content if message.content is string else message.content[0].text) }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}<start_of_turn>model\n{%- endif -%}"
    ),
    "for training": (
        "{% for message in messages %}{% if message.role == 'assistant'"
        " %}{% generation %}{{ message.content }}{{ eos_token }}"
        "{%- endgeneration %}{% else %}{{ message.content }}{% endif %}{% endfor %}"
    ),
    "refuses what it does not know": (
        "{% for message in messages %}{% if message.role not in"
        " ['user'] %}{{ raise_exception('only users') }}{% endif %}"
        "{{ message.content }}{% endfor %}"
    ),
    "content in parts only": (
        "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    ),
    "long words about danger": (
        "{# import os; __class__; eval(exec) #}{{ 'You must never import os or eval code. ' }}"
        "{% for message in messages %}{{ message.content }}{% endfor %}"
    ),
}  # fmt: skip
"""Chat templates that are clean, by what is special about each."""

CONFIG = {
    "chat_template": CHATML,
    "add_bos_token": False,
    "model_max_length": 1e30,
    "auto_map": {"AutoModel": "m.M"},
}


def texts() -> dict[str, bytes]:
    """Text files that come with models, by their usual names."""
    tokens, _, joined = vocabulary()
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = {"version": "1.0", "model": {"type": "BPE", "vocab": numbers, "merges": joined}}
    named = [{"name": "default", "template": CHATML}, {"name": "tools", "template": CHATML}]
    return {
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": json.dumps(CONFIG, indent=2).encode(),
        "several.json": json.dumps({"chat_template": named}).encode(),
        "config.json": b'{"architectures": ["LlamaForCausalLM"], "vocab_size": 511}\n',
        "trainer_state.json": b'{"epoch": 1.0, "log_history": [{"loss": NaN, "norm": -Infinity}]}',
        "marked.json": b'\xef\xbb\xbf{"a": 1}',
        "rows.jsonl": b'{"text": "a"}\n{"text": "b"}\n',
        "empty.json": b"{}",
        "vocab.txt": "\n".join(["[PAD]", "[UNK]", *tokens]).encode(),
        "words.txt": b"Cat\ndog\nRest\nNo\n.\n",
        "identifiers.txt": "\n".join(f"word{number:x}" for number in range(60_000)).encode(),
        "merges.txt": "\n".join(["#version: 0.2", *joined]).encode(),
        "LICENSE": b"Permission is hereby granted (see below).\n\tNo warranty.\r\n",
        "README.md": "# A model\n<div align='center'>😀</div>\n\n```python\nimport os\n```\n{{ messages }}\n".encode(),
        "about-templates.md": b"Write `{% for m in messages %}` and close it.\n",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "tokenizer.model": sentencepiece(300),
        **{f"{name.replace(' ', '-')}.jinja": text.encode() for name, text in TEMPLATES.items()},
    }


PROSE = frozenset(
    {
        "vocab.txt",
        "words.txt",
        "identifiers.txt",
        "merges.txt",
        "LICENSE",
        "README.md",
        "about-templates.md",
        "pointer",
    }
)
"""Texts of no format, which are not blocked and never called clean."""


def write_benign(folder: Path) -> dict[str, Path]:
    """Write everything, by file name."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in texts().items():
        (folder / name).write_bytes(content)
    for number, (name, text) in enumerate(TEMPLATES.items()):
        tiny_model(folder / f"{name.replace(' ', '-')}.gguf", seed=number, dim=64, template=text)
    tiny_model(folder / "no-template.gguf", dim=64, template=None)
    tiny_model(folder / "qwen2.gguf", dim=64, arch="qwen2")
    tiny_lora(folder / "adapter.gguf")
    arrays = {"a": np.ones((3, 5), np.float32), "b": np.zeros(7, int), "c": np.zeros((0, 4), int)}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({"a": np.zeros(1, np.uint8)}, folder / "small.safetensors")
    # Headers whose length begins as a pickle of protocol 2, a Windows program, a script and a gzip stream do.
    for length in (640, 0x5A4D, 0x2123, 0x088B1F):
        save_padded(folder / f"header-{length}.safetensors", length)
    return {path.name: path for path in sorted(folder.iterdir())}


def save_padded(path: Path, length: int) -> None:
    """A safetensors file with a header of so many bytes."""
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    path.write_bytes(length.to_bytes(8, "little") + header + b"\0")
