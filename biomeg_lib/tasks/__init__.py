"""Tasks: records of a benchmark to features, predictions back to answers, and the runs of a grid.

`ner`, `classification` and `spans` make features and decode; `span_check` says what decoding loses. `arms` is what all
runs have, `ner_arm`, `classification_arm` and `question_arm` are its three kinds, and `jobs` trains and scores what a
params file asks for, with the loop of `biomeg_lib.training` and the scores of `biomeg_lib.metrics`. `batching` groups
features of similar length, `splits` holds out what a benchmark lacks, `fill_in` asks a pre-trained model for a word.
"""
