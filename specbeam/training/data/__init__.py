"""Datasets: items with semantic IDs, and interactions with a split."""
