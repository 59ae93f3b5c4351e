"""The chosen tree against trying every tree; what is learned of coverage; planning in rounds."""

import itertools
import math
import random
import time

import numpy as np
import pytest

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.costs import CostPoint, CostTable
from specbeam.decoding.free_nodes import needs_row
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import node_of_each
from specbeam.drafting.choosing import (
    ChosenTree,
    LevelChances,
    PassPrices,
    choose_tree,
    just_covered,
    level_chances,
)
from specbeam.drafting.coverage import Calibration, CoverageModel, LevelCoverage
from specbeam.drafting.mixture import WeightedScorer
from specbeam.drafting.planner import TreePlanner, best_nodes
from specbeam.drafting.prices import Prices, SearchPrices
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.walk import WalkedLevel, row_costs, walk
from tests.unit.drafting.tries import random_beams, random_law, random_trie, scorer_of


def _table() -> CostTable:
    points = [CostPoint(rows, prefix, 5 + 0.3 * rows) for rows in (1, 8, 64) for prefix in (0, 30)]
    table = CostTable.from_points(points)
    assert table is not None
    return table


def _question(seed: int) -> tuple[DraftQuestion, list[WeightedScorer]]:
    rng = np.random.default_rng(seed)
    trie, width = random_trie(rng), int(rng.integers(1, 5))
    beams = random_beams(rng, trie, 1, width)
    law = random_law(rng, trie, known=1.0)
    return DraftQuestion(trie, beams, width), [WeightedScorer("a", scorer_of(trie, law), 1.0)]


def _candidates(
    seed: int, kind: str = "VOCAB"
) -> tuple[DraftQuestion, list[WalkedLevel], list[np.ndarray], list[LevelChances]]:
    question, sources = _question(seed)
    levels = walk(question, sources, 12)
    costs = row_costs(
        question.beams.level,
        len(question.beams),
        levels,
        lambda level, nodes: needs_row(question.trie, kind, level, nodes),
    )
    chances = level_chances(question.beams.level, levels, costs, CoverageModel(1))
    return question, levels, costs, chances


def _prices(question: DraftQuestion, own: int) -> PassPrices:
    plain = np.array([40.0, 31.0, 20.0, 11.0, 0.0])[-(question.trie.depth + 1) :]
    return PassPrices(lambda rows: 5 + 0.3 * rows, plain, own)


def _expected(
    base: int, chances: list[LevelChances], counts: tuple[int, ...], prices: PassPrices
) -> tuple[float, int]:
    """Expected time of one tree, written down as it is defined."""
    rows = prices.own_rows + sum(
        int(part.rows[count]) for part, count in zip(chances, counts, strict=True)
    )
    ms = float(prices.tree_ms(np.array(rows)))
    reached = 1.0
    for number, (part, count) in enumerate(zip(chances, counts, strict=True)):
        share = float(part.known.covered(part.masses[[count]])[0])
        if count == 0:
            share = 0.0 if len(part.order) else 1.0
        ms += reached * (1 - share) * prices.plain_ms[base + 1 + number]
        reached *= share
    return ms + reached * prices.plain_ms[base + 1 + len(chances)], rows


@pytest.mark.parametrize("seed", range(25))
def test_no_tree_is_expected_to_be_quicker(seed: int) -> None:
    question, levels, _, chances = _candidates(seed, "TRIE" if seed % 3 == 0 else "VOCAB")
    if not levels:
        return
    base = question.beams.level
    prices, budget = _prices(question, len(question.beams)), 8 + seed
    chosen = choose_tree(base, levels, chances, budget, prices)
    sizes = [range(min(len(part.order), 12) + 1) for part in chances]
    best = math.inf
    for counts in itertools.product(*sizes):
        ms, rows = _expected(base, chances, counts, prices)
        if rows <= budget:
            best = min(best, ms)
    # Every number is tried as long as there are few; otherwise a grid comes close.
    few = all(part.rows[-1] <= 14 for part in chances)
    assert chosen.estimate.ms == pytest.approx(best, rel=1e-9 if few else 0.05)
    assert chosen.worthwhile == (chosen.estimate.ms < 0.98 * prices.plain_ms[base])


