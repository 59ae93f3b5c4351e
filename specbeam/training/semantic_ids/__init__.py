"""Semantic IDs: a code path for every item, by residual quantisation of item embeddings."""
