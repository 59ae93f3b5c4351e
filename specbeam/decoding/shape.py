"""How much to draft: which levels are worth it, and how wide.  Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from specbeam.catalog import ItemTrie
from specbeam.decoding.tree import EXHAUSTIVE_MEAN_CHILDREN

# Popular prefixes have more children than the mean says.
POPULAR_FAN_OUT = 1.5
# Drafted nodes per beam beyond which a level's coverage hardly rises when the draft starts from the
# exact level above (a distilled draft covers .9 of level-2 beams at 4 W), while every row costs.
NODES_PER_BEAM = 4


@dataclass(frozen=True, slots=True)
class DraftShape:
    """What to ask a drafter for.

    Attributes:
        levels: levels to draft; 0 = nothing worth drafting, the exhaustive levels do it.
        max_nodes: most nodes on one level.
    """

    levels: int
    max_nodes: int


def mean_fan_outs(trie: ItemTrie) -> tuple[float, ...]:
    """Return the mean number of children of the nodes of levels 0 .. L - 1."""
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
        fan_outs: mean children per node by level.  Length L.
        base_level: level of the exact beams.
        beam_width: W.
        max_rows: row budget of a pass, the beams' own rows included.
    """
    drafted = wide_levels(fan_outs, base_level)
    rows_each = max(1, drafted) - 1 + rows_per_node(fan_outs, base_level + drafted)
    nodes = int((max_rows - beam_width) / rows_each)
    return DraftShape(drafted, max(beam_width, min(nodes, NODES_PER_BEAM * beam_width)))


def union_shape(
    fan_outs: Sequence[float], base_level: int, beam_width: int, max_rows: int
) -> DraftShape:
    """Return what to ask a drafter for whose nodes are united with those of others.

    What it proposes costs no rows yet: the union chooses among twice as many nodes.

    Args:
        fan_outs: mean children per node by level.  Length L.
        base_level: level of the exact beams.
        beam_width: W.
        max_rows: row budget of a pass, the beams' own rows included.
    """
    nodes = min(max_rows - beam_width, 2 * NODES_PER_BEAM * beam_width)
    return DraftShape(wide_levels(fan_outs, base_level), max(beam_width, nodes))


def rows_per_node(fan_outs: Sequence[float], level: int) -> float:
    """Return the rows a node costs together with the thin levels below it, on average.

    Args:
        fan_outs: mean children per node by level.  Length L.
        level: level of the node, 1 .. L - 1.
    """
    below, rows = 1.0, 1.0
    for thin in range(level, len(fan_outs) - 1):
        if fan_outs[thin] > EXHAUSTIVE_MEAN_CHILDREN:
            break
        below *= fan_outs[thin]
        rows += POPULAR_FAN_OUT * below
    return rows


def wide_levels(fan_outs: Sequence[float], base_level: int) -> int:
    """Return how many levels from `base_level` on have many children; the last one never counts.

    Args:
        fan_outs: mean children per node by level.  Length L.
        base_level: level of the exact beams.
    """
    level = base_level
    while level < len(fan_outs) - 1 and fan_outs[level] > EXHAUSTIVE_MEAN_CHILDREN:
        level += 1
    return level - base_level
