"""What a forward pass costs on this machine: measured once, kept in a small file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from specbeam.decoding.costs import CostPoint
from specbeam.engine.runner import ModelRunner

# Raised too when passes become quicker: costs kept before would mislead.
FORMAT = 3
PREFIXES = (30, 200)
# Dense where speculation is decided: a pass of 24 rows may cost twice one of 8.
ROWS = (1, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
PROMPTS = (30, 80, 200, 400)
_REPEATS = 3
# A shape that takes longer than this is not repeated: its noise is small, and others wait.
_ENOUGH_S = 0.15


def default_cache_dir() -> Path:
    """Return where costs are kept when nothing else is said."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "specbeam"


def find_costs(
    runner: ModelRunner,
    model_fingerprint: str,
    *,
    threads: int,
    max_rows: int,
    cache_dir: Path,
    budget_s: float,
) -> tuple[tuple[CostPoint, ...], OSError | None]:
    """Return the costs kept from an earlier start, else measure and keep them.

    Call it on the model's thread while a slot is free.

    Args:
        runner: the model.
        model_fingerprint: content hash of its weights.
        threads: CPU threads it uses.
        max_rows: do not measure passes of more rows.
        cache_dir: where costs are kept.
        budget_s: seconds for measuring; 0 = do not measure.

    Returns:
        The costs, and why they could not be kept, if so.
    """
    key = cost_key(runner, threads, model_fingerprint)
    points = load_costs(cache_dir, key)
    if points or not budget_s:
        return points, None
    points = measure_costs(runner, max_rows=max_rows, budget_s=budget_s)
    try:
        save_costs(cache_dir, key, points)
    except OSError as error:
        return points, error
    return points, None


def cost_key(runner: ModelRunner, threads: int, model_fingerprint: str) -> str:
    """Return the name under which the costs of a model on this machine are kept.

    Args:
        runner: the model.
        threads: CPU threads it uses.
        model_fingerprint: content hash of its weights.
    """
    device = runner.config.device
    if runner.device.type == "cuda":
        device = torch.cuda.get_device_name(runner.device)
    machine = f"{platform.node()}|{platform.machine()}|{os.cpu_count()}|{device}"
    text = f"{FORMAT}|{machine}|{threads}|{runner.config.dtype}|{model_fingerprint}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def load_costs(directory: Path, key: str) -> tuple[CostPoint, ...]:
    """Return the costs kept under `key`; empty when there are none that can be used."""
    try:
        document = json.loads((directory / f"costs-{key}.json").read_text(encoding="utf-8"))
        points = tuple(
            CostPoint(int(p["rows"]), int(p["prefix_tokens"]), float(p["ms"]))
            for p in document["points"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        # A cache: whatever is wrong with it, measuring again is right.
        return ()
    return points if all(p.ms > 0 and p.rows > 0 for p in points) else ()


def save_costs(directory: Path, key: str, points: Sequence[CostPoint]) -> None:
    """Keep costs under `key`; the file appears whole or not at all.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "points": [asdict(point) for point in points]}, indent=1)
    handle, name = tempfile.mkstemp(prefix=".costs-", dir=directory)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text + "\n")
    Path(name).replace(directory / f"costs-{key}.json")


def measure_costs(
    runner: ModelRunner,
    *,
    max_rows: int,
    budget_s: float,
    prefixes: Sequence[int] = PREFIXES,
    rows: Sequence[int] = ROWS,
    prompts: Sequence[int] = PROMPTS,
) -> tuple[CostPoint, ...]:
    """Time passes of several shapes; call it on the model's thread while a slot is free.

    Small shapes come first; when the time is used up the rest is left out.

    Args:
        runner: the model.
        max_rows: do not measure passes of more tree rows.
        budget_s: stop beginning new shapes after this many seconds.
        prefixes: prompt lengths before tree rows, cut to what a slot holds.
        rows: tree rows per pass.
        prompts: lengths of prompts that are run whole, cut likewise.

    Returns:
        Points ordered by prefix, then rows; those of whole prompts, with prefix 0, come first.
    """
    end = time.monotonic() + budget_s
    longest = runner.config.max_prompt_tokens
    counts = {min(count, max_rows, runner.config.max_rows) for count in rows}
    shapes = {(count, min(prefix, longest)) for count in counts for prefix in prefixes}
    shapes |= {(min(prompt, longest), 0) for prompt in prompts}
    slot = runner.pool.acquire()
    points = []
    try:
        # Passes behind a prefix that was not run take as long.
        for count, prefix in sorted(shapes):
            if time.monotonic() < end:
                points.append(CostPoint(count, prefix, _median_ms(runner, slot, prefix, count)))
    finally:
        runner.pool.release(slot)
        runner.meter.take()
    return tuple(sorted(points, key=lambda point: (point.prefix_tokens, point.rows)))


def _median_ms(runner: ModelRunner, slot: int, prefix: int, rows: int) -> float:
    """Median time of a pass; the first one warms up."""
    times: list[float] = []
    for _ in range(1 + _REPEATS):
        _synchronise(runner)
        start = time.perf_counter()
        _run(runner, slot, prefix, rows)
        _synchronise(runner)
        times.append((time.perf_counter() - start) * 1000)
        if sum(times) > 1000 * _ENOUGH_S and len(times) > 1:
            break
    return statistics.median(times[1:])


def _run(runner: ModelRunner, slot: int, prefix: int, rows: int) -> None:
    tokens = np.ones(rows, np.int64)
    if prefix:
        alone, positions = np.eye(rows, dtype=bool), np.full(rows, prefix)
        hidden = runner.forward_rows(slot, prefix, tokens, positions, alone)
    else:
        hidden = runner.prefill(slot, tokens)
    runner.logits(hidden)


def _synchronise(runner: ModelRunner) -> None:
    if runner.device.type == "cuda":
        torch.cuda.synchronize(runner.device)
