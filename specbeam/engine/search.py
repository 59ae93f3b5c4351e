"""Whole searches in one process: plain beam search (A1) and the root-first speculative flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.tree import CandidateTree
from specbeam.decoding.trie_tensors import TrieTensors
from specbeam.engine.drafter import DraftedLevel, DraftSession
from specbeam.engine.runner import ModelRunner
from specbeam.engine.session import BeamSession, Turn


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """What is searched for.

    Attributes:
        prompt: vocabulary ids.  Shape (P,).
        beam_width: W.
        leaf_filter: excluded leaves, or None.
    """

    prompt: np.ndarray
    beam_width: int
    leaf_filter: LeafFilter | None = None


@dataclass(frozen=True, slots=True)
class SpeculationSpec:
    """How a speculative search drafts.

    Attributes:
        max_rows: row budget of one verification pass, the beams' own rows included.
        max_nodes: drafted nodes per level.
        draft_levels: levels drafted below the exact ones; 0 relies on exhaustive levels alone.
    """

    max_rows: int = 128
    max_nodes: int = 40
    draft_levels: int = 1


def plain_search(runner: ModelRunner, trie: TrieTensors, spec: SearchSpec) -> Turn:
    """Beam search without speculation: one pass per level, all beams sharing the prompt's KV (A1)."""
    session = BeamSession(runner, trie, spec.beam_width, spec.leaf_filter)
    try:
        turn = session.open(spec.prompt)
        while not session.finished:
            turn = turn.then(session.plain_step())
        return turn
    finally:
        session.close()


def speculative_search(
    target: ModelRunner,
    draft: ModelRunner,
    trie: TrieTensors,
    spec: SearchSpec,
    speculation: SpeculationSpec,
) -> Turn:
    """Root-first speculative beam search; the answer equals `plain_search`.

    Level 1 comes exactly from the target's root, the draft proposes below it, one pass verifies the tree;
    after a miss the next round starts at the deepest exact level.
    """
    session = BeamSession(target, trie, spec.beam_width, spec.leaf_filter)
    drafting = DraftSession(draft, trie, spec.beam_width, spec.leaf_filter)
    try:
        turn = session.open(spec.prompt)
        drafting.open(spec.prompt)
        while not session.finished:
            tree = draft_tree(drafting, session.beams, speculation, trie.trie)
            turn = turn.then(session.advance(tree, speculation.max_rows))
        return turn
    finally:
        session.close()
        drafting.close()


def draft_tree(
    drafting: DraftSession, beams: Beams, speculation: SpeculationSpec, trie: ItemTrie
) -> CandidateTree:
    """Collect a drafter's levels into one tree below `beams`."""
    levels = list(drafting.propose(beams, speculation.draft_levels, speculation.max_nodes))
    return join_levels(beams, levels)


def join_levels(beams: Beams, levels: list[DraftedLevel]) -> CandidateTree:
    """Number drafted levels as one tree: beams first, then the nodes in the order drafted."""
    parents, tokens, offset = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for drafted in levels:
        parents.append(drafted.parents + offset)
        tokens.append(drafted.tokens.astype(np.int64))
        offset = len(beams) if offset == 0 else offset + len(parents[-2])
    return CandidateTree(beams.level, np.concatenate(parents), np.concatenate(tokens))
