"""The items drawn follow the law promised: whole items without replacement from the model's law.

A tiny fp32 model's probabilities are multiplied out to the law of every item and of every set of
items.  Many seeds go through the noise and the conditional ranks at once; for some of them the
rule and whole sessions must find the same sets.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from specbeam.catalog import ItemTrie
from specbeam.decoding.noise import child_keys, conditional_ranks, gumbels, prefix_keys
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import Selection
from specbeam.engine import BeamSession, SearchModel
from tests.exactness.models import random_model, runner_of

# Items of three tokens, unevenly spread: one prefix has one item, another five.
PATHS = np.array(
    [[3, 6, 9], [3, 6, 10], [3, 7, 9], [3, 7, 10], [3, 7, 11], [4, 6, 9], [5, 6, 9], [5, 8, 11]]
)
PROMPT = np.array([1, 3, 7, 10, 4])
DRAWS = 100_000
IN_SESSIONS = 150
REJECT = 1e-4


@dataclass(frozen=True)
class Law:
    """The model's law over the catalogue.

    Attributes:
        model: the model with its catalogue.
        logprobs: of the children of every node by level, -inf where there is none.
    """

    model: SearchModel
    logprobs: list[np.ndarray]

    @property
    def trie(self) -> ItemTrie:
        return self.model.expansion.trie

    def of_items(self, temperature: float = 1.0) -> np.ndarray:
        """Probability of every leaf: the product along its path.  Shape (leaves,)."""
        found = np.zeros(1)
        for level, table in enumerate(self.tempered(temperature)):
            first = self.trie.levels[level].first_child_of(np.arange(len(table)))
            below = np.zeros(self.trie.levels[level + 1].num_nodes)
            for node, slot in zip(*np.nonzero(table > -np.inf), strict=True):
                below[first[node] + slot] = found[node] + table[node, slot]
            found = below
        law: np.ndarray = np.exp(found)
        assert law.sum() == pytest.approx(1.0, abs=1e-6)
        return law / law.sum()

    def tempered(self, temperature: float) -> list[np.ndarray]:
        """The laws of children at a temperature."""
        cold = [table / temperature for table in self.logprobs]
        return [t - np.logaddexp.reduce(t, axis=1, keepdims=True) for t in cold]


@pytest.fixture(scope="module")
def law() -> Law:
    torch.set_num_threads(1)
    trie = ItemTrie.build(PATHS, [str(n) for n in range(len(PATHS))])
    runner = runner_of(random_model(6, 14, dtype=torch.float32, spread=0.15))
    model = SearchModel.of(runner, trie, Scoring("TRIE"))
    tables = []
    with closing(BeamSession(model, len(PATHS), report_nodes=100)) as session:
        session.open(PROMPT)
        scorer = session._scorer
        for level in range(trie.depth):
            nodes = np.arange(trie.levels[level].num_nodes)
            if level:
                scorer.add_rows({level: nodes[scorer.needs_row(level, nodes)]})
            tables.append(scorer.logprobs_of(level, nodes))
    return Law(model, tables)


def set_law(items: np.ndarray, count: int) -> dict[tuple[int, ...], float]:
    """Probability of every set of `count` items drawn one after the other without replacement."""
    found = {}
    for members in combinations(range(len(items)), count):
        total = 0.0
        for order in permutations(members):
            left, chance = 1.0, 1.0
            for item in order:
                chance, left = chance * items[item] / left, left - items[item]
            total += chance
        found[members] = total
    return found


def drawn_sets(
    law: Law, first_seed: int, width: int, temperature: float, *, conditioned: bool = True
) -> np.ndarray:
    """The leaves that stochastic beam search draws for many seeds at once.

    Shape (DRAWS, width), in order of rank.  Not conditioned = fresh noise per level on the
    cumulative scores, which is a mistake.
    """
    seeds = range(first_seed, first_seed + DRAWS)
    empty = np.zeros((1, 0), np.int64)
    keys = np.concatenate([prefix_keys(seed, empty) for seed in seeds])[:, None]
    nodes, scores, ranks = np.zeros(keys.shape, np.int64), np.zeros(keys.shape), gumbels(keys)
    for level, table in enumerate(law.tempered(temperature)):
        above, below = law.trie.levels[level], law.trie.levels[level + 1]
        children = above.first_child_of(nodes)[..., None] + np.arange(table.shape[1])
        tokens = below.tokens_of(np.minimum(children, below.num_nodes - 1))
        flat = (-1, table.shape[1])
        below_keys = child_keys(keys.ravel(), tokens.reshape(flat))
        candidates = (scores[..., None] + table[nodes]).reshape(flat)
        candidates[np.isneginf(ranks).ravel()] = -np.inf
        noise = gumbels(below_keys)
        values = candidates + noise
        if conditioned:
            values = conditional_ranks(ranks.ravel(), candidates, noise)
        rows = (len(keys), -1)
        values = values.reshape(rows)
        best = np.argsort(-values, axis=1, kind="stable")[:, :width]
        nodes = np.take_along_axis(children.reshape(rows), best, axis=1)
        scores = np.take_along_axis(candidates.reshape(rows), best, axis=1)
        ranks = np.take_along_axis(values, best, axis=1)
        keys = np.take_along_axis(below_keys.reshape(rows), best, axis=1)
        nodes[np.isneginf(ranks)] = 0
    assert np.isfinite(ranks).all()
    return nodes


def counts_of(sets: np.ndarray, law: dict[tuple[int, ...], float]) -> np.ndarray:
    place = {members: number for number, members in enumerate(law)}
    codes = (np.sort(sets, axis=1) * 100 ** np.arange(sets.shape[1])).sum(axis=1)
    found, counts = np.unique(codes, return_counts=True)
    observed = np.zeros(len(law))
    for code, count in zip(found.tolist(), counts.tolist(), strict=True):
        members = tuple(code // 100**n % 100 for n in range(sets.shape[1]))
        observed[place[members]] += count
    return observed


def distance(counts: np.ndarray, chances: np.ndarray) -> float:
    """Total variation."""
    return float(np.abs(counts / counts.sum() - chances).sum() / 2)


@pytest.mark.parametrize(
    ("first_seed", "width", "taken", "temperature"),
    [
        (0, 2, 2, 1.0),
        (10**9, 2, 2, 1.0),
        (2**63, 2, 2, 1.0),
        (2 * 10**9, 3, 3, 1.6),
        (3 * 10**9, 4, 2, 0.7),
    ],
)
def test_sets_of_items_follow_the_exact_law(
    law: Law, first_seed: int, width: int, taken: int, temperature: float
) -> None:
    wanted = set_law(law.of_items(temperature), taken)
    chances = np.array(list(wanted.values()))
    assert chances.min() * DRAWS > 5, "chi-square needs some draws of every set"
    sets = drawn_sets(law, first_seed, width, temperature)[:, :taken]
    counts = counts_of(sets, wanted)
    p_value = chisquare(counts, chances / chances.sum() * DRAWS).pvalue
    rng = np.random.default_rng(1)
    floor = [distance(rng.multinomial(DRAWS, chances), chances) for _ in range(200)]
    print(
        f"p {p_value:.3f}, total variation {distance(counts, chances):.5f}, "
        f"floor {np.mean(floor):.5f} to {max(floor):.5f}"
    )
    assert p_value > REJECT
    assert distance(counts, chances) < 1.2 * max(floor)


def test_fresh_noise_on_every_level_is_another_law(law: Law) -> None:
    wanted = set_law(law.of_items(), 2)
    chances = np.array(list(wanted.values()))
    counts = counts_of(drawn_sets(law, 0, 2, 1.0, conditioned=False), wanted)
    print(f"total variation {distance(counts, chances):.4f}")
    assert chisquare(counts, chances / chances.sum() * DRAWS).pvalue < 1e-12
    assert distance(counts, chances) > 0.03


@pytest.mark.parametrize(("width", "temperature"), [(2, 1.0), (3, 1.6)])
def test_sessions_draw_the_same_sets(law: Law, width: int, temperature: float) -> None:
    """What the counts above are of is what is served, seed by seed and in order."""
    sets = drawn_sets(law, 10**9, width, temperature)[:IN_SESSIONS]
    for number, leaves in enumerate(sets.tolist()):
        selection = Selection("GUMBEL", 10**9 + number, temperature)
        with closing(BeamSession(law.model, width, selection=selection)) as session:
            session.open(PROMPT)
            while not session.finished:
                session.plain_step()
            order = np.argsort(-session.beams.rank_values)
            assert session.beams.nodes[order].tolist() == leaves
