"""Scorers that agree with the official ones, and what several seeds and test items say together.

`entities` (conlleval), `classes` (micro and per-class F1), `squad` and `bioasq` are the scorers, `scores` what the
first two share; `statistics` has intervals over seeds, `resampling` the bootstrap and randomisation over test items,
`bias` how out of balance labels are.
"""
