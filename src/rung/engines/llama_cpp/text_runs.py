"""Texts that would overflow a tokenizer's stack.

Many models' tokenizers split text with a regular expression whose matcher calls itself for every character of a match:
a single "word" of 24,000 characters ends the engine's process (stacks of 8 MiB; tokenizers `deepseek-llm`, `gpt-4o`,
`tekken`, `default` and others). Matches cannot span white space and other text alternately, so its runs are bounded.
"""

from __future__ import annotations

import re

LONGEST_RUN = 16_000
"""Characters without white space, or of nothing else, in a row."""

_RUN = re.compile(rf"\S{{{LONGEST_RUN + 1}}}|\s{{{LONGEST_RUN + 1}}}")


def run_problem(text: str) -> str | None:
    """Why a text must not be given to a tokenizer, None where it may."""
    found = _RUN.search(text)
    if found is None:
        return None
    of_what = "of white space" if found[0].isspace() else "without white space"
    return f"the text has more than {LONGEST_RUN:,} characters {of_what} in a row"
