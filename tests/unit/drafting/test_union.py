"""The union against a slow one, and what it promises."""

import math

import numpy as np
import pytest

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.free_nodes import needs_row
from specbeam.decoding.tree import node_of_each
from specbeam.drafting import walk
from specbeam.drafting.mixture import WeightedScorer
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.union import United, unite
from tests.unit.drafting.tries import (
    Law,
    children,
    random_beams,
    random_filter,
    random_law,
    random_trie,
    scorer_of,
)

CASES = range(60)


def _case(seed: int) -> tuple[np.random.Generator, DraftQuestion, list[tuple[float, Law]], int]:
    rng = np.random.default_rng(seed)
    trie = random_trie(rng)
    width = int(rng.integers(1, 8))
    level = int(rng.integers(0, 3))
    beams = random_beams(rng, trie, level, width) if level else Beams.root()
    question = DraftQuestion(trie, beams, width, leaf_filter=random_filter(rng, trie))
    laws = [
        (float(rng.random() + 0.1), random_law(rng, trie, known=float(rng.choice([1.0, 0.5]))))
        for _ in range(int(rng.integers(1, 4)))
    ]
    return rng, question, laws, int(rng.integers(1, 60))


def _unite(
    question: DraftQuestion, laws: list[tuple[float, Law]], max_rows: int, kind: str
) -> United:
    trie = question.trie
    sources = [
        WeightedScorer(str(number), scorer_of(trie, law), weight)
        for number, (weight, law) in enumerate(laws)
    ]
    return unite(
        question,
        sources,
        max_rows,
        lambda level, nodes: needs_row(trie, kind, level, nodes, question.leaf_filter),
    )


def _alive(trie: ItemTrie, leaf_filter: LeafFilter | None, level: int, node: int) -> bool:
    return leaf_filter is None or bool(leaf_filter.alive(trie, level, np.array([node]))[0])


def _mixed(
    question: DraftQuestion, laws: list[tuple[float, Law]], level: int, node: int
) -> dict[int, float]:
    """Probability of each child: the mean over the sources that know some child of the node."""
    trie, mass, total = question.trie, dict[int, float](), 0.0
    below = [
        c for c in children(trie, level, node) if _alive(trie, question.leaf_filter, level + 1, c)
    ]
    for weight, law in laws:
        listed = {child: law[level + 1, child] for child in below if (level + 1, child) in law}
        if not listed:
            continue
        total += weight
        for child, logprob in listed.items():
            mass[child] = mass.get(child, 0.0) + weight * math.exp(logprob)
    return {child: math.log(value / total) for child, value in mass.items()}


def _slow_scores(
    question: DraftQuestion, laws: list[tuple[float, Law]]
) -> dict[tuple[int, int], float]:
    """Mixed cumulative score of every node below the beams, nothing cut off."""
    beams, trie = question.beams, question.trie
    here = dict(zip(beams.nodes.tolist(), beams.scores.tolist(), strict=True))
    found: dict[tuple[int, int], float] = {}
    for level in range(beams.level, trie.depth - 1):
        here = {
            child: score + logprob
            for node, score in here.items()
            for child, logprob in _mixed(question, laws, level, node).items()
        }
        found |= {(level + 1, node): score for node, score in here.items()}
    return found


def _chosen(question: DraftQuestion, united: United) -> list[tuple[int, int]]:
    nodes, levels = node_of_each(question.trie, question.beams, united.tree)
    return list(zip(levels.tolist(), nodes.tolist(), strict=True))


@pytest.mark.parametrize("seed", CASES)
def test_most_likely_nodes_get_the_rows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for everything and no reservation, the slow union's order is the fast one's."""
    monkeypatch.setattr(walk, "LOWEST_MARGIN", -1e9)
    _, question, laws, _ = _case(seed)
    united = _unite(question, laws, 10_000, "VOCAB")
    scores = _slow_scores(question, laws)
    chosen = _chosen(question, united)
    assert set(chosen) == set(scores)
    assert len(set(chosen)) == len(chosen)
    # Reserved nodes come first; behind them the nodes of the first level stand by their score, and
    # no node stands better than its parent.
    first = [scores[key] for key in chosen if key[0] == question.beams.level + 1]
    rest = first[question.width :]
    assert rest == sorted(rest, reverse=True)
    if len(laws) == 1:
        best = sorted(first, reverse=True)[: question.width]
        assert sorted(first[: question.width], reverse=True) == best


@pytest.mark.parametrize("kind", ["VOCAB", "TRIE"])
@pytest.mark.parametrize("seed", CASES)
def test_budget_parents_and_filter_are_kept(seed: int, kind: str) -> None:
    _, question, laws, max_rows = _case(seed)
    united = _unite(question, laws, max_rows, kind)
    trie, beams, tree = question.trie, question.beams, united.tree
    chosen = _chosen(question, united)
    assert all(level > 0 for level, _ in chosen), "a node without a parent"
    assert len(set(chosen)) == len(chosen)
    assert (tree.parents < len(beams) + np.arange(len(tree))).all()
    assert all(_alive(trie, question.leaf_filter, *key) for key in chosen)
    own = 0
    if beams.level:
        own = int(needs_row(trie, kind, beams.level, beams.nodes, question.leaf_filter).sum())
    rows = sum(
        bool(needs_row(trie, kind, level, np.array([node]), question.leaf_filter)[0])
        for level, node in chosen
    )
    assert rows <= united.rows <= max(0, max_rows - own)
    assert len(united.sources) == len(tree)


@pytest.mark.parametrize("seed", CASES)
def test_first_source_equal_to_the_target_is_accepted_whole(seed: int) -> None:
    """K-consistent, whatever the other sources say and weigh."""
    _, question, laws, _ = _case(seed)
    rng = np.random.default_rng([seed, 1])
    target = random_law(rng, question.trie)
    noise = [(50.0, random_law(rng, question.trie)) for _ in laws]
    united = _unite(question, [(1.0, target), *noise], 40, "VOCAB")
    chosen = set(_chosen(question, united))
    beams = question.beams
    here = dict(zip(beams.nodes.tolist(), beams.scores.tolist(), strict=True))
    room = 40 - (len(here) if beams.level else 0)
    for level in range(beams.level, question.trie.depth - 1):
        here = {
            child: score + logprob
            for node, score in here.items()
            for child, logprob in _mixed(question, [(1.0, target)], level, node).items()
        }
        best = sorted(here, key=lambda node: (-here[node], node))[: question.width]
        here = {node: here[node] for node in best}
        room -= len(here)
        if room >= 0:
            assert {(level + 1, node) for node in here} <= chosen


def test_nobody_says_anything() -> None:
    rng = np.random.default_rng(0)
    question = DraftQuestion(random_trie(rng), Beams.root(), 3)
    assert len(_unite(question, [], 50, "VOCAB").tree) == 0
    assert len(_unite(question, [(1.0, {})], 50, "VOCAB").tree) == 0
    assert len(_unite(question, [(1.0, random_law(rng, question.trie))], 0, "VOCAB").tree) == 0
