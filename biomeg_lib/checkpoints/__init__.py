"""Checkpoints: our format; Hugging Face, Megatron-LM and NeMo in; Hugging Face and Megatron-LM out.

`reading` finds out what a path holds and hands it to a reader (`hugging_face`, `megatron`, `nemo`), all of which make a
`checkpoint.Checkpoint`; files that nobody vouches for are opened by `tensors`, `pickles` and `archives` alone. `export`
and `megatron_writer` write; `published` knows names and addresses; `embeddings` exchanges the vocabulary; `command` is
what the command line calls.
"""
