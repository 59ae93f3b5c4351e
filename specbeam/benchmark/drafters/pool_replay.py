"""The tree pool from cold to warm: a log replayed in its own order, request by request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.drafters.cases import Progress
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.workload import prompt_of
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.verified import VerifiedTree
from specbeam.engine import BeamSession, Turn
from specbeam.storage import PooledTree, PoolScope, StateStore, pool_keys
from specbeam.training.data.dataset import Dataset, Interactions


@dataclass(frozen=True, slots=True)
class PoolReplaySpec:
    """What is replayed.

    Attributes:
        requests: events replayed: those of as many users as it takes, first events excepted, in
            the order of time, or spread at random where the log has no clock.
        width: K = W.
        max_rows: row budget of a pass.
        nodes: nodes per level of a tree that is kept.
        trees: trees read for a request.
        bins: parts of the log that figures are given for.
    """

    requests: int = 20_000
    width: int = 10
    max_rows: int = 128
    nodes: int = 64
    trees: int = 9
    bins: int = 20


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request of the log: who, what came before, when (milliseconds)."""

    user: str
    items: np.ndarray
    time_ms: int


@dataclass(frozen=True, slots=True)
class _Answered:
    """What one request found and took."""

    own: bool
    others: int
    settled: bool
    passes: int
    rows: int
    union_ms: float
    read_ms: float


async def replay_pool(
    models: DraftModels,
    dataset: Dataset,
    store: StateStore,
    spec: PoolReplaySpec,
    progress: Progress,
) -> dict[str, Any]:
    """Replay a log against an empty pool; every request reads it, and leaves its tree there.

    Only the pool and what costs nothing (counts, where the bundle has them) draft, root first.

    Args:
        models: the target and the drafters.
        dataset: the log.
        store: holds the pool.
        spec: what is replayed.
        progress: called once per part.
    """
    scope = PoolScope("default", f"replay-{time.time_ns()}")
    answered: list[_Answered] = []
    growth = []
    size = max(1, spec.requests // spec.bins)
    for visit in _visits(models, dataset, spec.requests):
        answered.append(await _answer(models, store, scope, visit, spec))
        if len(answered) % size == 0:
            held = await store.statistics(scope)
            growth.append({**_figures(answered[-size:]), "after": len(answered), **asdict(held)})
            progress(_line(growth[-1]))
    return {
        "what": "tree pool: hits, coverage and size over a replayed log",
        "conditions": conditions(
            bundle=models.bundle.manifest.name,
            score_kind=models.bundle.manifest.score_kind,
            drafters=list(models.local),
            **asdict(spec),
        ),
        "parts": growth,
    }


def _visits(models: DraftModels, dataset: Dataset, count: int) -> Iterator[_Visit]:
    """Yield the requests of some users, all of theirs, in the order of time."""
    index = models.bundle.trie.index_of(dataset.items.item_ids)
    rng, log = np.random.default_rng(0), dataset.interactions
    visits: list[_Visit] = []
    for user in rng.permutation(len(log.user_ids)).tolist():
        events = np.flatnonzero(log.user == user)
        events = events[np.argsort(log.time[events], kind="stable")]
        items = index[log.item[events]]
        times = log.time[events]
        if not _has_clock(log):
            times = np.sort(rng.integers(0, 1 << 40, len(items)))
        for place in range(1, len(items)):
            past = items[:place]
            if (past >= 0).any():
                visits.append(_Visit(log.user_ids[user], past[past >= 0], int(times[place])))
        if len(visits) >= count:
            break
    yield from sorted(visits, key=lambda visit: visit.time_ms)[:count]


def _has_clock(log: Interactions) -> bool:
    """Whether times are moments; some data sets only number each user's events."""
    return int(log.time.max(initial=0)) > 1_000_000


async def _answer(
    models: DraftModels, store: StateStore, scope: PoolScope, visit: _Visit, spec: PoolReplaySpec
) -> _Answered:
    trie = models.bundle.trie
    keys = pool_keys([trie.item_id(int(item)) for item in visit.items[-2:]])
    started = time.perf_counter()
    found = await store.read_trees(scope, visit.user, keys, spec.trees)
    read_ms = (time.perf_counter() - started) * 1e3
    turn, settled, union_ms = _search(models, visit, found, spec)
    tree = VerifiedTree.join(trie, turn.scored)
    await store.add(scope, visit.user, keys, tree.encode(), time.time_ns() // 1_000_000)
    own = any(one.own for one in found)
    others = sum(not one.own for one in found)
    return _Answered(own, others, settled, turn.passes, turn.rows, union_ms, read_ms)


def _search(
    models: DraftModels, visit: _Visit, found: tuple[PooledTree, ...], spec: PoolReplaySpec
) -> tuple[Turn, bool, float]:
    """Return the turn, whether the first tree held everything, and the union's milliseconds."""
    trie = models.bundle.trie
    pool = tuple(VerifiedTree.decode(one.data, trie) for one in found)
    candidates = UnitedCandidates(
        trie=trie,
        score_kind=models.bundle.manifest.score_kind,
        beam_width=spec.width,
        max_rows=spec.max_rows,
        drafters=models.local,
        history=visit.items,
        pool=pool,
        alone=True,
    )
    with closing(BeamSession(models.target, spec.width, report_nodes=spec.nodes)) as session:
        turn = session.open(prompt_of(models.bundle, visit.items))
        tree, union_ms = None, 0.0
        if not session.finished:
            started = time.perf_counter()
            tree = candidates.tree(session.beams, {})
            union_ms = (time.perf_counter() - started) * 1e3
        if tree is not None:
            turn = turn.then(session.advance(tree, spec.max_rows))
        settled = session.finished
        while not session.finished:
            turn = turn.then(session.plain_step())
    return turn, settled, union_ms


def _figures(answered: list[_Answered]) -> dict[str, float]:
    def share(values: list[bool]) -> float:
        return float(np.mean(values))

    return {
        "own_hits": share([one.own for one in answered]),
        "other_hits": share([one.others > 0 for one in answered]),
        "any_hits": share([one.own or one.others > 0 for one in answered]),
        "trees_read": float(np.mean([one.own + one.others for one in answered])),
        "all_covered": share([one.settled for one in answered]),
        "all_covered_when_hit": share(
            [one.settled for one in answered if one.own or one.others] or [False]
        ),
        "all_covered_when_missed": share(
            [one.settled for one in answered if not (one.own or one.others)] or [False]
        ),
        "passes": float(np.mean([one.passes for one in answered])),
        "rows": float(np.mean([one.rows for one in answered])),
        "union_ms": median([one.union_ms for one in answered]),
        "read_ms": median([one.read_ms for one in answered]),
    }


def _line(part: dict[str, Any]) -> str:
    return (
        f"{part['after']:>7,} requests: {part['any_hits']:.2f} hit, all covered "
        f"{part['all_covered']:.3f}, {part['passes']:.2f} passes, {part['rows']:.0f} rows, "
        f"{part['trees']:,} trees, {part['bytes'] / 1e6:.1f} MB"
    )
