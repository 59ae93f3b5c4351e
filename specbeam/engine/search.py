"""Whole searches in one process: plain beam search (A1), root-first and one-pass speculation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.shape import DraftShape, draft_shape, mean_fan_outs
from specbeam.decoding.tree import CandidateTree
from specbeam.engine.drafter import DraftedLevel, DraftSession
from specbeam.engine.search_model import SearchModel
from specbeam.engine.session import BeamSession, Turn


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """What is searched for.

    Attributes:
        prompt: vocabulary ids.  Shape (P,).
        beam_width: W.
        leaf_filter: excluded leaves, or None.
        selection: how beams are chosen.
    """

    prompt: np.ndarray
    beam_width: int
    leaf_filter: LeafFilter | None = None
    selection: Selection = BY_SCORE

    def session(self, model: SearchModel) -> BeamSession:
        """Lease a slot of the target."""
        return BeamSession(model, self.beam_width, self.leaf_filter, selection=self.selection)

    def drafting(self, model: SearchModel) -> DraftSession:
        """Lease a slot of the draft model."""
        return DraftSession(model, self.beam_width, self.leaf_filter, self.selection)


@dataclass(frozen=True, slots=True)
class SpeculationSpec:
    """How a speculative search drafts.

    Attributes:
        max_rows: row budget of one verification pass, the beams' own rows included.
        shape: levels and nodes to draft; derived from the catalogue and the budget when None.
    """

    max_rows: int = 128
    shape: DraftShape | None = None


def plain_search(model: SearchModel, spec: SearchSpec) -> Turn:
    """Beam search without speculation (A1): one pass per level, beams sharing the prompt's KV."""
    with closing(spec.session(model)) as session:
        turn = session.open(spec.prompt)
        while not session.finished:
            turn = turn.then(session.plain_step())
        return turn


def speculative_search(
    target: SearchModel,
    draft: SearchModel,
    spec: SearchSpec,
    speculation: SpeculationSpec,
) -> Turn:
    """Root-first speculative beam search; the answer equals `plain_search`.

    Level 1 comes exactly from the target's root, the draft proposes below it, one pass verifies the
    tree; after a miss the next round starts at the deepest exact level.
    """
    with (
        closing(spec.session(target)) as session,
        closing(spec.drafting(draft)) as drafting,
    ):
        turn = session.open(spec.prompt)
        drafting.open(spec.prompt)
        trie = target.expansion.trie
        while not session.finished:
            tree = draft_tree(drafting, session.beams, speculation, trie, spec.beam_width)
            turn = turn.then(session.advance(tree, speculation.max_rows))
        return turn


def one_pass_search(
    target: SearchModel,
    draft: SearchModel,
    spec: SearchSpec,
    speculation: SpeculationSpec,
) -> Turn:
    """One-pass speculative beam search; the answer equals `plain_search`.

    The draft proposes from the root on, its own level 1 included, and the target's first pass runs
    the prompt and verifies the tree; after a miss it goes on as `speculative_search` does.
    """
    with (
        closing(spec.session(target)) as session,
        closing(spec.drafting(draft)) as drafting,
    ):
        drafting.open(spec.prompt)
        trie = target.expansion.trie
        tree = draft_tree(drafting, session.beams, speculation, trie, spec.beam_width)
        turn = session.open(spec.prompt, tree=tree, max_rows=speculation.max_rows)
        while not session.finished:
            tree = draft_tree(drafting, session.beams, speculation, trie, spec.beam_width)
            turn = turn.then(session.advance(tree, speculation.max_rows))
        return turn


def draft_tree(
    drafting: DraftSession,
    beams: Beams,
    speculation: SpeculationSpec,
    trie: ItemTrie,
    beam_width: int,
) -> CandidateTree:
    """Collect a drafter's levels into one tree below `beams`."""
    shape = speculation.shape or draft_shape(
        mean_fan_outs(trie), beams.level, beam_width, speculation.max_rows
    )
    levels = list(drafting.propose(beams, shape.levels, shape.max_nodes))
    return join_levels(beams, levels)


def draft_levels(drafting: DraftSession, beams: Beams, levels: int, max_nodes: int) -> ScoredTree:
    """Collect a drafter's levels, with what it thinks of them.

    Args:
        drafting: the drafter's session.
        beams: exact beams to draft below.
        levels: levels to draft.
        max_nodes: most nodes per level.
    """
    drafted = list(drafting.propose(beams, levels, max_nodes))
    if not drafted:
        return ScoredTree.empty(beams.level)
    tree = join_levels(beams, drafted)
    logprobs = np.concatenate([level.logprobs for level in drafted])
    return ScoredTree(tree.base_level, tree.parents, tree.tokens, logprobs)


def join_levels(beams: Beams, levels: list[DraftedLevel]) -> CandidateTree:
    """Number drafted levels as one tree: beams first, then the nodes in the order drafted."""
    parents, tokens, offset = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for drafted in levels:
        parents.append(drafted.parents + offset)
        tokens.append(drafted.tokens.astype(np.int64))
        offset = len(beams) if offset == 0 else offset + len(parents[-2])
    return CandidateTree(beams.level, np.concatenate(parents), np.concatenate(tokens))
