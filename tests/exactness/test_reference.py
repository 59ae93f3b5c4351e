"""The fast path equals the slow reference: items, order and scores, whatever the draft sends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specbeam.catalog import rank_items
from specbeam.decoding import host_expansion
from specbeam.engine import SearchModel, SearchSpec, plain_search
from tests.exactness.cases import (
    DRAFTS,
    Seen,
    World,
    assert_equal,
    exclude,
    expected_items,
    make_case,
    make_world,
    run_case,
)

WORLDS = 24
CASES_PER_WORLD = 9  # x 24 worlds x 5 drafts = 1,080 cases


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    torch.set_num_threads(1)
    return [make_world(seed) for seed in range(WORLDS)]


@pytest.mark.parametrize("draft", DRAFTS)
def test_speculative_search_equals_reference(worlds: list[World], draft: str) -> None:
    seen = Seen()
    for number, world in enumerate(worlds):
        rng = np.random.default_rng([number, DRAFTS.index(draft)])
        for _ in range(CASES_PER_WORLD):
            case = make_case(world, rng)
            assert_equal(case, run_case(case, draft, rng, seen), expected_items(case))
    # The suite is worth little unless it went everywhere.
    assert seen.repairs > 20
    assert seen.exhausted > 20
    assert seen.empty > 0
    assert seen.collisions > 10
    assert min(seen.accepted[depth] for depth in range(3)) > 0
    assert (seen.dropped > 100) == (draft == "lying")
    if draft == "same":
        assert max(seen.accepted) == 4  # L = 6: root, then the whole item in one pass


def test_plain_search_equals_reference(worlds: list[World]) -> None:
    for number, world in enumerate(worlds):
        rng = np.random.default_rng([number, 99])
        for _ in range(2):
            case = make_case(world, rng)
            excluded = world.trie.index_of(case.excluded)
            leaf_filter = exclude(world.trie, excluded)
            spec = SearchSpec(case.prompt, case.beam_width, leaf_filter)
            turn = plain_search(SearchModel.open(world.runner, world.tensors), spec)
            ranked = rank_items(
                world.trie,
                turn.beams.nodes,
                turn.beams.scores,
                case.num_items,
                lambda items, gone=excluded: ~np.isin(items, gone),
            )
            assert_equal(case, ranked, expected_items(case))


def test_levels_too_large_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's piecewise gather of children answers what its tables do."""
    monkeypatch.setattr(host_expansion, "MAX_TABLE_ENTRIES", 0)
    for seed in (1, 2, 3, 5, 9, 11):
        world = make_world(seed)
        rng = np.random.default_rng(seed)
        for draft in DRAFTS:
            case = make_case(world, rng)
            assert_equal(case, run_case(case, draft, rng, Seen()), expected_items(case))


@pytest.mark.parametrize("grid", [0.5, 4.0, 1e6])
def test_exact_ties_follow_the_path_order(grid: float) -> None:
    """Rounded logits: many choices are exact ties, decided by the paths alone."""
    ties = 0
    for seed in range(10):
        world = make_world(seed, grid)
        rng = np.random.default_rng(seed)
        for draft in DRAFTS:
            case = make_case(world, rng)
            want = expected_items(case)
            ties += len({item.score for item in want}) < len({item.path for item in want})
            assert_equal(case, run_case(case, draft, rng, Seen()), want)
    assert ties > 4
