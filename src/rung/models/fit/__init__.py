"""What a model takes of a machine's memory, computed before it is loaded or even fetched.

`shape` and `weights` read a model's header, `rules` say how an engine lays memory out, `cache`, `state` and `compute`
apply them. What a machine offers is `models.hardware`'s, whether it is enough `verdict`'s.
"""
