"""Which models there are, and which of them to try first for a task on a machine.

`entries` is the shipped catalogue, `benchmarks` what its scores are worth, `candidates` what would run where, `ranking`
their order and why.
"""
