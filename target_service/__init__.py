"""The target service: exact beam search with the large model, and verification of drafts."""
