"""Alignment of a draft with the target it drafts for.

A bundle's target searches prompts once and its beams are kept as teacher data; a draft is trained
on them with one of several losses and judged by coverage: how often all beams that the target keeps
lie among the nodes the draft proposes.

Symbols, beside those of `specbeam.training`: P prompts, G prompts of a batch, W beams, R rows of a
tree of beams, Q rows seen as a list, C candidates of a row.

Source: AtSpeed (arXiv 2410.05165); what differs from it is said where it does.
"""
