"""SASRec, the trained baseline: a causal transformer over item ids.

Source: W.-C. Kang and J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.  Two
deviations, both known to make it much stronger or simpler and neither weaker: the loss is the full
softmax cross-entropy over the catalogue instead of a binary one with a single negative item, and
positions count from the start of the window, because sequences are padded on the right.
"""
