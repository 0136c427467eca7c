"""Structured output that is what it says: schemas planned before decoding, grammars, and evidence for each field.

`plan` splits a schema into what decoding enforces and what is named as relaxed; `llguidance_grammar` and `gbnf` write
the enforced part for an engine (`gbnf_plan` first, for GBNF). Validation of the finished answer is `task.Contract`'s.
"""

from rung.structured.checking import vocabulary_fits
from rung.structured.gbnf import gbnf, gbnf_plan
from rung.structured.planning import SchemaPlan, llguidance_grammar, plan

__all__ = ["SchemaPlan", "gbnf", "gbnf_plan", "llguidance_grammar", "plan", "vocabulary_fits"]
