"""Tasks: read a benchmark, make features of it, put predictions together again.

`iob` reads and writes IOB columns, `ner` turns sentences into labelled features and predictions into tags, and
`batching` groups features of similar length. Nothing here trains or scores: see `biomeg_lib.training` and
`biomeg_lib.metrics`.
"""
