"""What a pre-training step has to compute, counted from its shape: the measure of compute for curves and peaks."""

from biomeg_lib.model.config import ModelConfig


def useful_flops(config: ModelConfig, batch: int, length: int, masked: int) -> float:
    """Floating-point operations of one step that the loss needs; what is computed besides does not count.

    A multiply-add is two operations, and backward costs twice forward, so a step is 3 x forward. With H the hidden
    size, I the width of the MLP, T the length and V the vocabulary, forward is

    - for each token and layer: query, key, value and output 8 H^2, scores and context 4 T H, MLP 4 H I;
    - but in the last layer only keys and values (4 H^2) of tokens that are neither masked nor [CLS], since nobody
      reads what else would be made of them;
    - for each masked token: the transform of the masked-LM head 2 H^2, the projection to the vocabulary 2 H V.

    Element-wise work, embeddings, the pooler and the optimiser are left out: they are not products of matrices.

    Args:
        batch, length: of the sequences, without padding.
        masked: tokens to be predicted in the batch.
    """
    hidden, tokens = config.hidden, batch * length
    layers = config.layers * tokens * 4 * hidden**2
    rows = (config.layers - 1) * tokens + masked + batch
    layers += rows * (4 * hidden**2 + 4 * length * hidden + 4 * hidden * config.intermediate)
    head = masked * (2 * hidden**2 + 2 * hidden * config.vocab_size)
    return 3.0 * (layers + head)
