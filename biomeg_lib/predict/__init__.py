"""Text of one's own in, entities out, in common formats: a fine-tuned run at work.

`texts` reads documents and cuts them into sentences and words, `entities` turns tags of words into character spans, and
`formats` writes these; `records` reads relations, pairs and questions; `runs` loads a run for all of them. `command`
and `score` are `biomeg predict` and `biomeg score`. Offsets count characters (Unicode code points) of the input as it
was read, and an entity's text is always what stands there.
"""

from biomeg_lib.predict.runs import Answerer, Recogniser, TextLabeller, load_run

__all__ = ["Answerer", "Recogniser", "TextLabeller", "load_run"]
