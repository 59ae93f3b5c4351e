"""The fast path equals the slow reference: items, order and scores, whatever the draft sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from specbeam.decoding.reference import PAD, ReferenceAnswer
from tests.exactness.cases import (
    CONVENTIONS,
    FLOWS,
    KV_HEADS,
    PLACES,
    WAYS,
    Case,
    Outcome,
    World,
    compare,
    make_case,
)
from tests.exactness.catalogues import MAKERS
from tests.exactness.models import FAMILIES
from tests.exactness.requests import FILTER_COMBINATIONS, FILTER_KINDS

CHUNKS = 18
WORLDS_PER_CHUNK = len(MAKERS)
CASES_PER_WORLD = 26
CASES = CHUNKS * WORLDS_PER_CHUNK * CASES_PER_WORLD
assert CASES >= 5_000

EVENTS = (
    "repairs",
    "repairs after the prompt's tree",
    "dropped beside the prompt",
    "reports",
    "restarts",
    "dropped",
    "exhausted",
    "several items on a leaf",
    "cuts",
    "dead beams",
    "free levels",
    "free beams among others",
    "finished beside unfinished",
)


@dataclass
class Seen:
    """What cases have exercised, so that the suite can insist on it."""

    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    accepted_at_once: Counter[int] = field(default_factory=Counter)
    filters: Counter[frozenset[str]] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, got: Outcome, want: ReferenceAnswer) -> None:
        self.cases += 1
        self.counts.update([case.convention, case.place, case.way, case.world.catalogue.kind])
        self.counts[case.flow] += 1
        shape = case.world.model.config
        self.counts.update([shape.model_type, f"{shape.num_key_value_heads} key-value heads"])
        self.filters[case.request.kinds] += 1
        self.left[_how_many(len(case.request.admitted), case.request.num_items)] += 1
        steps = got.turns[1:]
        self.accepted.update(turn.accepted_levels for turn in steps)
        if case.flow == "one-pass":
            self.accepted_at_once[got.turns[0].accepted_levels] += 1
        self.counts.update(_events(case, got, want))

    def assert_everywhere(self) -> None:
        """The suite is worth little unless it went everywhere."""
        heads = [f"{count} key-value heads" for count in KV_HEADS]
        for name in (*CONVENTIONS, *PLACES, *WAYS, *FLOWS, *FAMILIES, *heads):
            assert self.counts[name] >= 30, name
        for name in EVENTS:
            assert self.counts[name] >= 10, name
        # Root, then the whole item in one pass: 6 levels, 4 beyond the one a pass decides anyway.
        assert min(self.accepted[depth] for depth in range(5)) > 0
        # The same with the prompt's own level.
        assert min(self.accepted_at_once[depth] for depth in range(6)) > 0
        assert len(self.filters) == len(FILTER_COMBINATIONS)
        assert all(self.filters[frozenset([kind])] >= 5 for kind in FILTER_KINDS)
        assert set(self.left) == {"none", "one", "K - 1", "fewer", "enough"}

    def summary(self) -> str:
        accepted = (self.accepted, self.accepted_at_once)
        parts = [self.counts, self.left, *(sorted(depths.items()) for depths in accepted)]
        return f"{self.cases} cases: " + "; ".join(str(dict(part)) for part in parts)


def _events(case: Case, got: Outcome, want: ReferenceAnswer) -> list[str]:
    """What happened in a search, by the names of `EVENTS`."""
    width, levels = case.request.beam_width, case.world.trie.levels
    beams = [level[:width] for level in want.candidates]
    # Beams that go on from a level, and how many of them needed the model.
    going_on = list(zip(beams[:-1], want.asked[1:], strict=True))
    steps = got.turns[1:]
    happened = {
        "repairs": len(steps) > 1 and case.way != "plain",
        "repairs after the prompt's tree": bool(steps) and case.flow == "one-pass",
        "dropped beside the prompt": bool(got.turns[0].dropped_nodes),
        "reports": any(len(tree) for turn in got.turns for _, tree in turn.scored),
        "restarts": got.restarted,
        "dropped": any(turn.dropped_nodes for turn in steps),
        "exhausted": len(want.items) < case.request.num_items,
        "several items on a leaf": len({i.path for i in want.items}) < len(want.items),
        "cuts": any(len(level) > width for level in want.candidates),
        "dead beams": any(
            0 < len(level) < min(width, levels[number].num_nodes)
            for number, level in enumerate(want.candidates, start=1)
        ),
        "free levels": any(level and not asked for level, asked in going_on),
        "free beams among others": any(0 < asked < len(level) for level, asked in going_on),
        "finished beside unfinished": any(
            {beam.path[-1] == PAD for beam in level} == {True, False} for level in beams
        ),
    }
    # Finished items are free under every convention; here forced steps are meant.
    if case.convention != "TRIE":
        happened["free levels"] = happened["free beams among others"] = False
    return [name for name, did in happened.items() if did]


def _how_many(left: int, wanted: int) -> str:
    if left == wanted - 1 and left > 1:
        return "K - 1"
    few = "fewer" if left < wanted else "enough"
    return {0: "none", 1: "one"}.get(left, few)


@pytest.mark.parametrize(
    "chunk", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, CHUNKS))]
)
def test_search_equals_reference(
    chunk: int, record_property: Callable[[str, object], None]
) -> None:
    """Every chunk has every catalogue, convention, way, place and combination of filters."""
    torch.set_num_threads(1)
    seen = Seen()
    for position in range(WORLDS_PER_CHUNK):
        number = chunk * WORLDS_PER_CHUNK + position
        world, rng = World.make(number), np.random.default_rng([number, 3])
        for _ in range(CASES_PER_WORLD):
            # Counted through the chunk: 32, 3 and 11 have no common divisor.
            kinds = FILTER_COMBINATIONS[seen.cases % len(FILTER_COMBINATIONS)]
            convention = CONVENTIONS[seen.cases % len(CONVENTIONS)]
            way = WAYS[seen.cases % len(WAYS)]
            case = make_case(world, rng, kinds, convention, way)
            seen.add(case, *compare(case, rng))
    record_property("seen", seen.summary())
    print(seen.summary())
    seen.assert_everywhere()
