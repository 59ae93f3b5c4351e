"""Ids are found by hash, whatever they look like."""

from __future__ import annotations

import numpy as np
import pytest

from specbeam.catalog import item_ids
from specbeam.catalog.item_ids import ItemIds

STRANGE = ["a", "aa", "aaa", "ä", "日本", "x" * 300, "0", "00", "-1", "\x00", "a b"]


def test_every_id_is_found_and_no_other() -> None:
    ids = ItemIds.of([*STRANGE, *map(str, range(100, 2_000))])
    names = [ids[n] for n in range(len(ids))]
    assert names[: len(STRANGE)] == STRANGE
    assert ids.find(names).tolist() == list(range(len(names)))
    assert ids.find(["", "nobody", "aaaa", "b", "2000"]).tolist() == [-1] * 5
    assert ids.find(["日本", "nobody", "a"]).tolist() == [4, -1, 0]
    assert ids.find([]).tolist() == []
    assert ids.duplicates() == []


def test_order_can_be_changed() -> None:
    ids = ItemIds.of(STRANGE)
    order = np.random.default_rng(0).permutation(len(STRANGE))
    taken = ids.take(order)
    assert [taken[n] for n in range(len(taken))] == [STRANGE[n] for n in order]


def test_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ItemIds, "_hash_chunk", lambda self, begin, end: np.zeros(end - begin))
    ids = ItemIds.of(STRANGE)
    assert ids.find([*STRANGE, "other"]).tolist() == [*range(len(STRANGE)), -1]
    assert ids.duplicates() == []
    assert ItemIds.of(["b", "a", "b", "c", "a"]).duplicates() == ["a", "b"]


def test_hashes_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ItemIds.of(STRANGE)
    whole = ids._hashes()
    monkeypatch.setattr(item_ids, "_CHUNK_IDS", 3)
    np.testing.assert_array_equal(ids._hashes(), whole)
    assert len(np.unique(whole)) == len(STRANGE)
