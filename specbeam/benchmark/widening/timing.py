"""The timing control: a widened model must take as long as a random one of its configuration."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.widening.target import WideTarget
from specbeam.engine import ModelRunner, RunnerConfig
from specbeam.engine.runner import DTYPES

_WARM_UPS = 2
_SLOT = 0


def timing_control(
    target: WideTarget,
    dtype: str,
    device: str = "cpu",
    *,
    rows: tuple[int, ...] = (1, 20, 80),
    prompt_tokens: int = 200,
    repeats: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure passes of both models, interleaved in random order.

    Args:
        target: the widened one.
        dtype: of both.
        device: where.
        rows: tree rows per pass, besides the prompt's own pass.
        prompt_tokens: tokens in place before them.
        repeats: measured passes per shape and model.
        seed: of the order and of the random weights.

    Returns:
        Medians per shape and their ratio, widened / random; 1 but for noise if zeros, gates and
        copies make nothing cheaper.
    """
    config = RunnerConfig(
        device=device, dtype=dtype, slots=1, max_prompt_tokens=prompt_tokens, max_rows=max(rows)
    )
    plain = ModelRunner(_random_model(target, config, seed), config)
    widened = ModelRunner(target.build(plain.dtype, device), config)
    runners = {"widened": widened, "random": plain}
    vocab = widened.vocab_size
    order = random.Random(seed)
    prompt = np.random.default_rng(seed).integers(1, vocab, prompt_tokens)
    cells = [_cell(runners, prompt, count, repeats, order) for count in (0, *rows)]
    what = "forward of a widened model / of a random one of the same configuration"
    return {
        "what": what,
        "conditions": conditions(device=device, dtype=dtype, threads=torch.get_num_threads()),
        "cells": cells,
    }


def _random_model(target: WideTarget, config: RunnerConfig, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[config.dtype])
    try:
        with torch.device(config.device):
            return LlamaForCausalLM(LlamaConfig(**target.config)).eval()
    finally:
        torch.set_default_dtype(before)


def _cell(
    runners: dict[str, ModelRunner],
    prompt: np.ndarray,
    rows: int,
    repeats: int,
    order: random.Random,
) -> dict[str, Any]:
    ms: dict[str, list[float]] = {name: [] for name in runners}
    for repeat in range(_WARM_UPS + repeats):
        names = list(runners)
        order.shuffle(names)
        for name in names:
            start = time.perf_counter()
            _run(runners[name], prompt, rows)
            if repeat >= _WARM_UPS:
                ms[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: median(times) for name, times in ms.items()}
    return {
        "pass": f"{rows} rows" if rows else "prompt",
        "rows": rows or len(prompt),
        "prefix_tokens": len(prompt) if rows else 0,
        "median_ms": medians,
        "best_ms": {name: min(times) for name, times in ms.items()},
        "ratio": medians["widened"] / medians["random"],
    }


def _run(runner: ModelRunner, prompt: np.ndarray, rows: int) -> None:
    if rows:
        tokens, positions = np.resize(prompt, rows), np.full(rows, len(prompt))
        hidden = runner.forward_rows(
            _SLOT, len(prompt), tokens, positions, np.eye(rows, dtype=bool)
        )
    else:
        hidden = runner.prefill(_SLOT, prompt)
    runner.logits(hidden).cpu()  # waits for the device
