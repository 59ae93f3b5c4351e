"""What a catalogue of random items costs: building, memory, and one decoding step under filters."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specbeam.benchmark.conditions import conditions, median
from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.host_expansion import HostExpansion
from specbeam.decoding.scoring import SCORE_KINDS, ColumnMap, LevelScores, Scoring

Progress = Callable[[str], None]

_FIRST_TOKEN = 3
_TAG = "one in twenty"
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class CatalogBenchSpec:
    """What is measured.

    Attributes:
        items: N random items.
        item_length: L.
        codes: codes per level.
        beams: W, beams expanded and kept.
        exclusions: items excluded, as a long history would.
        repeats: timings of each step; the median counts.
        seed: of everything random.
    """

    items: int = 1_000_000
    item_length: int = 4
    codes: int = 256
    beams: int = 50
    exclusions: int = 200
    repeats: int = 200
    seed: int = 0


def run_catalog_bench(spec: CatalogBenchSpec, progress: Progress) -> dict[str, Any]:
    """Build a random catalogue and time it.

    Args:
        spec: what is measured.
        progress: called with a line per step.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(spec.seed)
    progress(f"{spec.items:,} random items, {spec.item_length} levels of {spec.codes} codes")
    trie, building = _build(spec, rng)
    progress(f"built in {building['build_s']:.2f} s, {building['bytes_per_item']:.1f} B/item")
    steps = []
    for name, wanted in _filters(spec, trie, rng).items():
        steps += _measure_filter(spec, trie, name, wanted, rng)
        worst = max(ms for step in steps if step["filter"] == name for ms in step["ms_per_level"])
        progress(f"{name}: at most {worst:.3f} ms a level")
    return {
        "what": "random catalogue: build, size, expand + filter + select on one core",
        "conditions": conditions(threads=1, **asdict(spec)),
        "building": building,
        "steps": steps,
    }


def _build(spec: CatalogBenchSpec, rng: np.random.Generator) -> tuple[ItemTrie, dict[str, Any]]:
    shape = (spec.items, spec.item_length)
    paths = rng.integers(0, spec.codes, shape, dtype=np.int32)
    paths += _FIRST_TOKEN + np.arange(spec.item_length, dtype=np.int32) * spec.codes
    ids = [str(number) for number in range(spec.items)]
    popularity = rng.integers(0, 1000, spec.items)
    start = time.perf_counter()
    plain = ItemTrie.build(paths, ids, popularity)
    build_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "catalog.idx"
        start = time.perf_counter()
        plain.save(file)
        save_s = time.perf_counter() - start
        size = file.stat().st_size
        start = time.perf_counter()
        ItemTrie.load(file)
        load_s = time.perf_counter() - start
    ids_and_counts = sum(plain._arrays[name].nbytes for name in ("id_text", "id_offsets"))
    ids_and_counts += plain.popularity.nbytes
    tags = {_TAG: np.flatnonzero(rng.random(spec.items) < 0.05)}
    trie = ItemTrie.build(paths, ids, popularity, tags=tags)
    start = time.perf_counter()
    trie.prepare()
    return trie, {
        "build_s": build_s,
        "save_s": save_s,
        "load_and_verify_s": load_s,
        "prepare_s": time.perf_counter() - start,
        "bytes_per_item": size / spec.items,
        "bytes_per_item_without_ids_and_popularity": (size - ids_and_counts) / spec.items,
        "nodes_per_level": [level.num_nodes for level in trie.levels],
        "max_children_per_level": [level.max_children for level in trie.levels],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _filters(
    spec: CatalogBenchSpec, trie: ItemTrie, rng: np.random.Generator
) -> dict[str, ItemFilter]:
    history = rng.integers(0, spec.items, spec.exclusions)
    tag, allowed = ((_TAG,),), trie.tagged_items(_TAG)
    few = rng.choice(spec.items, min(5_000, spec.items), replace=False)
    return {
        "none": ItemFilter(),
        "exclusions": ItemFilter(excluded_items=history),
        "5 % tag": ItemFilter(required_tags=tag),
        "exclusions + 5 % tag": ItemFilter(excluded_items=history, required_tags=tag),
        "exclusions + 5 % allow list": ItemFilter(excluded_items=history, allowed_items=allowed),
        "exclusions + allow list of 5000": ItemFilter(excluded_items=history, allowed_items=few),
    }


def _measure_filter(
    spec: CatalogBenchSpec,
    trie: ItemTrie,
    name: str,
    wanted: ItemFilter,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    compiler = FilterCompiler(trie)
    compile_ms = []
    leaf_filter = None
    for _ in range(5):  # the first one fills the cache of named filters
        start = time.perf_counter()
        leaf_filter = compiler.compile(compiler.resolve(wanted))
        compile_ms.append((time.perf_counter() - start) * 1e3)
    return [
        {
            "filter": name,
            "score_kind": kind,
            "first_compile_ms": compile_ms[0],
            "compile_ms": median(compile_ms[1:]),
            "ms_per_level": [
                _step_ms(spec, trie, kind, leaf_filter, level, rng) for level in range(trie.depth)
            ],
        }
        for kind in SCORE_KINDS
    ]


def _step_ms(
    spec: CatalogBenchSpec,
    trie: ItemTrie,
    kind: str,
    leaf_filter: LeafFilter | None,
    level: int,
    rng: np.random.Generator,
) -> float:
    """Median time to expand, filter and select below `beams` allowed nodes of a level."""
    expansion = HostExpansion(trie, Scoring(kind))
    allowed = expansion.allow(leaf_filter)
    every = np.arange(trie.levels[level].num_nodes)
    alive = every[expansion.alive(level, every, allowed)]
    times = []
    for _ in range(spec.repeats + _WARM_UP):
        nodes = np.sort(rng.choice(alive, min(spec.beams, len(alive)), replace=False))
        values = torch.log_softmax(torch.randn(len(nodes), spec.codes), -1)
        columns = ColumnMap(_FIRST_TOKEN + level * spec.codes)
        scores = LevelScores(values, columns, over_children=kind == "TRIE")
        beams = Beams(level, nodes, rng.normal(size=len(nodes)))
        start = time.perf_counter()
        scored = {level: expansion.score(level, nodes, scores, allowed)}
        verified = expansion.verify(beams, scored, spec.beams, allowed)
        elapsed = (time.perf_counter() - start) * 1e3
        # Free steps (TRIE) decide further levels in the same call.
        times.append(elapsed / verified.levels)
    return median(times[_WARM_UP:])
