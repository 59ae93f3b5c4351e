"""The table: drafters and unions by K and row budget, in both flows."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.drafters.cases import DraftCase, Progress
from specbeam.benchmark.drafters.lines import Line, search_line
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.speculation import Outcome
from specbeam.drafting.registry import HEAD, MODEL

Save = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class DraftersBenchSpec:
    """What is measured.

    Attributes:
        widths: values of K (= W).
        max_rows: row budgets of a pass, all tree rows included.
        threads: torch threads.
        dtype: of all models.
        seed: of users and order.
    """

    widths: tuple[int, ...] = (5, 10, 20)
    max_rows: tuple[int, ...] = (64, 128, 256)
    threads: int = 1
    dtype: str = "fp32"
    seed: int = 0


def default_lines(names: Sequence[str]) -> list[Line]:
    """Return each source alone, their unions, and the published scheme, as far as they are there.

    Args:
        names: sources there are.
    """
    models = [name for name in names if name == MODEL or name.startswith(f"{MODEL}:")]
    model = models[:1]
    counts = [name for name in ("cooccurrence", "popularity") if name in names]
    pool = [name for name in ("pool",) if name in names]
    head = [name for name in (HEAD,) if name in names]
    sets = [
        *([name] for name in names if not name.startswith(f"{MODEL}:")),
        [*model, *counts],
        [*head, *counts],
        [*pool, *counts],
        [*head, *pool, *counts],
        [*model, *pool, *counts],
        [*model, *head, *pool, *counts],
    ]
    unique = list(dict.fromkeys(tuple(sources) for sources in sets if sources))
    lines = [Line("+".join(sources), sources) for sources in unique]
    rooted = [s for s in unique if HEAD not in s and (len(s) > 1 or s in (("pool",), (MODEL,)))]
    lines += [Line("+".join(sources), sources, one_pass=True) for sources in rooted]
    if model:
        lines.append(Line("published", tuple(model), one_pass=True, published=True))
    return lines


def run_drafters_bench(
    models: DraftModels,
    cases: Sequence[DraftCase],
    lines: Sequence[Line],
    spec: DraftersBenchSpec,
    progress: Progress,
    save: Save = lambda result: None,
) -> dict[str, Any]:
    """Measure every line for every K and row budget.

    The lines of one request run one after another in random order beside the plain search; every
    answer is compared with the plain one.

    Args:
        models: what to run.
        cases: the requests.
        lines: the ways to draft.
        spec: what is measured.
        progress: called now and then.
        save: called with the result so far after each K.
    """
    result: dict[str, Any] = {
        "what": "drafters and unions: coverage, passes, rows, milliseconds",
        "conditions": conditions(
            bundle=models.bundle.manifest.name,
            score_kind=models.bundle.manifest.score_kind,
            users=len(cases),
            **asdict(spec),
        ),
        "catalogue": [level.num_nodes for level in models.bundle.trie.levels],
        "training": models.costs(),
        "cells": [],
    }
    order = random.Random(spec.seed)
    for width in spec.widths:
        found, plain = _measure(models, cases, lines, spec, width, order, progress)
        for (line, rows), searched in found.items():
            result["cells"].append(_cell(line, width, rows, searched, plain, models))
        save(result)
    return result


def _measure(
    models: DraftModels,
    cases: Sequence[DraftCase],
    lines: Sequence[Line],
    spec: DraftersBenchSpec,
    width: int,
    order: random.Random,
    progress: Progress,
) -> tuple[dict[tuple[Line, int], list[Outcome]], list[Outcome]]:
    ways = [(line, rows) for line in lines for rows in spec.max_rows if rows >= width]
    found: dict[tuple[Line, int], list[Outcome]] = defaultdict(list)
    plain = []
    for number, case in enumerate(cases):
        plain.append(search_line(models, case, None, width, max(spec.max_rows)))
        case.answers[width] = plain[-1].leaves
        for way in order.sample(ways, len(ways)):
            found[way].append(search_line(models, case, way[0], width, way[1]))
        if (number + 1) % 50 == 0:
            progress(f"K = {width}: {number + 1} of {len(cases)} users")
    return {way: found[way] for way in ways}, plain


def _cell(
    line: Line,
    width: int,
    max_rows: int,
    searched: Sequence[Outcome],
    plain: Sequence[Outcome],
    models: DraftModels,
) -> dict[str, Any]:
    depth = models.bundle.trie.depth
    reached = np.array([one.reached for one in searched])
    # The tree's last level is L - 1: when it is covered, too, the search is over.
    first = 1 if line.one_pass else 2
    same = [np.array_equal(a.leaves, b.leaves) for a, b in zip(searched, plain, strict=True)]
    return {
        "line": line.name,
        "flow": "one-pass" if line.one_pass else "root-first",
        "published": line.published,
        "k": width,
        "max_rows": max_rows,
        "covered": {str(level): float((reached > level).mean()) for level in range(first, depth)},
        "all_covered": float((reached == depth).mean()),
        "accepted": float(np.mean([one.accepted for one in searched])),
        "passes": float(np.mean([one.passes for one in searched])),
        "rows": float(np.mean([one.rows for one in searched])),
        "ms": median([one.ms for one in searched]),
        "plain_ms": median([one.ms for one in plain]),
        "plain_passes": float(np.mean([one.passes for one in plain])),
        "plain_over_line": median([b.ms / a.ms for a, b in zip(searched, plain, strict=True)]),
        "draft_ms": median([one.draft_ms for one in searched]),
        "union_ms": median([one.choose_ms for one in searched]),
        "identical": int(np.sum(same)),
        "requests": len(searched),
    }
