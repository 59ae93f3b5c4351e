"""One forward of the engine against a hand-written one: same weights, same shape, interleaved."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.minimal_forward import Linear, MinimalForward, plain_linear
from specbeam.benchmark.shapes import SHAPES, random_model
from specbeam.engine import ModelRunner, RunnerConfig
from specbeam.engine.linear import linear_of, worth_packing
from specbeam.engine.runner import DTYPES

Forward = Callable[[], torch.Tensor]
_SLOT = 0
_WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class ForwardBenchSpec:
    """What is measured.

    Attributes:
        shape: name of a model shape.
        dtype: of the model.
        rows: rows per pass.
        prompt_tokens: tokens in place before the rows.
        threads: torch thread counts, one after the other.
        repeats: measured passes per cell and way.
        vocab_size: V; four levels of 256 codes and three special tokens.
        seed: of weights, trees and order.
    """

    shape: str = "86m"
    dtype: str = "bf16"
    rows: tuple[int, ...] = (1, 20, 80)
    prompt_tokens: int = 200
    threads: tuple[int, ...] = (1, 2)
    repeats: int = 60
    vocab_size: int = 1027
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TreePass:
    """Arguments of one pass over a random tree; see `ModelRunner.forward_rows`."""

    tokens: np.ndarray
    positions: np.ndarray
    sees: np.ndarray


class ForwardBench:
    """The engine's runner and the hand-written forward, loaded from one checkpoint.

    The latter twice: on the weights as they are stored, and on weights packed as the engine packs
    them, which leaves nothing but what the engine adds around its multiplications.
    """

    def __init__(self, spec: ForwardBenchSpec) -> None:
        """Write a random checkpoint, load it twice and run the prompt."""
        self.spec = spec
        torch.set_num_threads(max(spec.threads))
        self._rng = np.random.default_rng(spec.seed)
        config = RunnerConfig(
            dtype=spec.dtype,
            slots=1,
            max_prompt_tokens=spec.prompt_tokens,
            max_rows=max(spec.rows),
        )
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch)
            _write_checkpoint(spec, directory)
            self.runner = ModelRunner.load(directory, config)
            model = LlamaForCausalLM.from_pretrained(directory, dtype=DTYPES[spec.dtype]).eval()
        self.minimal = MinimalForward(model, plain_linear)
        self.packed = MinimalForward(model, _engines_linear)
        self.runner.prefill(_SLOT, self._tokens(spec.prompt_tokens))
        self._slot = self.runner.pool.view(_SLOT).clone()

    def _tokens(self, count: int) -> np.ndarray:
        return self._rng.integers(3, self.spec.vocab_size, count)

    def run(self, progress: Callable[[str], None]) -> dict[str, Any]:
        """Measure every cell.

        Args:
            progress: called with a line per cell.
        """
        cells = []
        for threads in self.spec.threads:
            torch.set_num_threads(threads)
            for rows in self.spec.rows:
                cells.append({"threads": threads, "rows": rows, **self._measure(rows)})
                progress(_line(cells[-1]))
        return {
            "what": "one forward of the engine / the same forward written by hand",
            "conditions": conditions(**asdict(self.spec)),
            "cells": cells,
        }

    def _measure(self, rows: int) -> dict[str, Any]:
        tree = random_tree(rows, self.spec.prompt_tokens, self._tokens(rows), self._rng)
        ways = self._ways(tree)
        logits = {name: forward() for name, forward in ways.items()}
        ms = _interleaved(ways, self.spec.repeats, random.Random(self.spec.seed))
        medians = {name: median(times) for name, times in ms.items()}
        return {
            "median_ms": medians,
            "best_ms": {name: min(times) for name, times in ms.items()},
            "ratio": medians["engine"] / medians["minimal"],
            "ratio_to_packed": medians["engine"] / medians["minimal_packed"],
            "largest_difference": float((logits["engine"] - logits["minimal"]).abs().max()),
            "largest_logit": float(logits["minimal"].abs().max()),
        }

    def _ways(self, tree: TreePass) -> dict[str, Forward]:
        arguments = (self.spec.prompt_tokens, tree.tokens, tree.positions, tree.sees)

        def engine() -> torch.Tensor:
            return self.runner.logits(self.runner.forward_rows(_SLOT, *arguments))

        return {
            "engine": engine,
            "minimal": lambda: self.minimal(self._slot, *arguments),
            "minimal_packed": lambda: self.packed(self._slot, *arguments),
        }


def _engines_linear(weight: torch.Tensor) -> Linear:
    return linear_of(weight, None, packed=worth_packing(weight))


def _write_checkpoint(spec: ForwardBenchSpec, directory: Path) -> None:
    disable_progress_bar()
    model = random_model(SHAPES[spec.shape], spec.vocab_size, DTYPES[spec.dtype], spec.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # all ones would hide a difference between the two
                parameter.uniform_(0.5, 1.5)
    model.save_pretrained(directory)


def random_tree(
    rows: int, prompt_tokens: int, tokens: np.ndarray, rng: np.random.Generator
) -> TreePass:
    """Return a pass over a tree whose rows have random earlier rows as parents.

    Args:
        rows: R.
        prompt_tokens: P.
        tokens: shape (R,).
        rng: of the shape.
    """
    sees, depth = np.eye(rows, dtype=bool), np.zeros(rows, np.int64)
    for row in range(rows):
        parent = int(rng.integers(-1, row)) if row else -1
        if parent >= 0:
            sees[row] |= sees[parent]
            depth[row] = depth[parent] + 1
    return TreePass(tokens, prompt_tokens + depth, sees)


def _interleaved(
    ways: dict[str, Forward], repeats: int, order: random.Random
) -> dict[str, list[float]]:
    """Times in milliseconds; each repeat runs every way once, in random order."""
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(_WARM_UPS + repeats):
        names = list(ways)
        order.shuffle(names)
        for name in names:
            start = time.perf_counter()
            ways[name]()
            if repeat >= _WARM_UPS:
                ms[name].append((time.perf_counter() - start) * 1e3)
    return ms


def _line(cell: dict[str, Any]) -> str:
    ms = ", ".join(f"{name} {value:.1f} ms" for name, value in cell["median_ms"].items())
    return f"{cell['threads']} threads, {cell['rows']} rows: {ms}, ratio {cell['ratio']:.3f}"