def _rows(chosen: ChosenTree, costs: list[np.ndarray]) -> int:
    return sum(int(cost[mask].sum()) for mask, cost in zip(chosen.masks, costs, strict=True))


def test_dear_rows_make_small_trees_and_cheap_ones_large_trees() -> None:
    smaller = 0
    for seed in range(12):
        question, levels, costs, chances = _candidates(seed)
        plain = np.array([40.0, 31.0, 20.0, 11.0, 0.0])[-(question.trie.depth + 1) :]
        cheap = PassPrices(lambda rows: 5 + 0.01 * rows, plain, 1)
        dear = PassPrices(lambda rows: 5 + 2.0 * rows, plain, 1)
        trees = [
            choose_tree(question.beams.level, levels, chances, 500, prices)
            for prices in (cheap, dear)
        ]
        few, many = _rows(trees[1], costs), _rows(trees[0], costs)
        assert few <= many
        smaller += few < many
    assert smaller > 8


def test_a_level_is_just_covered_by_its_last_best_node() -> None:
    known = LevelCoverage(1, 1)
    masses = np.array([1.5, 0.9, 0.4, 0.1, 0.0])
    part = LevelChances(np.array([2, 0, 3, 1]), np.arange(5), masses, known)
    assert just_covered(part, np.array([True, False, True, False]), 0) == pytest.approx(0.4)
    assert just_covered(part, np.array([False, True, False, False]), 0) == 0.0
    assert just_covered(part, np.zeros(4, bool), 0) == pytest.approx(1.5)
    assert just_covered(part, np.ones(4, bool), 1) is None


def test_chances_and_coverage_become_what_is_seen() -> None:
    rng, known = np.random.default_rng(0), LevelCoverage(1, 2)
    sources, reserved = np.array([0, 1]), np.zeros(2, bool)
    excess = np.array([0.3, 0.3])
    before = known.chances(sources, reserved, excess)
    for _ in range(300):
        known.learn(sources, reserved, excess, rng.random(2) < [0.9, 0.2])
    after = known.chances(sources, reserved, excess)
    assert before[0] == before[1]
    np.testing.assert_allclose(after, [0.9, 0.2], atol=0.07)
    # A level that just is covered at mass m is covered wherever less is left out.
    np.testing.assert_allclose(known.covered(np.array([0.0, 0.7])), [1, math.exp(-0.7)], atol=0.05)
    for _ in range(400):
        known.learn_mass(0.5 if rng.random() < 0.7 else None)
    found = known.covered(np.array([0.1, 0.49, 0.51]))
    assert found[0] == pytest.approx(0.7, abs=0.08) and found[1] == pytest.approx(0.7, abs=0.08)
    assert found[2] < 0.1


def test_unlikely_nodes_come_last_and_never_before_their_parents() -> None:
    question, levels, _, chances = _candidates(3)
    coverage = CoverageModel(1)
    above = None
    for number, (level, part) in enumerate(zip(levels, chances, strict=True), 2):
        chance = coverage.at(question.beams.level, number).chances(
            level.sources, level.reserved, level.excess
        )
        if above is not None:
            assert (part.masses[0] <= chance.sum() + 1e-9).all()
            chance = np.minimum(chance, above[level.parents])
        above = chance
        ordered = chance[part.order]
        assert (np.diff(ordered) <= 1e-12).all()
        assert part.masses[0] == pytest.approx(ordered.sum())


