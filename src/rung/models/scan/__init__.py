"""Whether a file may be loaded: decided by its content, never by its name, and blocked where that cannot be decided.

`scanner` looks at files in a limited process (`child`), `gate` is what every load passes. What is accepted: GGUF,
safetensors, JSON, UTF-8 text and SentencePiece vocabularies. What a file needs of memory is `fit`'s, whether it is
the one that was pinned is `lock`'s.
"""
