"""Label probabilities from llama.cpp's C API: one shared prefix, many texts in one evaluation.

The server can only be asked text by text. Here the part of the prompt that all texts share is evaluated once and
stays; the texts are packed into few evaluations, and nothing is computed at tokens whose answer nobody reads.

`capi` is the only module that touches C, and it runs in a child process of its own (`child`), because a wrong struct
or a hostile file would take the caller down. `availability` says whether it may be used at all; where it may not,
`labels_fallback` asks the server for the same numbers.
"""
