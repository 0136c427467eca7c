"""Where models come from: Hugging Face, the Ollama registry, plain addresses, and the stores of other programs.

`resolved` has the types; `opening.Sources` is the one place in `models` that opens sockets. What a user types is
`models.reference`'s, fetching and keeping whole files `models.pull`'s.
"""
