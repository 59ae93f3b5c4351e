"""A0 / A1 / speculative in one process: same model, dtype, threads and requests, interleaved."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.workload import histories, items_for_tokens, prompt_of
from specbeam.bundle import Bundle
from specbeam.decoding.beams import Beams
from specbeam.engine import (
    ModelRunner,
    RunnerConfig,
    SearchSpec,
    SpeculationSpec,
    plain_search,
    speculative_search,
)
from specbeam.engine.meter import PassMeter
from specbeam.engine.runner import DTYPES
from specbeam.engine.transformers_adapter import body_of
from specbeam.engine.transformers_beam import allowed_children, transformers_beam_search
from specbeam.model_service.loading import open_search

Progress = Callable[[str], None]
Search = Callable[[], tuple[np.ndarray, int]]


@dataclass(frozen=True, slots=True)
class SearchBenchSpec:
    """What is measured.

    Attributes:
        widths: values of K (= W).
        prompt_tokens: prompt lengths.
        requests: requests per cell.
        threads: torch threads, the same for all three.
        dtype: of all models.
        max_rows: row budget of the speculative search.
        seed: of workload and order.
        with_a0: measure transformers' generate too.
    """

    widths: tuple[int, ...] = (1, 5, 10, 20)
    prompt_tokens: tuple[int, ...] = (30, 80, 200)
    requests: int = 20
    threads: int = 2
    dtype: str = "fp32"
    max_rows: int = 128
    seed: int = 0
    with_a0: bool = True


@dataclass
class Cell:
    """Figures of one (K, prompt) cell; times in milliseconds.

    Below fp64 two passes of different shapes round differently, so near ties may change places:
    `shared` keeps the share of items A1 and the speculative search have in common.
    """

    k: int
    prompt_tokens: int
    ms: dict[str, list[float]] = field(default_factory=dict)
    passes: dict[str, list[int]] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    identical: int = 0
    same_as_a0: int = 0
    shared: list[float] = field(default_factory=list)
    requests: int = 0

    def add(self, name: str, ms: float, passes: int, rows: int) -> None:
        """Record one search."""
        self.ms.setdefault(name, []).append(ms)
        self.passes.setdefault(name, []).append(passes)
        self.rows.setdefault(name, []).append(rows)

    def summary(self) -> dict[str, Any]:
        """Return medians and ratios of medians; A0 / A1 and A1 / speculative above 1 are gains."""
        ms = {name: median(values) for name, values in self.ms.items()}
        ratios = {"a1_over_speculative": ms["a1"] / ms["speculative"]}
        if "a0" in ms:
            ratios["a0_over_a1"] = ms["a0"] / ms["a1"]
        if "a0_decode" in ms:
            ratios["a0_over_a1_decode_only"] = ms["a0_decode"] / ms["a1_decode"]
        return {
            "k": self.k,
            "prompt_tokens": self.prompt_tokens,
            "requests": self.requests,
            "median_ms": ms,
            "mean_passes": {name: float(np.mean(v)) for name, v in self.passes.items()},
            "mean_rows": {name: float(np.mean(v)) for name, v in self.rows.items()},
            "identical": self.identical,
            "mean_overlap": float(np.mean(self.shared)),
            "same_as_a0": self.same_as_a0,
            **ratios,
        }


class SearchBench:
    """Loads the models once and measures cell after cell."""

    def __init__(self, bundle: Bundle, spec: SearchBenchSpec, users: list[np.ndarray]) -> None:
        """Load target (twice: ours and transformers' attention) and draft."""
        torch.set_num_threads(spec.threads)
        self.bundle, self.spec, self.users = bundle, spec, users
        config = RunnerConfig(
            dtype=spec.dtype,
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=640,
            max_item_tokens=bundle.trie.depth,
        )
        self.target = ModelRunner.load(bundle.target_dir, config)
        self.draft = ModelRunner.load(bundle.drafter_dir(bundle.model_drafters()[0]), config)
        self.target_search = open_search(bundle, self.target)
        self.draft_search = open_search(bundle, self.draft)
        self.baseline = _load_baseline(bundle, spec.dtype) if spec.with_a0 else None
        self.allowed = allowed_children(bundle.trie) if spec.with_a0 else {}
        self.meters = {"a1": self.target.meter, "speculative": self.target.meter}
        if self.baseline is not None:
            self.meters["a0"] = PassMeter(body_of(self.baseline))

    def run(self, progress: Progress) -> dict[str, Any]:
        """Measure all cells.

        Args:
            progress: called with a line per cell.
        """
        cells = []
        for tokens in self.spec.prompt_tokens:
            for k in self.spec.widths:
                cell = self.measure(k, tokens)
                cells.append(cell.summary())
                progress(_line(cells[-1]))
        return {
            "what": "A0 / A1 / speculative, one process",
            "conditions": conditions(bundle=self.bundle.manifest.name, **asdict(self.spec)),
            "cells": cells,
        }

    def measure(self, k: int, tokens: int) -> Cell:
        """Measure one cell; the first request warms up and is not counted."""
        cell = Cell(k, tokens)
        each = items_for_tokens(tokens, self.bundle.trie.depth)
        found = histories(self.bundle, self.users, each, self.spec.requests + 1, self.spec.seed)
        order = random.Random(self.spec.seed)
        self._request(Cell(k, tokens), prompt_of(self.bundle, found[0]), k, order)
        for history in found[1:]:
            self._request(cell, prompt_of(self.bundle, history), k, order)
        return cell

    def _request(self, cell: Cell, prompt: np.ndarray, k: int, order: random.Random) -> None:
        searches = list(self._searches(prompt, k).items())
        order.shuffle(searches)
        answers: dict[str, np.ndarray] = {}
        for name, search in searches:
            start = time.perf_counter()
            answers[name], rows = search()
            elapsed = (time.perf_counter() - start) * 1e3
            self._record(cell, name, elapsed, rows)
        cell.requests += 1
        cell.identical += bool(np.array_equal(answers["a1"], answers["speculative"]))
        common = np.intersect1d(answers["a1"], answers["speculative"])
        cell.shared.append(len(common) / len(answers["a1"]))
        if "a0" in answers:
            cell.same_as_a0 += bool(np.array_equal(answers["a1"], answers["a0"]))

    def _searches(self, prompt: np.ndarray, k: int) -> dict[str, Search]:
        spec, depth = SearchSpec(prompt, k), self.bundle.trie.depth
        speculation = SpeculationSpec(self.spec.max_rows)

        def a1() -> tuple[np.ndarray, int]:
            turn = plain_search(self.target_search, spec)
            return _ordered(turn.beams), turn.rows

        def speculative() -> tuple[np.ndarray, int]:
            turn = speculative_search(self.target_search, self.draft_search, spec, speculation)
            return _ordered(turn.beams), turn.rows

        def a0() -> tuple[np.ndarray, int]:
            assert self.baseline is not None
            kind = self.bundle.manifest.score_kind
            found = transformers_beam_search(self.baseline, self.allowed, prompt, k, depth, kind)
            return self.bundle.trie.find(found.paths), k * (depth - 1)

        searches: dict[str, Search] = {"a1": a1, "speculative": speculative}
        if self.baseline is not None:
            searches["a0"] = a0
        return searches

    def _record(self, cell: Cell, name: str, elapsed: float, rows: int) -> None:
        """Keep time, passes and, beside it, the time without the prefill.

        transformers expands the prompt K times before its prefill, so the decode steps alone are
        reported too.
        """
        forwards = self.meters[name].take()
        self.draft.meter.take()
        cell.add(name, elapsed, len(forwards), rows)
        prefill = (forwards[0][1] - forwards[0][0]) / 1e6
        cell.ms.setdefault(f"{name}_decode", []).append(elapsed - prefill)


def _ordered(beams: Beams) -> np.ndarray:
    return beams.nodes[np.lexsort((beams.nodes, -beams.scores))]


def _load_baseline(bundle: Bundle, dtype: str) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(
        str(bundle.target_dir), dtype=DTYPES[dtype], attn_implementation="sdpa"
    )
    return model.eval()


def _line(cell: dict[str, Any]) -> str:
    ms = cell["median_ms"]
    a0 = f"A0 {ms['a0']:.1f} ms, " if "a0" in ms else ""
    return (
        f"K={cell['k']} prompt={cell['prompt_tokens']}: {a0}A1 {ms['a1']:.1f} ms, "
        f"speculative {ms['speculative']:.1f} ms, identical {cell['identical']}/{cell['requests']}"
    )
