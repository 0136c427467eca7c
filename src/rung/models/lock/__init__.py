"""The lock: what a project's models are, byte for byte, in one file that version control shows the changes of.

`record` says what is pinned and `file` reads and writes `rung.lock`; `identity` takes the digests of a header's parts,
`pinning` makes the record of a model, `drift` compares files with it, `changes` what a publisher has now. Fetching is
`pull`'s, what may be loaded at all `scan`'s.
"""
