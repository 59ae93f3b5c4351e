"""Beam search over the item trie: selection, candidate trees, verification and the slow reference.

Symbols used in every docstring of the package: W beams kept, N drafted nodes per level, R rows of
one forward pass, C_d largest number of children on level d, V vocabulary size, L tokens per item, T
rows of the candidate tree held in a KV slot, P prompt tokens.

`rules`, `noise`, `laws`, `tree`, `shape`, `beams`, `costs` and the `draft` modules need numpy only;
the `expansion` modules take torch logits; nothing here knows a model, a server or a store.
"""
