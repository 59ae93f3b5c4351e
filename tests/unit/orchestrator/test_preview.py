"""Guesses of a preview, against dictionaries."""

import math

import numpy as np
import pytest

from orchestrator import preview
from orchestrator.filtering import RequestFilter
from orchestrator.ports import BeamPaths
from orchestrator.preview import best_first, guess_items, items_below
from specbeam.catalog import ItemTrie, LeafSpec
from tests.exactness.catalogues import MAKERS, Catalogue


def _beams(trie: ItemTrie, level: int, rng: np.random.Generator, most: int) -> BeamPaths:
    count = min(most, trie.levels[level].num_nodes)
    nodes = np.sort(rng.choice(trie.levels[level].num_nodes, count, replace=False))
    # Ties on purpose.
    scores = -rng.integers(1, 9, count) / 2
    return BeamPaths(level, trie.node_paths(level, nodes).astype(np.int64), scores)


def _slow_guesses(
    trie: ItemTrie, catalogue: Catalogue, beams: BeamPaths, allowed: np.ndarray, count: int
) -> list[tuple[float, int]]:
    """Weight and number of each allowed item below a beam, best first."""
    weights = []
    for tokens, score in zip(beams.tokens.tolist(), beams.scores.tolist(), strict=True):
        below = [
            item
            for item in range(trie.num_items)
            if trie.paths(np.array([item]))[0, : beams.level].tolist() == tokens and allowed[item]
        ]
        shares = [catalogue.items[trie.item_id(item)].popularity + 1 for item in below]
        weights += [
            (-math.exp(score) * share / sum(shares), item)
            for share, item in zip(shares, below, strict=True)
        ]
    return sorted(weights)[:count]


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", range(4))
def test_guesses_are_the_heaviest_allowed_items(maker: int, seed: int) -> None:
    rng = np.random.default_rng([maker, seed])
    catalogue = MAKERS[maker](rng)
    trie = catalogue.build_trie()
    level = 1 + seed % min(2, trie.depth)
    beams = _beams(trie, level, rng, 6)
    allowed = rng.random(trie.num_items) < (1.0, 0.5, 0.1, 0.0)[seed]
    chosen = RequestFilter(LeafSpec(), None if seed == 0 else lambda items: allowed[items])
    want = _slow_guesses(trie, catalogue, beams, allowed, 7)
    found = guess_items(trie, beams, chosen, 7).tolist()
    every = {
        item: weight
        for weight, item in _slow_guesses(trie, catalogue, beams, allowed, trie.num_items)
    }
    # Equal weights may stand in either order: they are compared, not the items.
    assert [every[item] for item in found] == pytest.approx([weight for weight, _ in want])
    assert len(set(found)) == len(found)


def test_sizes_and_order_of_beams() -> None:
    rng = np.random.default_rng(0)
    trie = MAKERS[0](rng).build_trie()
    beams = _beams(trie, 1, rng, 5)
    first, sizes = items_below(trie, beams)
    for tokens, start, size in zip(beams.tokens, first, sizes, strict=True):
        below = np.flatnonzero(trie.paths(np.arange(trie.num_items))[:, 0] == tokens[0])
        assert (below[0], len(below)) == (start, size)
    order = best_first(beams).tolist()
    assert order == sorted(range(len(beams)), key=lambda place: (-beams.scores[place], place))


def test_beams_that_are_not_in_the_catalogue_have_no_items() -> None:
    trie = MAKERS[0](np.random.default_rng(0)).build_trie()
    beams = BeamPaths(1, np.array([[10**6]]), np.zeros(1))
    assert items_below(trie, beams)[1].tolist() == [0]
    assert not len(guess_items(trie, beams, RequestFilter(LeafSpec(), None), 5))
    nobody = BeamPaths(1, np.zeros((0, 1), np.int64), np.zeros(0))
    assert not len(guess_items(trie, nobody, RequestFilter(LeafSpec(), None), 5))


def test_large_catalogue_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_LOOKED_AT", 100)
    codes = np.arange(900)
    paths = np.stack([3 + codes // 300, 10 + codes % 300], axis=1)
    trie = ItemTrie.build(paths, [f"i{n}" for n in codes], np.ones(900, int))
    beams = BeamPaths(1, np.array([[3], [4], [5]]), np.array([-2.0, -1.0, -3.0]))
    asked: list[np.ndarray] = []

    def allowed(items: np.ndarray) -> np.ndarray:
        asked.append(items)
        return np.ones(len(items), bool)

    assert len(guess_items(trie, beams, RequestFilter(LeafSpec(), allowed), 5)) == 5
    (looked_at,) = asked
    # The best beam, evenly.
    assert looked_at.tolist() == (300 + 3 * np.arange(100)).tolist()
