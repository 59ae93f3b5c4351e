"""Random search cases, and the drafters they are run with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import LlamaForCausalLM

from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, RankedItems, rank_items
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import DeviceExpansion
from specbeam.decoding.expansion import Expansion
from specbeam.decoding.host_expansion import HostExpansion
from specbeam.decoding.reference import ReferenceItem, reference_beam_search
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.shape import DraftShape
from specbeam.decoding.tree import CandidateTree
from specbeam.engine import (
    BeamSession,
    DraftSession,
    ModelRunner,
    SearchModel,
    SpeculationSpec,
    Turn,
)
from specbeam.engine.search import draft_tree
from tests.exactness.models import (
    coarsen,
    noisy_copy,
    random_model,
    random_paths,
    runner_of,
    whole_prefix_logprobs,
)

DRAFTS = ("same", "noisy", "unrelated", "empty", "lying")


@dataclass
class World:
    """A model with its catalogue: the expensive part, shared by many cases."""

    model: LlamaForCausalLM
    runner: ModelRunner
    drafts: dict[str, ModelRunner]
    trie: ItemTrie
    tensors: Expansion
    items: dict[str, tuple[int, ...]]
    popularity: dict[str, int]


@dataclass(frozen=True)
class Case:
    """One request."""

    world: World
    prompt: np.ndarray
    num_items: int
    beam_width: int
    excluded: list[str]
    speculation: SpeculationSpec


@dataclass
class Seen:
    """What a run of cases has exercised, so that a suite can insist on it."""

    accepted: Counter[int] = field(default_factory=Counter)
    repairs: int = 0
    dropped: int = 0
    exhausted: int = 0
    empty: int = 0
    collisions: int = 0


def make_world(seed: int, grid: float = 0.0, dtype: torch.dtype = torch.float64) -> World:
    """A random model and a random catalogue of depth 1 .. 6.

    A `grid` rounds the logits, which makes exact ties common.
    """
    rng = np.random.default_rng(seed)
    depth = 1 + seed % 6
    codes = int(rng.integers(3, 20))
    vocab_size = 3 + depth * codes + int(rng.integers(0, 10))
    paths = random_paths(rng, int(rng.integers(1, 250)), depth, codes, shared=bool(seed % 3 == 0))
    ids = [f"item-{n}" for n in rng.permutation(len(paths))]
    counts = rng.integers(0, 4, len(paths))
    model = random_model(seed, vocab_size, 1 + seed % 3, 1 + seed % 2, dtype)
    if grid:
        coarsen(model, grid)
    drafts = {
        "same": runner_of(model),
        "noisy": runner_of(noisy_copy(model, seed + 1, 0.08)),
        "unrelated": runner_of(random_model(seed + 1000, vocab_size, 1, 1, dtype)),
    }
    trie = ItemTrie.build(paths, ids, counts)
    return World(
        model,
        runner_of(model),
        drafts,
        trie,
        # Both implementations, turn by turn.
        HostExpansion(trie, Scoring())
        if seed % 4
        else DeviceExpansion(trie, Scoring(), torch.device("cpu")),
        {i: tuple(p) for i, p in zip(ids, paths.tolist(), strict=True)},
        dict(zip(ids, counts.tolist(), strict=True)),
    )


def make_case(world: World, rng: np.random.Generator) -> Case:
    """A random request on `world`."""
    num_items = int(rng.choice([1, 2, 3, 5, 10, 20, 50]))
    width = num_items + int(rng.choice([0, 0, 1, 5, 20]))
    length = int(rng.integers(0, 24))
    vocab = world.model.config.vocab_size
    prompt = np.concatenate([[1], rng.integers(3, vocab, length)])
    share = float(rng.choice([0.0, 0.0, 0.2, 0.9, 0.98, 1.0], p=[0.3, 0.2, 0.25, 0.1, 0.1, 0.05]))
    ids = sorted(world.items)
    excluded = [i for i in ids if rng.random() < share]
    speculation = SpeculationSpec(
        max_rows=int(rng.choice([width, width + 8, 64, 128, 300])),
        shape=DraftShape(
            levels=int(rng.integers(0, world.trie.depth + 1)),
            max_nodes=int(rng.choice([1, width, 2 * width, 60])),
        ),
    )
    return Case(world, prompt, num_items, width, excluded, speculation)


def exclude(trie: ItemTrie, items: np.ndarray):
    compiler = FilterCompiler(trie)
    return compiler.compile(compiler.resolve(ItemFilter(excluded_items=items)))


def expected_items(case: Case) -> list[ReferenceItem]:
    """The reference's answer."""
    world = case.world
    return reference_beam_search(
        world.items,
        world.popularity,
        case.prompt.tolist(),
        whole_prefix_logprobs(world.model),
        case.beam_width,
        case.num_items,
        set(case.excluded),
    )


