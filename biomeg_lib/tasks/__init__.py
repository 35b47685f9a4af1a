"""Tasks: read a benchmark, make features of it, put predictions together again.

`iob` reads and writes IOB columns, `ner` turns sentences into labelled features and predictions into tags, and
`batching` groups features of similar length. `ner_training` trains and scores the runs of a grid, with the loop of
`biomeg_lib.training` and the scores of `biomeg_lib.metrics`. `fill_in` asks a pre-trained model for a hidden word.
"""
