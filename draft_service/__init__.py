"""The draft service: candidate trees from a small model."""
