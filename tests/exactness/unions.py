"""Trees from every drafter there is, alone and united; what they know is random, or the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from specbeam.bundle.neighbours import NeighbourTable
from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.costs import CostPoint, CostTable
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.coverage import Calibration
from specbeam.drafting.planner import TreePlanner
from specbeam.drafting.prices import Prices, SearchPrices
from specbeam.drafting.registry import HEAD, MODEL, LocalDrafter
from specbeam.drafting.sources.cooccurrence import CooccurrenceDrafter
from specbeam.drafting.sources.pool import PoolDrafter
from specbeam.drafting.sources.popularity import PopularityDrafter
from specbeam.drafting.verified import VerifiedLevel, VerifiedTree
from specbeam.engine import BeamSession, DraftSession, SearchModel, SpeculationSpec
from specbeam.engine.root_head import RootHead
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig
from specbeam.engine.search import draft_levels
from tests.exactness.drafts import Proposer

# Ways to draft that go through the union: which drafters take part.
UNIONS: Mapping[str, tuple[str, ...]] = {
    "counts": ("popularity", "cooccurrence"),
    "pool": ("pool", "popularity"),
    "head": (HEAD,),
    "union": (MODEL, HEAD, "pool", "popularity", "cooccurrence"),
}

Propose = Callable[[Beams], ScoredTree]


@dataclass(frozen=True)
class Asked:
    """What a union is made for."""

    trie: ItemTrie
    score_kind: str
    width: int
    speculation: SpeculationSpec
    prompt: np.ndarray
    leaf_filter: LeafFilter | None


def united(
    way: str,
    asked: Asked,
    target: SearchModel,
    drafter: DraftSession,
    rng: np.random.Generator,
) -> Proposer:
    """The union of a way's drafters; where none says anything, no nodes at all."""
    names = UNIONS[way]
    knows_filter = rng.random() < 0.7
    candidates = UnitedCandidates(
        trie=asked.trie,
        score_kind=asked.score_kind,
        beam_width=asked.width,
        max_rows=int(rng.choice([asked.speculation.max_rows, 64, 400])),
        drafters={name: one for name, one in _local(asked.trie, rng).items() if name in names},
        history=rng.integers(0, asked.trie.num_items, 4),
        leaf_filter=asked.leaf_filter if knows_filter else None,
        pool=_pool(asked, target, rng) if "pool" in names else (),
        alone=True,
        planner=_planner(asked, rng) if rng.random() < 0.25 else None,
    )
    models: dict[str, Propose] = {}
    if MODEL in names:
        models[MODEL] = lambda beams: draft_levels(drafter, beams, 6, 3 * asked.width)
    if HEAD in names:
        models[HEAD] = _head(asked, target)

    before: list[Beams] = []

    def propose(beams: Beams) -> CandidateTree:
        if before and before[-1].level < beams.level:
            candidates.settled(before[-1], None, beams)
            candidates.learn()
        before.append(beams)
        tree = candidates.tree(beams, {name: model(beams) for name, model in models.items()})
        nothing = np.zeros(0, np.int64)
        return CandidateTree(beams.level, nothing, nothing) if tree is None else tree

    return propose


def _planner(asked: Asked, rng: np.random.Generator) -> TreePlanner:
    """A planner to whom rows are dear or cheap, passes long or short."""
    pass_ms, row_ms = 10.0 ** rng.uniform(-1, 2), 10.0 ** rng.uniform(-4, 1)
    table = CostTable.from_points(
        CostPoint(rows, prefix, pass_ms + row_ms * rows) for rows in (1, 50) for prefix in (0, 9)
    )
    assert table is not None
    widths = [min(asked.width, level.num_nodes) for level in asked.trie.levels]
    prices = SearchPrices(Prices(table), len(asked.prompt), widths)
    always = bool(rng.random() < 0.5)
    return TreePlanner(asked.trie, asked.width, Calibration(), prices, always=always)


def _local(trie: ItemTrie, rng: np.random.Generator) -> dict[str, LocalDrafter]:
    sizes = rng.integers(0, 6, trie.num_items)
    table = NeighbourTable(
        np.concatenate([[0], np.cumsum(sizes)]),
        rng.integers(0, trie.num_items, int(sizes.sum())).astype(np.int32),
        rng.integers(1, 65536, int(sizes.sum())).astype(np.uint16),
    )
    return {
        "popularity": PopularityDrafter(trie),
        "cooccurrence": CooccurrenceDrafter(trie, table),
        "pool": PoolDrafter(),
    }


def _pool(asked: Asked, target: SearchModel, rng: np.random.Generator) -> tuple[VerifiedTree, ...]:
    """Trees of noise, and now and then what the target says to this very prompt."""
    found = [random_tree(asked.trie, rng) for _ in range(int(rng.integers(0, 4)))]
    if rng.random() < 0.6:
        with closing(BeamSession(target, asked.width, asked.leaf_filter, 50)) as session:
            turn = session.open(asked.prompt)
            while not session.finished:
                turn = turn.then(session.plain_step())
        found.insert(0, VerifiedTree.join(asked.trie, turn.scored))
    return tuple(found)


def random_tree(trie: ItemTrie, rng: np.random.Generator) -> VerifiedTree:
    """Some nodes of each level with scores that mean nothing."""
    share, levels = rng.random(), {}
    for level in range(1, trie.depth):
        nodes = np.flatnonzero(rng.random(trie.levels[level].num_nodes) < share)
        logprobs = np.log(rng.random(len(nodes)) + 1e-9).astype(np.float32)
        levels[level] = VerifiedLevel(nodes.astype(np.int64), logprobs)
    return VerifiedTree(levels)


def _head(asked: Asked, target: SearchModel) -> Propose:
    """A root head with random blocks on the target's own state."""
    runner, depth = target.runner, asked.trie.depth
    torch.manual_seed(depth)
    blocks = StateBlocks(runner.hidden_size, 3, max(1, depth - 2)).to(runner.dtype)
    with torch.no_grad():
        for parameter in blocks.parameters():
            parameter.normal_(std=0.3)
    shape = RootHeadConfig(runner.hidden_size, runner.vocab_size, len(blocks) + 1, 3, "target")
    head = RootHead(shape, blocks.eval().requires_grad_(False), target)
    slot = runner.pool.acquire()
    hidden = runner.prefill(slot, asked.prompt).clone()
    runner.pool.release(slot)
    return lambda beams: head.propose(
        hidden, beams, depth, 3 * asked.width, asked.width, asked.leaf_filter
    )
