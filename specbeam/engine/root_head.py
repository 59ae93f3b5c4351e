"""The root head drafter: candidates from the target's own hidden state after the prompt.

A second model would have to read the prompt first; here the target has read it, and a few small
multiplications per level extend its state by the codes of a beam.  The target's own embedding and
LM head do the rest.  It is one more drafter: what it proposes is verified like anything else.

Source: drafting from the target's hidden state is NEZHA's and Medusa's idea, states that depend on
the drafted codes are Hydra's (arXiv 2402.05109).  Residual blocks in the space of the frozen LM
head, and the K-consistent choice of nodes, are our own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from specbeam.catalog import LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_ranking import DraftRanking
from specbeam.decoding.expansion import Allowed
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.upload import upload
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig, RootHeadError, load_root_head
from specbeam.engine.session import SearchModel


class RootHead:
    """A trained head beside the target it was trained for.

    Attributes:
        config: its shape, and what it was made for.
    """

    def __init__(self, config: RootHeadConfig, blocks: StateBlocks, model: SearchModel) -> None:
        """Join a head and a target; the blocks run where and as they are.

        Raises:
            RootHeadError: they do not fit each other.
        """
        _check_fit(config, model)
        self.config = config
        self._blocks = blocks
        self._model, self._runner = model, model.runner
        self._trie = model.expansion.trie

    @classmethod
    def load(
        cls, directory: Path, model: SearchModel, target_fingerprint: str | None = None
    ) -> RootHead:
        """Load a head from its directory.

        Args:
            directory: holds drafter.json and head.safetensors.
            model: the target with its catalogue.
            target_fingerprint: of the target's files, as in its bundle's manifest; None = not
                known, and not compared.

        Raises:
            RootHeadError: a file is missing or damaged, or the head is of another target.
        """
        config, blocks = load_root_head(directory)
        if target_fingerprint is not None and target_fingerprint != config.target:
            raise RootHeadError(
                f"the head in {directory} was trained for target {config.target}, not for"
                f" {target_fingerprint}"
            )
        runner = model.runner
        blocks.to(device=runner.device, dtype=runner.dtype).eval().requires_grad_(False)
        return cls(config, blocks, model)

    @torch.inference_mode()
    def propose(
        self,
        hidden: torch.Tensor,
        beams: Beams,
        levels: int,
        max_nodes: int,
        width: int,
        leaf_filter: LeafFilter | None = None,
        selection: Selection = BY_SCORE,
    ) -> ScoredTree:
        """Draft below exact beams of any level, the root among them.

        Args:
            hidden: the target's hidden state after the prompt, as `ModelRunner.prefill` returns it.
                Shape (1, hidden).
            beams: exact beams; their scores are the starting scores.
            levels: levels to draft; the last level of an item is never drafted.
            max_nodes: most nodes per level, raised to `width`.
            width: W; the head's own W-beam is always among the nodes.
            leaf_filter: which leaves may be returned; None = every leaf.
            selection: how the target chooses; nodes are ranked alike, by TRIE scores where it draws
                items.

        Returns:
            The nodes, best first within a level; possibly none.
        """
        last = min(beams.level + levels, self._trie.depth - 1, self.config.levels)
        if last <= beams.level or not len(beams):
            return ScoredTree.empty(beams.level)
        model = self._model.under("TRIE") if selection.draws else self._model
        # Temperature and top-k are the ranking's: what is told are the head's own laws.
        allowed = model.expansion.allow(leaf_filter)
        ranking = DraftRanking(self._trie, selection)
        frontier = ranking.start(beams)
        states = self._states_of(hidden, beams)
        growing = _GrowingTree(beams)
        for level in range(beams.level, last):
            logprobs = self._children(model, level, frontier.nodes, states, allowed)
            kept = model.expansion.beam_width(level + 1, width)
            frontier, parents, gained = ranking.next_level(
                level, frontier, logprobs, kept, max(max_nodes, kept)
            )
            if not len(frontier.nodes):
                break
            tokens = self._trie.levels[level + 1].tokens_of(frontier.nodes)
            growing.add(parents, tokens, gained)
            if level + 1 < last:
                above = states[upload(parents, self._runner.device)]
                states = self._blocks.step(level + 1, above, self._embed(tokens))
        return growing.finish()

    def _states_of(self, hidden: torch.Tensor, beams: Beams) -> torch.Tensor:
        """States behind the beams' own codes.  Shape (W', hidden)."""
        states = hidden.expand(len(beams), -1)
        for level, tokens in enumerate(beams.paths(self._trie).T, start=1):
            states = self._blocks.step(level, states, self._embed(tokens))
        return states

    def _embed(self, tokens: np.ndarray) -> torch.Tensor:
        # Padding has no embedding; nothing is ever read from a state behind it.
        return self._runner.embed(np.maximum(tokens, 0))

    def _children(
        self,
        model: SearchModel,
        level: int,
        nodes: np.ndarray,
        states: torch.Tensor,
        allowed: Allowed,
    ) -> np.ndarray:
        """Log-probabilities of the children of nodes in any order.  Shape (n, C_d)."""
        rows = np.flatnonzero(model.expansion.needs_row(level, nodes, allowed))
        rows = rows[np.argsort(nodes[rows])]
        scored = None
        if len(rows):
            read = states[upload(rows, self._runner.device)]
            (scores,) = model.head.scores([(level, len(rows))], read)
            scored = model.expansion.score(level, nodes[rows], scores, allowed)
        return model.expansion.logprobs_of(level, nodes, scored, allowed)


class _GrowingTree:
    """Numbers drafted levels as one tree: beams first, then the nodes in the order drafted."""

    def __init__(self, beams: Beams) -> None:
        self._base_level = beams.level
        self._parents: list[np.ndarray] = []
        self._tokens: list[np.ndarray] = []
        self._logprobs: list[np.ndarray] = []
        self._above = 0  # number of the first node that the next level may hang from
        self._count = len(beams)

    def add(self, parents: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """Add a level; `parents` are places in the level before."""
        self._parents.append(parents + self._above)
        self._tokens.append(tokens.astype(np.int64))
        self._logprobs.append(logprobs.astype(np.float32))
        self._above = self._count
        self._count += len(tokens)

    def finish(self) -> ScoredTree:
        if not self._tokens:
            return ScoredTree.empty(self._base_level)
        return ScoredTree(
            self._base_level,
            np.concatenate(self._parents),
            np.concatenate(self._tokens),
            np.concatenate(self._logprobs),
        )


def _check_fit(config: RootHeadConfig, model: SearchModel) -> None:
    runner = model.runner
    found = {"hidden states of": runner.hidden_size, "a vocabulary of": runner.vocab_size}
    wanted = (config.hidden, config.vocab_size)
    for (what, size), size_wanted in zip(found.items(), wanted, strict=True):
        if size != size_wanted:
            raise RootHeadError(
                f"the head was made for {what} {size_wanted}, the target has {size}"
            )
