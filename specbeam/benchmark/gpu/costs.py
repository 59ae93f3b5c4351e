"""The cost table of a large target: passes with graphs and without, and whole prompts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from specbeam.benchmark.conditions import median
from specbeam.benchmark.gpu.recorded import RecordedRunner
from specbeam.benchmark.gpu.spec import GpuBenchSpec
from specbeam.decoding.costs import CostPoint, CostTable

Progress = Callable[[str], None]
_SLOT, _WARM_UPS = 0, 3


def measure_cost_table(
    runner: RecordedRunner, spec: GpuBenchSpec, progress: Progress
) -> dict[str, Any]:
    """Time passes of every shape, with graphs and kernel by kernel, interleaved.

    Times are walls from one standstill of the device to the next, LM head included.

    Returns:
        Medians by (rows, prefix tokens), and of whole prompts.
    """
    order = random.Random(spec.seed)
    tokens = np.random.default_rng(spec.seed).integers(3, runner.vocab_size, 4096)
    points = []
    for prefix in spec.prefix_tokens:
        runner.prefill(_SLOT, tokens[:prefix])
        for rows in spec.rows:
            points.append(_point(runner, tokens, prefix, rows, spec, order))
            progress(_line(points[-1]))
    prompts = [
        {
            "prompt_tokens": count,
            "ms": median(_times(runner, partial(_prompt, runner, tokens[:count]), spec)),
        }
        for count in sorted({*spec.prompt_tokens, *spec.prefix_tokens})
    ]
    runner.meter.take()
    return {"points": points, "prompts": prompts}


def table_of(costs: dict[str, Any]) -> CostTable:
    """Return what was measured with graphs as the table that chosen trees go by."""
    points = [
        CostPoint(point["rows"], point["prefix_tokens"], point["median_ms"]["graphs"])
        for point in costs["points"]
    ]
    points += [CostPoint(one["prompt_tokens"], 0, one["ms"]) for one in costs["prompts"]]
    table = CostTable.from_points(points)
    assert table is not None
    return table


def _point(
    runner: RecordedRunner,
    tokens: np.ndarray,
    prefix: int,
    rows: int,
    spec: GpuBenchSpec,
    order: random.Random,
) -> dict[str, Any]:
    alone, positions = np.eye(rows, dtype=bool), np.full(rows, prefix)

    def graph() -> None:
        runner.logits(runner.forward_rows(_SLOT, prefix, tokens[:rows], positions, alone))

    def eager() -> None:
        with runner.kernel_by_kernel():
            graph()

    ways = {"graphs": graph, "eager": eager}
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(_WARM_UPS + spec.repeats):
        for name in order.sample(list(ways), len(ways)):
            elapsed = _timed(runner, ways[name])
            if repeat >= _WARM_UPS:
                ms[name].append(elapsed)
    medians = {name: median(times) for name, times in ms.items()}
    return {
        "rows": rows,
        "prefix_tokens": prefix,
        "median_ms": medians,
        "eager_over_graphs": medians["eager"] / medians["graphs"],
    }


def _prompt(runner: RecordedRunner, prompt: np.ndarray) -> None:
    runner.logits(runner.prefill(_SLOT, prompt))


def _times(runner: RecordedRunner, run: Callable[[], None], spec: GpuBenchSpec) -> list[float]:
    for _ in range(_WARM_UPS):
        _timed(runner, run)
    return [_timed(runner, run) for _ in range(spec.repeats)]


def _timed(runner: RecordedRunner, run: Callable[[], None]) -> float:
    """Milliseconds."""
    runner.wait()
    start = time.perf_counter()
    run()
    runner.wait()
    return (time.perf_counter() - start) * 1e3


def _line(point: dict[str, Any]) -> str:
    ms = point["median_ms"]
    return (
        f"{point['rows']} rows behind {point['prefix_tokens']}: graphs {ms['graphs']:.2f} ms, "
        f"kernel by kernel {ms['eager']:.2f} ms"
    )
