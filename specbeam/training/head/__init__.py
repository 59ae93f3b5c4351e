"""Training of root heads: drafters that work from the target's own hidden state.

See `specbeam.engine.root_head` for what is trained.
"""
