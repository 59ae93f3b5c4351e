"""Whole searches of a large target: A0, A1 and speculation, from a cold, cached or ready prompt."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from specbeam.benchmark.conditions import median
from specbeam.benchmark.drafters.cases import DraftCase
from specbeam.benchmark.gpu.models import ShapeModels
from specbeam.benchmark.gpu.spec import GpuBenchSpec
from specbeam.benchmark.gpu.statistics import paired_ratio
from specbeam.benchmark.gpu.worlds import World
from specbeam.benchmark.settings import COLD, PREFIXES, Knowledge, Setting, sources_of
from specbeam.benchmark.speculation import Outcome, Speculation, hold_prompt
from specbeam.benchmark.workload import items_for_tokens, prompt_of
from specbeam.decoding.costs import CostTable
from specbeam.decoding.selection import Selection
from specbeam.drafting.prices import Prices
from specbeam.drafting.registry import HEAD, MODEL
from specbeam.drafting.ways import PLAIN, Flow, Way
from specbeam.engine.transformers_beam import allowed_children, transformers_beam_search

Progress = Callable[[str], None]
A0, A1 = "a0", "a1"
_EAGER = "_eager"
# All drafters united: the rule beams are chosen by, and whether trees are chosen by expected time.
_UNITED = {
    "union": ("TOP_K", False),
    "chosen": ("TOP_K", True),
    "exact_sampling": ("GUMBEL", False),
    "relaxed_sampling": ("RELAXED", False),
}
# Answers of these are draws: they equal nobody's.
DRAWN = ("exact_sampling", "relaxed_sampling")


@dataclass(slots=True)
class Cell:
    """Searches of one K, prompt length and state of the prompt; by way, request by request."""

    k: int
    prompt_tokens: int
    prefix: str
    max_rows: int
    found: dict[str, list[Outcome]] = field(default_factory=dict)

    def setting(self, sources: Sequence[str]) -> Setting:
        """Return such searches with these drafters."""
        return Setting(self.k, self.prefix, self.max_rows, tuple(sources))

    def summary(self, seed: int) -> dict[str, Any]:
        """Return medians, and ratios to A1 with graphs: above 1, the way is the quicker one."""
        ms = {way: [one.ms for one in found] for way, found in self.found.items()}
        return {
            "k": self.k,
            "prompt_tokens": self.prompt_tokens,
            "prefix": self.prefix,
            "max_rows": self.max_rows,
            "requests": {way: len(times) for way, times in ms.items()},
            "median_ms": {way: median(times) for way, times in ms.items()},
            "mean_passes": self._mean("passes"),
            "mean_rows": self._mean("rows"),
            "a1_over": {way: _ratio(ms[A1], times, seed) for way, times in ms.items() if way != A1},
            "same_as_a1": {way: self._same(way) for way in ms if way not in (A1, *DRAWN)},
        }

    def _mean(self, name: str) -> dict[str, float]:
        return {
            way: float(np.mean([getattr(one, name) for one in found]))
            for way, found in self.found.items()
        }

    def _same(self, way: str) -> dict[str, float]:
        """Answers equal in every place, and the mean share of common items (rounding differs)."""
        found, plain = self.found[way], self.found[A1]
        pairs = [(a.leaves, b.leaves) for a, b in zip(found, plain, strict=False)]
        shared = [len(np.intersect1d(ours, others)) / len(others) for ours, others in pairs]
        identical = sum(np.array_equal(ours, others) for ours, others in pairs)
        return {"identical": identical, "of": len(pairs), "mean_overlap": float(np.mean(shared))}


class SearchBench:
    """The searches of one shape."""

    def __init__(
        self,
        world: World,
        models: ShapeModels,
        baseline: PreTrainedModel | None,
        spec: GpuBenchSpec,
        table: CostTable,
    ) -> None:
        """Prepare.

        Args:
            world: the bundle and its users.
            models: what to run.
            baseline: for A0; None = leave it out.
            spec: what is measured.
            table: what passes of the target cost, with graphs; chosen trees go by it.
        """
        self._world, self._models, self._baseline, self._spec = world, models, baseline, spec
        self._trie = world.bundle.trie
        self._allowed = allowed_children(self._trie) if baseline is not None else {}
        self._lines = _lines(models)
        self._order = random.Random(spec.seed)
        self._table = table
        self._known: dict[Setting, Knowledge] = {}

    def run(self, progress: Progress) -> list[dict[str, Any]]:
        """Measure every cell.

        Args:
            progress: called with a line per cell.
        """
        cells = []
        for tokens in self._spec.prompt_tokens:
            for width in self._spec.widths:
                for cell in self._measure(width, tokens):
                    cells.append(cell.summary(self._spec.seed))
                    progress(_line(cells[-1]))
        return cells

    def _measure(self, width: int, tokens: int) -> list[Cell]:
        """Measure the three states of a prompt, request by request."""
        spec, budget = self._spec, self._spec.budget(width)
        each = items_for_tokens(tokens, self._trie.depth)
        found = self._world.histories(each, spec.warm_ups + spec.requests, spec.seed)
        cells = {p: Cell(width, tokens, p, budget) for p in PREFIXES}
        for number, items in enumerate(found):
            case = DraftCase(items, prompt_of(self._world.bundle, items))
            hold_prompt(self._models.models, case)
            for cell in cells.values():
                outcomes = self._request(case, cell, number)
                if number >= spec.warm_ups:
                    for way, outcome in outcomes.items():
                        cell.found.setdefault(way, []).append(outcome)
        return list(cells.values())

    def _request(self, case: DraftCase, cell: Cell, number: int) -> dict[str, Outcome]:
        """Answer one request in every way, in random order."""
        ways: dict[str, Callable[[], Outcome]] = {}
        for name, sources in self._lines.items():
            ways[name] = partial(self._search, case, cell.setting(sources))
            ways[name + _EAGER] = partial(self._search, case, cell.setting(sources), eager=True)
        for name, (rule, chooses) in _UNITED.items():
            ways[name] = partial(self._unite, case, cell, number, rule, chooses=chooses)
        counted = number - self._spec.warm_ups
        if self._baseline is not None and cell.prefix == COLD and counted < self._spec.a0_requests:
            ways[A0] = partial(self._generate, case, cell.k)
        return {name: ways[name]() for name in self._order.sample(list(ways), len(ways))}

    def _search(
        self,
        case: DraftCase,
        setting: Setting,
        known: Knowledge | None = None,
        *,
        eager: bool = False,
    ) -> Outcome:
        """Answer one request: root first with what drafts there are, plainly without any."""
        search = Speculation(self._models.models, case, setting, known)
        way = Way(Flow.ROOT_FIRST, use_model=True) if setting.sources else PLAIN
        with ExitStack() as stack:
            for runner in self._models.runners() if eager else ():
                stack.enter_context(runner.kernel_by_kernel())
            self._models.target.wait()
            return search.run(way)

    def _unite(
        self, case: DraftCase, cell: Cell, number: int, rule: str, *, chooses: bool
    ) -> Outcome:
        """Answer with all drafters united: trees of the whole budget, or chosen ones."""
        setting = cell.setting(sources_of(self._models.models.names()))
        known = None
        if chooses:
            known = self._known.setdefault(setting, Knowledge(Prices(self._table)))
        if rule != "TOP_K":
            selection = Selection(rule, number)
            setting = replace(setting, selection=selection, draft_width=2 * cell.k)
        return self._search(case, setting, known)

    def _generate(self, case: DraftCase, width: int) -> Outcome:
        """Answer with transformers' own constrained beam search (A0)."""
        assert self._baseline is not None
        kind, depth = self._world.bundle.manifest.score_kind, self._trie.depth
        self._models.target.wait()
        start = time.perf_counter()
        found = transformers_beam_search(
            self._baseline, self._allowed, case.prompt, width, depth, kind
        )
        ms = (time.perf_counter() - start) * 1e3
        leaves = self._trie.find(found.paths)
        return Outcome(ms, depth, width * (depth - 1), draft_ms=0, choose_ms=0, leaves=leaves)


def _lines(models: ShapeModels) -> dict[str, Sequence[str]]:
    """The sources of the ways to search by name: no drafts, the draft model, the head."""
    there = models.models.names()
    counts = [name for name in ("cooccurrence", "popularity") if name in there]
    lines: dict[str, Sequence[str]] = {A1: ()}
    for source in (MODEL, HEAD):
        if source in there:
            lines[f"speculative_{source}"] = (source, *counts)
    return lines


def _ratio(plain: list[float], other: list[float], seed: int) -> dict[str, float]:
    return paired_ratio(plain[: len(other)], other, seed)


def _line(cell: dict[str, Any]) -> str:
    ms = ", ".join(f"{way} {value:.2f}" for way, value in sorted(cell["median_ms"].items()))
    return f"K={cell['k']} prompt={cell['prompt_tokens']} {cell['prefix']}: {ms} ms"
