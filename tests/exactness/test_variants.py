"""Ways through the fast path that small cases would not take by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from specbeam.catalog import rank_items
from specbeam.decoding import host_expansion
from specbeam.decoding.shape import DraftShape
from specbeam.engine import (
    SearchSpec,
    SpeculationSpec,
    one_pass_search,
    plain_search,
    speculative_search,
)
from specbeam.engine import head as level_head
from tests.exactness.cases import (
    CONVENTIONS,
    FLOWS,
    PLACES,
    WAYS,
    Outcome,
    World,
    assert_equal,
    compare,
    make_case,
)
from tests.exactness.catalogues import MAKERS
from tests.exactness.models import runner_of
from tests.exactness.requests import FILTER_COMBINATIONS

pytestmark = pytest.mark.slow

WORLDS = len(MAKERS)


def search_everywhere(number: int, seed: int) -> None:
    """A case for each convention and way on one world."""
    torch.set_num_threads(1)
    world, rng = World.make(number), np.random.default_rng([number, seed])
    for convention in CONVENTIONS:
        for way in WAYS:
            kinds = FILTER_COMBINATIONS[int(rng.integers(len(FILTER_COMBINATIONS)))]
            compare(make_case(world, rng, kinds, convention, way), rng)


@pytest.mark.parametrize("number", range(WORLDS))
def test_levels_too_large_for_a_table(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's piecewise gather of children answers what its tables do."""
    monkeypatch.setattr(host_expansion, "MAX_TABLE_ENTRIES", 0)
    search_everywhere(number, 6)


@pytest.mark.parametrize("number", range(WORLDS))
def test_vocabularies_too_large_for_whole_rows(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VOCAB from slices of the head and a normaliser made of tiles."""
    monkeypatch.setattr(level_head, "WHOLE_VOCABULARY", 0)
    monkeypatch.setattr(level_head, "TILE", 7)
    search_everywhere(number, 7)


@pytest.mark.parametrize("number", range(WORLDS))
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_searches_by_one_call(number: int, convention: str) -> None:
    """The searches of `specbeam.engine`, with the shapes they choose themselves."""
    torch.set_num_threads(1)
    world, rng = World.make(number), np.random.default_rng([number, 8])
    for kinds in FILTER_COMBINATIONS[:: len(FILTER_COMBINATIONS) // 4]:
        case = replace(make_case(world, rng, kinds, convention), report_nodes=0)
        want = case.expected()
        wanted = world.as_item_filter(case.request.item_filter)
        leaf_filter = world.compiler.compile(world.compiler.resolve(wanted))
        spec = SearchSpec(
            np.array(case.request.prompt.tokens), case.request.beam_width, leaf_filter
        )
        for place in PLACES:
            target = world.search_model("target", convention, place)
            draft = world.search_model("noisy", convention, place)
            turns = [
                plain_search(target, spec),
                speculative_search(target, draft, spec, SpeculationSpec()),
                one_pass_search(target, draft, spec, SpeculationSpec()),
            ]
            assert turns[0].passes >= max(turn.passes for turn in turns)
            for turn in turns:
                ranked = rank_items(
                    world.trie,
                    turn.beams.nodes,
                    turn.beams.scores,
                    case.request.num_items,
                    lambda items, wanted=wanted: world.compiler.allowed(wanted, items),
                )
                assert_equal(case, Outcome([turn], ranked=ranked), want)


@pytest.mark.parametrize("number", range(WORLDS))
def test_large_selections(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection among thousands of candidates goes another way."""
    monkeypatch.setattr(host_expansion, "_LARGE_SELECTION", 0)
    search_everywhere(number, 13)


@pytest.mark.parametrize("number", range(WORLDS))
@pytest.mark.parametrize("width", [1, 3, 10])
def test_slots_no_larger_than_needed(number: int, width: int) -> None:
    """W rows a level are enough, whatever is drafted: more is cut, never an error."""
    torch.set_num_threads(1)
    world, rng = World.make(number), np.random.default_rng([number, 14])
    rows = width * world.trie.depth
    world.runners = {who: runner_of(model, max_rows=rows) for who, model in world.models.items()}
    for convention in CONVENTIONS:
        for way in WAYS:
            kinds = FILTER_COMBINATIONS[int(rng.integers(len(FILTER_COMBINATIONS)))]
            case = make_case(world, rng, kinds, convention, way)
            request = replace(case.request, beam_width=width, num_items=min(width, 5))
            compare(replace(case, request=request), rng)


@pytest.mark.parametrize("number", range(WORLDS))
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("flow", FLOWS)
def test_a_drafter_equal_to_the_target_is_accepted_whole(
    number: int, convention: str, flow: str
) -> None:
    """However little it proposes beyond its own beam: the prompt, then one pass; or one in all."""
    torch.set_num_threads(1)
    world, rng = World.make(number), np.random.default_rng([number, 15])
    for kinds in FILTER_COMBINATIONS[:: len(FILTER_COMBINATIONS) // 8]:
        case = make_case(world, rng, kinds, convention, "same")
        # Little more than W is where a wider beam could push out members of the beam itself.
        width = case.request.beam_width
        speculation = SpeculationSpec(
            max_rows=world.runners["target"].config.max_rows,
            shape=DraftShape(world.trie.depth, int(rng.choice([1, width + 1, 2 * width, 80]))),
        )
        case = replace(
            case, speculation=speculation, restarts=False, steps_plainly=False, flow=flow
        )
        got, _ = compare(case, rng)
        assert len(got.turns) <= (2 if flow == "root-first" else 1)
