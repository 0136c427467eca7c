"""Model files: what a GGUF holds, and smaller copies of it.

`header` reads what a file says about itself and `metadata` the front of it, `mix` decides the type of each tensor,
`quantize` writes the copy. Running a model is `engines.llama_cpp`'s.
"""
