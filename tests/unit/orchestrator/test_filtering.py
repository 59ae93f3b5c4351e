"""Filters of requests: what they come down to, and where they are compiled."""

import threading

import numpy as np
import pytest

from orchestrator.bundles import BundleTable, Serving
from orchestrator.filtering import INLINE_ITEMS, compile_filter
from orchestrator.query import Query
from specbeam.catalog import FilterCompiler, ItemFilter, LeafSpec
from tests.bundles import tiny_bundle

NOBODY = np.zeros(0, np.int32)


class WatchedCompiler(FilterCompiler):
    """Remembers on which threads it worked."""

    threads: list[threading.Thread]

    def resolve(self, wanted: ItemFilter) -> LeafSpec:
        self.threads.append(threading.current_thread())
        return super().resolve(wanted)


@pytest.fixture
def serving() -> Serving:
    (loaded,) = BundleTable.load([tiny_bundle(facts=True).path]).all()
    compiler = WatchedCompiler(loaded.trie)
    compiler.threads = []
    return Serving(loaded.bundle, compiler, loaded.fan_outs, loaded.items)


def inline(serving: Serving) -> list[bool]:
    here = threading.current_thread()
    return [thread is here for thread in serving.filters.threads]  # type: ignore[attr-defined]


async def test_no_filter_is_none(serving: Serving) -> None:
    chosen = await compile_filter(Query(exclude_history=False), serving, np.arange(5))
    assert chosen.allowed is None and chosen.kind == ""
    assert not len(chosen.leaves.excluded_leaves)
    assert inline(serving) == []


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        (Query(exclude_history=True), "exclude"),
        (Query(exclude_item_ids=("item-0001",)), "exclude"),
        (Query(required_tags=(("half",),)), "conditions"),
        (Query(created_after_ms=0), "conditions"),
        (Query(allow_item_ids=("item-0001",), required_tags=(("half",),)), "allow"),
        (Query(allow_item_ids=("nowhere",)), "allow"),
    ],
)
async def test_kinds_of_filters(serving: Serving, query: Query, kind: str) -> None:
    assert (await compile_filter(query, serving, np.arange(5))).kind == kind


async def test_seen_items_named_items_and_unknown_ones(serving: Serving) -> None:
    trie = serving.trie
    named, seen = int(trie.index_of(["item-0007"])[0]), 3
    query = Query(exclude_history=True, exclude_item_ids=("item-0007", "nowhere"))
    chosen = await compile_filter(query, serving, np.array([seen], np.int32))
    assert chosen.allowed is not None
    items = np.arange(trie.num_items)
    assert np.flatnonzero(~chosen.allowed(items)).tolist() == sorted({named, seen})
    chosen = await compile_filter(Query(allow_item_ids=("nowhere",)), serving, NOBODY)
    assert chosen.allowed is not None and not chosen.allowed(items).any()
    assert chosen.leaves.allowed_leaves is not None and not len(chosen.leaves.allowed_leaves)


async def test_what_takes_long_leaves_the_event_loop(serving: Serving) -> None:
    query = Query(required_tags=(("half",), ("third", "nine")))
    await compile_filter(query, serving, NOBODY)
    await compile_filter(query, serving, NOBODY)
    same = Query(required_tags=(("nine", "third"), ("half",)))
    await compile_filter(same, serving, NOBODY)
    many = Query(exclude_item_ids=("item-0001",) * (INLINE_ITEMS + 1))
    await compile_filter(many, serving, NOBODY)
    few = Query(allow_item_ids=("item-0001",) * INLINE_ITEMS)
    await compile_filter(few, serving, NOBODY)
    assert inline(serving) == [False, True, True, False, True]
