"""The student: a linear classifier over hashed n-grams, trained in seconds on a task's own labels.

`features` makes n-grams, `model` scores them (both numpy alone); `spool` and `training` learn, with
scipy; `artifact` keeps what was learnt on disk; `engine` answers for it in a ladder.
"""
