"""The starter's one prompt form: what stands in each turn, and which tokens set the turns apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
CONTROL = (SYSTEM, USER, ASSISTANT, END, PAD)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def classify_system(task: str) -> str:
    """The system turn that asks for a label."""
    return f"classify {task}"


def extract_system(fields: Sequence[str]) -> str:
    """The system turn that asks for fields as JSON, in this order."""
    return f"extract {', '.join(fields)}"


def rendered(system: str, text: str) -> str:
    """The prompt up to where the answer begins."""
    return f"{SYSTEM}{system}{USER}{text}{ASSISTANT}"


def extract_answer(values: Mapping[str, str], fields: Sequence[str]) -> str:
    """Compact JSON of the fields that occur, in the order asked for."""
    held = {field: values[field] for field in fields if field in values}
    return json.dumps(held, ensure_ascii=False, separators=(",", ":"))