@pytest.mark.parametrize("seed", range(20))
def test_a_later_round_drafts_only_what_was_missed(seed: int) -> None:
    question, sources = _question(seed)
    trie, rng = question.trie, np.random.default_rng(seed)
    widths = [min(question.width, level.num_nodes) for level in trie.levels]
    prices = SearchPrices(Prices(_table()), 30, widths)
    planner = TreePlanner(trie, question.width, Calibration(), prices, always=True)

    def needed(level: int, nodes: np.ndarray) -> np.ndarray:
        return np.ones(len(nodes), bool)

    plan = planner.plan(question, sources, 60, needed)
    if plan is None:
        return
    assert plan.united is not None
    first, level = node_of_each(trie, question.beams, plan.united.tree)
    if question.beams.level + 1 >= trie.depth - 1:
        return
    # The target's next beams: some that were drafted, some that were not.
    children = np.unique(first[level == question.beams.level + 1])
    every = np.arange(trie.levels[question.beams.level + 1].num_nodes)
    beams = np.unique(rng.choice(every, min(len(every), question.width), replace=False))
    after = Beams(question.beams.level + 1, beams, np.linspace(-2, -1, len(beams)))
    planner.settled(question.beams, None, after)
    planner.learn()
    later = planner.plan(DraftQuestion(trie, after, question.width), sources, 60, needed)
    if later is None or later.united is None:
        return
    second, depth = node_of_each(trie, after, later.united.tree)
    held = first[level == after.level + 1]
    again = np.isin(second[depth == after.level + 1], held)
    # Rows in place cost nothing and are all kept in the tree, for what hangs below them.
    assert later.united.rows == len(second) - int(np.isin(second, held).sum())
    assert again.sum() <= len(held)
    assert len(children) <= len(first)


def _whole_tree(seed: int) -> tuple[ItemTrie, Beams, ScoredTree, dict[tuple[int, int], float]]:
    """Every node below some beams with a random law; also the sums along every path."""
    rng = np.random.default_rng(seed)
    trie = random_trie(rng)
    beams = random_beams(rng, trie, 1, 3)
    parents: list[int] = []
    tokens: list[int] = []
    logprobs: list[float] = []
    sums: dict[tuple[int, int], float] = {}
    numbers = {int(node): number for number, node in enumerate(beams.nodes)}
    scores = dict(zip(beams.nodes.tolist(), beams.scores.tolist(), strict=True))
    for level in range(1, trie.depth - 1):
        below: dict[int, int] = {}
        deeper: dict[int, float] = {}
        for node, number in numbers.items():
            first, last = trie.levels[level].first_child_of(np.array([node, node + 1]))
            for child in range(int(first), int(last)):
                below[child] = len(beams) + len(tokens)
                parents.append(number)
                tokens.append(int(trie.levels[level + 1].tokens_of(np.array([child]))[0]))
                logprobs.append(float(np.float32(-rng.exponential())))
                deeper[child] = sums[level + 1, child] = scores[node] + logprobs[-1]
        numbers, scores = below, deeper
    tree = ScoredTree(1, np.array(parents), np.array(tokens), np.array(logprobs, np.float32))
    return trie, beams, tree, sums


@pytest.mark.parametrize("seed", range(20))
def test_scores_add_up_along_paths_and_the_best_are_kept(seed: int) -> None:
    trie, beams, tree, sums = _whole_tree(seed)
    np.testing.assert_allclose(tree.cumulative(beams.scores), list(sums.values()))
    assert best_nodes(trie, beams, tree, 99).keys() == {level for level, _ in sums}
    kept = best_nodes(trie, beams, tree.best(beams.scores, 2), 99)
    alive: set[int] = set(beams.nodes.tolist())
    for level in range(2, trie.depth):
        ranked = sorted((-value, node) for (at, node), value in sums.items() if at == level)
        # Below a node that is left out nothing is kept, and nobody takes its place.
        best = {node for _, node in ranked[:2]}
        parents = trie.levels[level - 1].parent_of(np.array(sorted(best)))
        alive = {n for n, p in zip(sorted(best), parents.tolist(), strict=True) if p in alive}
        assert set(kept.get(level, np.zeros(0)).tolist()) == alive


def test_a_parent_that_comes_later_is_none() -> None:
    tree = ScoredTree(1, np.array([2, 1, 9]), np.zeros(3, np.int64), -np.ones(3, np.float32))
    np.testing.assert_allclose(tree.cumulative(np.array([-1.0])), [-1, -2, -1])


