"""How much may be drafted, and how long it may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from specbeam.catalog import ItemTrie
from specbeam.decoding.tree import EXHAUSTIVE_MEAN_CHILDREN
from specbeam.runtime.deadlines import CallBudget

# Popular prefixes have more children than the mean says.
POPULAR_FAN_OUT = 1.5
# Of the time left when a proposal is asked for; the target needs the rest.
DRAFT_SHARE = 0.25
# Kept for ranking and the answer itself.
ANSWER_RESERVE_S = 0.005


@dataclass(frozen=True, slots=True)
class DraftShape:
    """What to ask the draft for.

    Attributes:
        levels: Levels to draft; 0 = nothing worth drafting.
        max_nodes: Most nodes on one level.
    """

    levels: int
    max_nodes: int


def mean_fan_outs(trie: ItemTrie) -> tuple[float, ...]:
    """Return the mean number of children of the nodes of levels 0..L-1."""
    counts = [level.num_nodes for level in trie.levels]
    return tuple(below / above for above, below in pairwise(counts))


def draft_shape(
    fan_outs: Sequence[float], base_level: int, beam_width: int, max_rows: int
) -> DraftShape:
    """Return which levels below the exact beams are worth drafting, and how wide.

    Consecutive levels with many children are drafted, the last level never: its nodes need no rows.
    Levels with few children come with their parents, exhaustively, so a drafted node costs its own
    row and theirs.

    Args:
        fan_outs: Mean children per node by level. Length L.
        base_level: Level of the exact beams.
        beam_width: W.
        max_rows: Row budget of a pass, the beams' own rows included.
    """
    last = len(fan_outs) - 1
    level = base_level
    while level < last and fan_outs[level] > EXHAUSTIVE_MEAN_CHILDREN:
        level += 1
    drafted = level - base_level
    below, children = 1.0, 0.0
    for thin in range(level, last):
        if fan_outs[thin] > EXHAUSTIVE_MEAN_CHILDREN:
            break
        below *= fan_outs[thin]
        children += below
    rows_per_node = max(1, drafted) + POPULAR_FAN_OUT * children
    nodes = int((max_rows - beam_width) / rows_per_node)
    return DraftShape(drafted, max(beam_width, nodes))


def draft_timeout_s(budget: CallBudget, cap_ms: float) -> float:
    """Return how long to wait for one proposal, seconds.

    Args:
        budget: Time left for the request.
        cap_ms: Never wait longer than this, milliseconds.
    """
    return min(cap_ms / 1000.0, DRAFT_SHARE * budget.remaining_s())
