"""The tree pool behind whole requests: it fills, helps, forgets, and never changes an answer."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.bundles import BundleTable
from orchestrator.pool import TreePool
from orchestrator.pool_writer import PoolWriter
from specbeam.client import Interaction, Recommendation
from specbeam.drafting.verified import VerifiedLevel, VerifiedTree
from specbeam.storage import Event, PoolScope, StateStore, open_state_store, pool_keys
from tests.bundles import exact_norms, tiny_bundle
from tests.redis_server import RedisServer
from tests.stack import Oracle, Stack, running
from tests.waiting import until

pytestmark = pytest.mark.slow

HISTORY = tuple(f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35))
BUNDLE = tiny_bundle(score_kind="TRIE")
# Alone, so that nobody else can have drafted.
ONLY_POOL = {"drafters": ("pool",)}


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(BUNDLE)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'state.db'}"
        return
    server = RedisServer(tmp_path, binary=request.getfixturevalue("redis_binary"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture
async def store(url: str) -> AsyncIterator[StateStore]:
    """A look at what the service keeps."""
    held = open_state_store(url)
    yield held
    await held.close()


def _scope() -> PoolScope:
    pool = TreePool(PoolWriter(open_state_store("memory:")), nodes=1, trees=1)
    return pool.scope(BundleTable.load([BUNDLE.path]).default)


async def _ask(stack: Stack, user: str) -> Recommendation:
    return await stack.client.recommend(user_id=user, num_items=5, speculation="on", debug=True)


async def _record(stack: Stack, user: str, items: tuple[str, ...] = HISTORY) -> None:
    await stack.client.record_interactions(user, [Interaction(item) for item in items])


async def _until_kept(store: StateStore, copies: int) -> None:
    async def kept() -> int:
        return (await store.statistics(_scope())).trees

    await until(kept, copies)


async def test_a_second_visit_is_drafted_by_the_first(
    store: StateStore, url: str, oracle: Oracle
) -> None:
    async with running(BUNDLE, draft=False, store=url, **ONLY_POOL) as stack:
        await _record(stack, "u")
        expected = oracle.rank(HISTORY, 5, excluded=HISTORY)
        first = await _ask(stack, "u")
        oracle.check(first, expected)
        assert first.debug is not None
        assert (first.work.rounds, first.debug.draft_sources, first.degraded) == (0, {}, ())
        await _until_kept(store, 3)  # its own, and under two endings
        second = await _ask(stack, "u")
        oracle.check(second, expected)
        assert second.debug is not None
        assert set(second.debug.draft_sources) == {"pool"}
        assert (second.work.rounds, second.work.passes) == (1, 2)
        assert second.work.passes < first.work.passes
        # Somebody else whose history ends alike.
        await _record(stack, "v")
        other = await _ask(stack, "v")
        oracle.check(other, expected)
        assert other.debug is not None
        assert set(other.debug.draft_sources) == {"pool"}
    async with running(BUNDLE, draft=False, store=url, flow="one-pass", **ONLY_POOL) as stack:
        again = await _ask(stack, "u")
        oracle.check(again, expected)
        assert (again.work.flow, again.work.passes) == ("one_pass", 1)


async def test_a_deleted_user_leaves_nothing(store: StateStore, url: str) -> None:
    async with running(BUNDLE, draft=False, store=url, **ONLY_POOL) as stack:
        await _record(stack, "u")
        await _ask(stack, "u")
        await _until_kept(store, 3)
        assert await stack.client.delete_user("u")
        assert (await store.statistics(_scope())).trees == 0
        assert await store.read_trees(_scope(), "v", pool_keys(HISTORY), 9) == ()


def _lies(rng: np.random.Generator) -> list[bytes]:
    """Bytes that are no tree, and whole trees of likely nodes that the target never saw."""
    trie, found = BUNDLE.trie, [b"", b"SV1", rng.bytes(600)]
    for share in (0.1, 1.0):
        levels = {}
        for level in range(1, trie.depth):
            count = trie.levels[level].num_nodes
            nodes = np.flatnonzero(rng.random(count) < share)
            logprobs = np.log(rng.random(len(nodes))).astype(np.float32)
            levels[level] = VerifiedLevel(nodes.astype(np.int64), logprobs)
        data = VerifiedTree(levels).encode()
        found += [data, data[:-1], data[:20] + bytes([data[20] ^ 1]) + data[21:]]
    return found


async def test_a_poisoned_pool_costs_time_only(store: StateStore, url: str, oracle: Oracle) -> None:
    rng = np.random.default_rng(0)
    expected = oracle.rank(HISTORY, 5, excluded=HISTORY)
    now = time.time_ns() // 1_000_000
    for number, data in enumerate(_lies(rng)):
        assert await store.add(_scope(), f"liar {number}", pool_keys(HISTORY), data, now)
    assert await store.add(_scope(), "u", (), _lies(rng)[3], now)
    await store.append("default", "u", [Event(item, item) for item in HISTORY])
    for flow in ("root-first", "one-pass"):
        async with running(BUNDLE, draft=False, store=url, flow=flow, **ONLY_POOL) as stack:
            answer = await _ask(stack, "u")
            oracle.check(answer, expected)
            assert answer.degraded == ()
            assert answer.work.passes <= BUNDLE.trie.depth
            assert answer.work.rounds >= 1


async def test_requests_without_a_pool_say_nothing_of_it(oracle: Oracle) -> None:
    async with running(BUNDLE, draft=False, drafters=("popularity",)) as stack:
        answer = await stack.client.recommend(
            events=[Interaction(item) for item in HISTORY],
            num_items=5,
            speculation="on",
            debug=True,
        )
        oracle.check(answer, oracle.rank(HISTORY, 5, excluded=HISTORY))
        # Popularity alone knows nothing of the request: it makes no tree by itself.
        assert answer.work.rounds == 0
