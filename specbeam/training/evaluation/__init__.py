"""Recall and NDCG of a bundle beside simple and trained baselines."""
