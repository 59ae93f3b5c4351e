"""Passes and searches at the compute cost of large targets, on a GPU.

Needs python, torch, transformers, numpy and the checkout, nothing else.  Targets are small ones
widened (`specbeam.benchmark.widening`), so acceptance is that of the small target and its drafters.

    python -m specbeam.benchmark.gpu --bundle beauty.bundle
    python -m specbeam.benchmark.gpu --toy          # on a CPU, toy sizes, to see that it runs

Written without a GPU at hand: see `specbeam.engine.graphs` for what only one can show.
"""
