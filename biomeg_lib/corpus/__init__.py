"""From raw text to training samples: readers, documents, sentences, token shards, masked samples, the miniature."""
