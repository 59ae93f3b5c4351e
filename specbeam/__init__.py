"""specbeam: exact top-K generative recommendation by speculative beam search."""

__version__ = "0.1.0"