def run_case(case: Case, draft: str, rng: np.random.Generator, seen: Seen) -> RankedItems:
    """Root-first speculative search with the given kind of draft."""
    world = case.world
    excluded = world.trie.index_of(case.excluded)
    leaf_filter = exclude(world.trie, excluded)
    model = SearchModel.open(world.runner, world.tensors)
    session = BeamSession(model, case.beam_width, leaf_filter)
    drafter: DraftSession | None = None
    try:
        turn = session.open(case.prompt)
        if draft in world.drafts:
            own = SearchModel.open(world.drafts[draft], world.tensors)
            drafter = DraftSession(own, case.beam_width, leaf_filter)
            drafter.open(case.prompt)
        propose = _proposer(case, draft, drafter, rng)
        rounds = 0
        while not session.finished:
            step = session.advance(propose(session.beams), case.speculation.max_rows)
            assert step.beams.level > turn.beams.level, "a pass must decide a level"
            seen.accepted[step.accepted_levels] += 1
            turn, rounds = turn.then(step), rounds + 1
        assert turn.passes <= world.trie.depth
        assert turn.passes == world.trie.depth - turn.accepted_levels or not len(turn.beams)
    finally:
        session.close()
        if drafter:
            drafter.close()
    assert world.runner.pool.free == world.runner.pool.slots
    return _finish(case, turn, excluded, rounds, seen)


def _finish(case: Case, turn: Turn, excluded: np.ndarray, rounds: int, seen: Seen) -> RankedItems:
    ranked = rank_items(
        case.world.trie,
        turn.beams.nodes,
        turn.beams.scores,
        case.num_items,
        lambda items: ~np.isin(items, excluded),
    )
    seen.repairs += rounds > 1
    seen.dropped += turn.dropped_nodes
    seen.exhausted += ranked.exhausted
    seen.empty += not len(ranked.items)
    seen.collisions += len(np.unique(ranked.leaves)) < len(ranked.leaves)
    return ranked


def _proposer(
    case: Case, draft: str, drafter: DraftSession | None, rng: np.random.Generator
) -> Callable[[Beams], CandidateTree]:
    nothing = np.zeros(0, np.int64)

    def propose(beams: Beams) -> CandidateTree:
        if drafter is not None:
            return draft_tree(drafter, beams, case.speculation, case.world.trie, case.beam_width)
        if draft == "empty":
            return CandidateTree(beams.level, nothing, nothing)
        count = int(rng.integers(0, 80))
        level = beams.level + int(rng.choice([0, 0, 0, 1, -1]))
        parents = rng.integers(-3, len(beams) + count + 3, count)
        tokens = rng.integers(0, case.world.model.config.vocab_size + 5, count)
        return CandidateTree(level, parents, tokens)

    return propose


def assert_equal(case: Case, got: RankedItems, want: list[ReferenceItem]) -> None:
    """Items and order identical, scores within fp64 noise."""
    trie = case.world.trie
    assert [trie.item_id(i) for i in got.items] == [item.item_id for item in want]
    np.testing.assert_allclose(got.scores, [item.score for item in want], rtol=0, atol=1e-9)
    paths = [tuple(path) for path in trie.leaf_paths(got.leaves).tolist()] if len(want) else []
    assert paths == [item.path for item in want]