def test_prices_follow_what_is_observed() -> None:
    prices = Prices(_table())
    before = SearchPrices(prices, 30, [1, 5, 5, 5, 5]).at(1, 5).tree_ms(np.array([5, 50]))
    for _ in range(100):
        prices.observe(expected_ms=10, forward_ms=20, wall_ms=23)
    assert prices.scale == pytest.approx(2, rel=0.01)
    assert prices.turn_ms == pytest.approx(3, rel=0.01)
    after = SearchPrices(prices, 30, [1, 5, 5, 5, 5]).at(1, 5).tree_ms(np.array([5, 50]))
    np.testing.assert_allclose(after - 3, 2 * (before - 0.5), rtol=0.01)
    # Nothing is learned from a turn whose passes are unknown but what it took beside them.
    prices.observe(expected_ms=0, forward_ms=500, wall_ms=503)
    assert prices.scale == pytest.approx(2, rel=0.01)


def test_held_prompts_are_cheaper_and_rows_beside_a_prompt_cost_what_they_add() -> None:
    prices = Prices(_table())
    assert prices.prompt_ms(30, 29) < prices.prompt_ms(30, 0)
    added = prices.prompt_ms(30, 0, 20) - prices.prompt_ms(30, 0)
    assert float(added) == pytest.approx(0.3 * 20, rel=0.01)
    plain = SearchPrices(prices, 30, [1, 5, 5, 5, 5]).plain_ms()
    assert (np.diff(plain) < 0).all() and plain[-1] == 0


def test_what_is_missed_is_expected_to_be_drafted_again() -> None:
    coverage = CoverageModel(1)
    assert coverage.share_of_plain(2) == 1.0
    for _ in range(60):
        coverage.learn_share(2, 0.6)
    assert coverage.share_of_plain(2) == pytest.approx(0.6, abs=0.01)
    for _ in range(60):
        coverage.learn_share(2, 1.7)  # nobody has to take a tree that is slower
    assert coverage.share_of_plain(2) == pytest.approx(1.0, abs=0.01)


def test_where_no_tree_was_worth_it_looks_are_spared_but_not_all() -> None:
    question, sources = _question(2)
    widths = [min(question.width, level.num_nodes) for level in question.trie.levels]
    dear = CostTable.from_points([CostPoint(1, 30, 1.0), CostPoint(2, 30, 900.0)])
    assert dear is not None
    calibration = Calibration()
    rng, looked = random.Random(1), 0
    for number in range(400):
        prices = SearchPrices(Prices(dear), 30, widths)
        planner = TreePlanner(question.trie, question.width, calibration, prices, rng=rng)
        plan = planner.plan(question, sources, 60, lambda _, nodes: np.ones(len(nodes), bool))
        if plan is None:
            return
        assert plan.united is None
        if number >= 50:
            looked += bool(plan.estimate.coverage)
    assert 10 < looked < 80


def test_many_levels_are_chosen_quickly_and_well() -> None:
    rng, depth = np.random.default_rng(4), 20
    chances = []
    for level in range(depth):
        count = int(rng.integers(1, 60))
        shares = np.sort(rng.random(count))[::-1] ** 3
        masses = np.append(np.cumsum(shares[::-1])[::-1], 0.0)
        known = LevelCoverage(level + 1, 1)
        chances.append(LevelChances(np.arange(count), np.arange(count + 1), masses, known))
    levels: list[WalkedLevel] = [[0] * len(part.order) for part in chances]  # type: ignore[misc]
    plain = np.linspace(500, 0, depth + 3)
    prices = PassPrices(lambda rows: 5 + 0.3 * rows, plain, 1)
    started = time.perf_counter()
    chosen = choose_tree(1, levels, chances, 300, prices)
    assert time.perf_counter() - started < 1.0
    counts = tuple(int(mask.sum()) for mask in chosen.masks)
    ms, rows = _expected(1, chances, counts, prices)
    assert rows <= 300
    assert chosen.estimate.ms == pytest.approx(ms)
    for size in range(60):  # the same on every level is never better
        same = tuple(min(size, len(part.order)) for part in chances)
        other, needed = _expected(1, chances, same, prices)
        assert needed > 300 or other >= ms - 1e-9
