"""Selection rules as functions of given noise, against obvious code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import DeviceExpansion
from specbeam.decoding.expansion import ScoredLevel
from specbeam.decoding.host_expansion import HostExpansion, select_top_host
from specbeam.decoding.noise import conditional_ranks
from specbeam.decoding.rules import RULES, Continuations, Drafted, Noise, best
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import RULE_NAMES, Selection


def test_every_rule_has_its_name() -> None:
    assert tuple(RULES) == RULE_NAMES


@pytest.mark.parametrize("seed", range(100))
def test_best_is_what_the_fast_selection_takes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, int(rng.integers(1, 30)), int(rng.integers(1, 300))).astype(float)
    values[rng.random(len(values)) < 0.4] = -np.inf
    width = int(rng.integers(1, len(values) + 1))
    assert best(values, width).tolist() == select_top_host(values, width).tolist()
    scores = values.reshape(1, -1)
    chosen = RULES["TOP_K"].choose(Continuations(scores, np.zeros(1), width), Noise())
    assert chosen.positions.tolist() == select_top_host(values, width).tolist()
    np.testing.assert_array_equal(chosen.scores, values[chosen.positions])
    assert chosen.go_on


def random_continuations(rng: np.random.Generator, *, law: bool) -> tuple[Continuations, Noise]:
    shape = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    scores = rng.normal(-3.0, 1.5, shape)
    scores[rng.random(shape) < rng.choice([0.0, 0.3, 0.8])] = -np.inf
    drafted = None
    if law:
        near = np.where(scores > -np.inf, scores + rng.normal(0, rng.choice([0, 0.7])), -1.0)
        near[rng.random(shape) < 0.2] = -np.inf
        total = np.logaddexp.reduce(near, axis=None)
        logprobs = near - total if total > -np.inf else near
        drafted = Drafted(logprobs, rng.random(shape) < 0.6)
    noise = Noise(rng.gumbel(size=shape), rng.random(shape), rng.random(shape))
    width = int(rng.integers(1, 8))
    return Continuations(scores, rng.normal(size=shape[0]), width, drafted), noise


@pytest.mark.parametrize("seed", range(100))
def test_gumbel_takes_the_largest_conditional_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    given, noise = random_continuations(rng, law=False)
    ranks = conditional_ranks(given.parent_ranks, given.scores, noise.gumbels).ravel()
    order = [p for p in np.argsort(-ranks, kind="stable").tolist() if ranks[p] > -np.inf]
    chosen = RULES["GUMBEL"].choose(given, noise)
    assert chosen.positions.tolist() == sorted(order[: given.width])
    np.testing.assert_array_equal(chosen.ranks, ranks[chosen.positions])
    np.testing.assert_array_equal(chosen.scores, given.scores.ravel()[chosen.positions])


def slow_relaxed(given: Continuations, noise: Noise) -> tuple[list[int], bool]:
    """The rule as it reads, with probabilities, one continuation after the other."""
    scores, width = given.scores.ravel().tolist(), given.width
    live = [place for place, score in enumerate(scores) if score > -np.inf]
    if len(live) <= width:
        return live, True
    gumbels = noise.gumbels.ravel().tolist()
    total = sum(np.exp(scores[place]) for place in live)
    target = {place: np.exp(scores[place]) / total for place in live}

    def draw(law: dict[int, float], count: int) -> list[int]:
        possible = [place for place in law if law[place] > 0]
        return sorted(possible, key=lambda p: -(np.log(law[p]) + gumbels[p]))[:count]

    if given.drafted is None:
        return sorted(draw(target, width)), True
    law = np.exp(given.drafted.logprobs).ravel().tolist()
    proposed = given.drafted.proposed.ravel().tolist()
    uniform = noise.acceptance.ravel().tolist()
    accepted = [
        place
        for place in live
        if proposed[place] and law[place] > 0 and uniform[place] <= target[place] / law[place]
    ]
    if len(accepted) >= width:
        keeping = noise.keeping.ravel().tolist()
        return sorted(sorted(accepted, key=lambda place: keeping[place])[:width]), True
    missing = width - len(accepted)
    left = {place: target[place] - law[place] for place in live if place not in accepted}
    # What differs by rounding only is equal.
    left = {place: rest for place, rest in left.items() if rest > 1e-6 * target[place]}
    if len(left) < missing:
        left = {place: target[place] for place in live if place not in accepted}
    return sorted(accepted + draw(left, missing)), False


def test_relaxed_is_the_rule_as_it_reads() -> None:
    rng = np.random.default_rng(4)
    went_on = stopped = 0
    for number in range(3000):
        given, noise = random_continuations(rng, law=number % 4 > 0)
        chosen = RULES["RELAXED"].choose(given, noise)
        positions, go_on = slow_relaxed(given, noise)
        assert (chosen.positions.tolist(), chosen.go_on) == (positions, go_on)
        live = int((given.scores > -np.inf).sum())
        assert len(positions) == min(live, given.width)
        np.testing.assert_array_equal(chosen.ranks, chosen.scores)
        went_on += go_on
        stopped += not go_on
    assert min(went_on, stopped) > 300


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("rule", RULE_NAMES[1:])
def test_only_laws_over_items_may_be_drawn_from(rule: str, place: str) -> None:
    trie = ItemTrie.build(np.array([[3, 4], [3, 5]]), ["a", "b"])
    for kind in ("VOCAB", "LEVEL"):
        scoring = Scoring(kind)
        expansion = (
            HostExpansion(trie, scoring)
            if place == "host"
            else DeviceExpansion(trie, scoring, torch.device("cpu"))
        )
        with pytest.raises(ValueError, match="needs TRIE"):
            expansion.allow(None, Selection(rule))
        allowed = expansion.under("TRIE").allow(None, Selection(rule))
        assert allowed.selection.rule == rule
        assert expansion.scoring.kind == kind


def test_only_children_keep_their_parent_s_rank_to_the_last_level() -> None:
    """Chains are free: nothing is drawn, nothing drifts, no row is needed."""
    paths = np.array([[3, 10, 20, 30, 40], [4, 11, 21, 31, 41], [5, 12, 22, 32, 42]])
    trie = ItemTrie.build(paths, ["a", "b", "c"])
    scored = np.log(np.array([[0.2, 0.5, 0.3]]))
    selection = Selection("GUMBEL", 11)
    for expansion in (
        HostExpansion(trie, Scoring("TRIE")),
        DeviceExpansion(trie, Scoring("TRIE"), torch.device("cpu")),
    ):
        values = scored if isinstance(expansion, HostExpansion) else torch.from_numpy(scored)
        allowed = expansion.allow(None, selection)
        root = Beams.root(selection)
        found = expansion.verify(root, {0: ScoredLevel(np.zeros(1, np.int64), values)}, 3, allowed)
        assert found.levels == 5
        assert found.beams.rank_values.max() == root.rank_values[0]
        one = expansion.verify(root, {0: ScoredLevel(np.zeros(1, np.int64), values)}, 1, allowed)
        assert one.beams.rank_values.tolist() == root.rank_values.tolist()
