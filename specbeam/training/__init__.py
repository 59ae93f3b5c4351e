"""From interactions to a bundle: import, synthesise, train, distil, evaluate.

Symbols used in every docstring of the package: N items, L tokens per item, U users, B sequences in
a batch, T tokens per sequence (BOS included), R rows (token positions with a label), V vocabulary.

Nothing is imported here: the dataset half needs only numpy and pyarrow, the training half torch.
"""
