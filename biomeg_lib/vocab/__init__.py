"""Sub-word vocabularies: one `Vocabulary` over BERT WordPiece files and SentencePiece models.

`vocabulary` is what others use; below it, `characters` holds BERT's rules for characters, `models` the two kinds of
model and `learning` how a SentencePiece model is learned. `measures` has the break-out rate of the paper.
"""

from biomeg_lib.vocab.measures import BreakOut, break_out_rate
from biomeg_lib.vocab.models import SPECIALS
from biomeg_lib.vocab.vocabulary import Encoding, Vocabulary

__all__ = ["SPECIALS", "BreakOut", "Encoding", "Vocabulary", "break_out_rate"]
