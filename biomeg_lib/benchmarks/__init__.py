"""Readers of the benchmarks in the formats that their owners distribute; every bad record is one line with its place.

`iob` (BC5CDR, NCBI-disease, CoNLL-2003), `relations` (ChemProt), `pairs` (MRPC), `questions` (SQuAD) and `bioasq`,
which also writes submissions; `lines` and `records` are what they share: lines and JSON that nobody vouches for.
"""
