"""The embedded engine: llama.cpp in supervised child processes (reference: engine, sections 3 to 6).

A well-formed request can crash or hang llama.cpp, so it never runs in this process: `supervisor` starts and watches
one child for a model, `fleet` holds several within a memory budget, `guard` stands in front of every request, and
`engine` is what the ladder sees.
"""
