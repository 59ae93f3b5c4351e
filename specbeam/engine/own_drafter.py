"""Drafters that live beside the target and draft from its hidden state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from specbeam.catalog import LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.engine.search_model import SearchModel


class OwnDrafter(Protocol):
    """Proposes below exact beams without a prompt pass of its own; used on the target's thread."""

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
        """Draft below exact beams.

        Args:
            hidden: the target's hidden state after the prompt.  Shape (1, hidden).
            beams: the target's exact beams, of any level.
            levels: levels to draft; the last level of an item is never drafted.
            max_nodes: most nodes per level.
            width: W of the search.
            leaf_filter: which leaves may be proposed; None = every leaf.
            selection: how the target chooses; nodes are ranked alike.

        Returns:
            The tree, best node first within a level; possibly empty.
        """


# Opens a drafter's directory of a bundle for the target it was made for, which is also given by its
# fingerprint.  It raises ValueError (or OSError) when the files are damaged or fit another model.
Loader = Callable[[Path, SearchModel, str], OwnDrafter]


def _load_root_head(directory: Path, model: SearchModel, target: str) -> OwnDrafter:
    from specbeam.engine.root_head import RootHead

    return RootHead.load(directory, model, target)


# By the kind that `drafter.json` names.
OWN_DRAFTERS: dict[str, Loader] = {"head": _load_root_head}
