"""Whole requests through the services: forced on, forced off, auto; and the overhead."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from specbeam.benchmark.conditions import conditions, median, percentile
from specbeam.benchmark.workload import histories, items_for_tokens
from specbeam.bundle import Bundle
from specbeam.client import RecommendClient
from specbeam.client_types import Interaction, Recommendation, Speculation
from specbeam.runtime.channel import create_channel

Progress = Callable[[str], None]
WAYS: tuple[Speculation, ...] = ("off", "on", "auto")
# Auto needs three samples of each way before it chooses; forced requests give them too.
WARM_UP_REQUESTS = 4


@dataclass(frozen=True, slots=True)
class ServedBenchSpec:
    """What is measured.

    Attributes:
        widths: values of K (= W).
        prompt_tokens: prompt lengths.
        requests: requests per cell and way.
        max_rows: row budget of a verify pass; 0 = the server's default.
        seed: of workload and order.
        timeout_s: of one request.
    """

    widths: tuple[int, ...] = (1, 5, 10, 20)
    prompt_tokens: tuple[int, ...] = (30, 80, 200)
    requests: int = 20
    max_rows: int = 0
    seed: int = 0
    timeout_s: float = 30.0


@dataclass
class ServedCell:
    """Figures of one (K, prompt) cell, by way; times in milliseconds."""

    k: int
    prompt_tokens: int
    ms: dict[str, list[float]] = field(default_factory=dict)
    overhead_ms: dict[str, list[float]] = field(default_factory=dict)
    work: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    empty_call_ms: list[float] = field(default_factory=list)
    auto_speculated: int = 0
    degraded: int = 0
    identical: int = 0
    requests: int = 0

    def add(self, way: str, wall_ms: float, answer: Recommendation) -> None:
        """Record one answer."""
        self.ms.setdefault(way, []).append(wall_ms)
        self.work.setdefault(way, []).append((answer.work.passes, answer.work.rows))
        if answer.debug is not None:
            busy = union_ms((f.start_ns, f.end_ns) for f in answer.debug.forwards)
            self.overhead_ms.setdefault(way, []).append(wall_ms - busy)
        self.auto_speculated += way == "auto" and answer.work.speculation_used
        self.degraded += bool(set(answer.degraded) - {"empty_history"})

    def summary(self) -> dict[str, Any]:
        """Return medians; auto_over_faster is auto against the faster forced way."""
        ms = {way: median(values) for way, values in self.ms.items()}
        means = {way: np.mean(values, axis=0) for way, values in self.work.items()}
        return {
            "k": self.k,
            "prompt_tokens": self.prompt_tokens,
            "requests": self.requests,
            "median_ms": ms,
            "overhead_p50_ms": {way: median(v) for way, v in self.overhead_ms.items()},
            "overhead_p90_ms": {way: percentile(v, 0.9) for way, v in self.overhead_ms.items()},
            "empty_call_p50_ms": median(self.empty_call_ms),
            "mean_passes": {way: float(mean[0]) for way, mean in means.items()},
            "mean_rows": {way: float(mean[1]) for way, mean in means.items()},
            "auto_over_faster": ms["auto"] / min(ms["on"], ms["off"]),
            "auto_speculated": self.auto_speculated,
            "identical": self.identical,
            "degraded_answers": self.degraded,
        }


def union_ms(intervals: Iterable[tuple[int, int]]) -> float:
    """Return the length of a union of intervals in nanoseconds, in milliseconds."""
    total, reached = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


async def run_served_bench(
    address: str, bundle: Bundle, spec: ServedBenchSpec, users: list[np.ndarray], progress: Progress
) -> dict[str, Any]:
    """Measure all cells against a running orchestrator.

    Args:
        address: where it is.
        bundle: the bundle it serves.
        spec: what to measure.
        users: histories to take prompts from; may be empty.
        progress: called with a line per cell.
    """
    cells = []
    async with (
        RecommendClient(address, timeout_s=spec.timeout_s) as client,
        create_channel(address) as channel,
    ):
        for tokens in spec.prompt_tokens:
            for k in spec.widths:
                cell = await _measure(client, channel, bundle, spec, users, k, tokens)
                cells.append(cell.summary())
                progress(_line(cells[-1]))
    good = sum(cell["auto_over_faster"] <= 1.05 for cell in cells)
    return {
        "what": "requests through the services: forced off / forced on / auto",
        "conditions": conditions(bundle=bundle.manifest.name, **asdict(spec)),
        "cells": cells,
        "cells_with_auto_within_5_percent": good,
    }


async def _measure(
    client: RecommendClient,
    channel: grpc.aio.Channel,
    bundle: Bundle,
    spec: ServedBenchSpec,
    users: list[np.ndarray],
    k: int,
    tokens: int,
) -> ServedCell:
    """One cell: each history is asked for in all ways, in random order."""
    each = items_for_tokens(tokens, bundle.trie.depth)
    chosen = histories(bundle, users, each, spec.requests + WARM_UP_REQUESTS, spec.seed)
    order = random.Random(spec.seed)
    warm_up, cell = ServedCell(k, tokens), ServedCell(k, tokens)
    for number, history in enumerate(chosen):
        events = [Interaction(bundle.trie.item_id(int(item)), time_ms=0) for item in history]
        into = warm_up if number < WARM_UP_REQUESTS else cell
        ways = list(WAYS if number >= WARM_UP_REQUESTS else WAYS[:2])
        order.shuffle(ways)
        answers = set()
        for way in ways:
            start = time.perf_counter()
            answer = await client.recommend(
                events=events,
                num_items=k,
                beam_width=k,
                speculation=way,
                max_rows=spec.max_rows,
                debug=True,
            )
            into.add(way, (time.perf_counter() - start) * 1e3, answer)
            answers.add(tuple(item.item_id for item in answer.items))
        into.requests += 1
        into.identical += len(answers) == 1
        into.empty_call_ms.append(await _empty_call_ms(channel, median(into.ms["off"])))
    return cell


async def _empty_call_ms(channel: grpc.aio.Channel, pause_ms: float) -> float:
    """Time one call that does nothing after a pause as long as a request.

    The floor of what a hop costs here: after a pause both processes come back with cold caches.
    """
    await asyncio.sleep(pause_ms / 1e3)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    start = time.perf_counter()
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
    return (time.perf_counter() - start) * 1e3


def _line(cell: dict[str, Any]) -> str:
    ms = cell["median_ms"]
    return (
        f"K={cell['k']} prompt={cell['prompt_tokens']}: off {ms['off']:.1f} ms, "
        f"on {ms['on']:.1f} ms, auto {ms['auto']:.1f} ms "
        f"({cell['auto_over_faster']:.2f} of the faster), overhead off "
        f"{cell['overhead_p50_ms']['off']:.1f} / on {cell['overhead_p50_ms']['on']:.1f} ms "
        f"(empty call {cell['empty_call_p50_ms']:.1f}), "
        f"identical {cell['identical']}/{cell['requests']}"
    )
