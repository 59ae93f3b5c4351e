"""From an existing checkpoint, its tokenizer and an item index to a bundle, without training.

Symbols used in every docstring of the package: N items, L tokens of the longest item, V vocabulary.

Nothing is imported here: only what meets a tokenizer needs transformers, only parquet pyarrow.
"""
