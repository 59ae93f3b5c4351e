"""Where the rows of a tree of beams stand behind a prompt, and what each of them sees."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.prompts import PaddedPrompts

Int64Array = npt.NDArray[np.int64]


def parent_columns(trie: ItemTrie, level: int, above: Int64Array, nodes: Int64Array) -> Int64Array:
    """Return the column of each node's parent among the beams above; 0 for dead nodes.

    Args:
        trie: the catalogue.
        level: level of `nodes`, 2 .. L.
        above: beams of the level before, -1 where dead. Shape (G, W').
        nodes: beams of the level, -1 where dead. Shape (G, W).

    Raises:
        ValueError: a parent is not among the beams above.
    """
    parents = trie.levels[level - 1].parent_of(np.maximum(nodes, 0))
    same = parents[:, :, None] == above[:, None, :]
    if not (same.any(axis=2) | (nodes < 0)).all():
        raise ValueError(f"beams of level {level} do not extend those of level {level - 1}")
    return np.where(nodes < 0, 0, same.argmax(axis=2)).astype(np.int64)


def extend_ancestry(above: Tensor | None, parents: Tensor) -> Tensor:
    """Return which rows of the tree each row of the next level sees: its ancestors and itself.

    Args:
        above: of the level before, (G, W', R'), where R' rows end with that level's; None above the
            first level.
        parents: column of each row's parent in the level before. Shape (G, W).

    Returns:
        Shape (G, W, R' + W), bool.
    """
    count, width = parents.shape
    own = torch.eye(width, dtype=torch.bool, device=parents.device).expand(count, -1, -1)
    if above is None:
        return own
    index = parents[:, :, None].expand(-1, -1, above.shape[2])
    return torch.cat([above.gather(1, index), own], dim=2)


def ancestry(trie: ItemTrie, levels: Sequence[Int64Array]) -> Tensor:
    """Return which rows of a whole tree each of its rows sees. Shape (G, R, R), bool.

    Args:
        trie: the catalogue.
        levels: beams of levels 1, 2, .., -1 where dead, (G, W_d) each; R is the sum of all W_d.
    """
    blocks: list[Tensor] = []
    for number, nodes in enumerate(levels):
        columns = (
            np.zeros_like(nodes)
            if number == 0
            else parent_columns(trie, number + 1, levels[number - 1], nodes)
        )
        blocks.append(extend_ancestry(blocks[-1] if blocks else None, torch.from_numpy(columns)))
    total = blocks[-1].shape[2]
    padded = [torch.nn.functional.pad(block, (0, total - block.shape[2])) for block in blocks]
    return torch.cat(padded, dim=1)


def prompt_view(prompts: PaddedPrompts) -> Tensor:
    """Return what each prompt position sees: itself and what is before it, no padding.

    Padding sees itself, so that no row of the attention is empty.  Shape (G, T, T), bool.
    """
    length = prompts.tokens.shape[1]
    causal = torch.ones((length, length), dtype=torch.bool).tril()
    seen = causal & _is_prompt(prompts)[:, None, :]
    return seen | torch.eye(length, dtype=torch.bool)


def tree_view(prompts: PaddedPrompts, tree: Tensor) -> Tensor:
    """Return what rows of a tree see: the prompt, their ancestors and themselves.

    Args:
        prompts: G prompts of T columns.
        tree: shape (G, n, R), bool.

    Returns:
        Shape (G, n, T + R), bool.
    """
    prompt = _is_prompt(prompts)[:, None, :].expand(-1, tree.shape[1], -1)
    return torch.cat([prompt, tree], dim=2)


def whole_view(prompts: PaddedPrompts, tree: Tensor) -> Tensor:
    """Return what prompts and trees see in one forward. Shape (G, T + R, T + R), bool.

    Args:
        prompts: G prompts of T columns.
        tree: shape (G, R, R), bool.
    """
    above = torch.nn.functional.pad(prompt_view(prompts), (0, tree.shape[1]))
    return torch.cat([above, tree_view(prompts, tree)], dim=1)


def prompt_positions(prompts: PaddedPrompts) -> Tensor:
    """Return position ids; 0 for padding. Shape (G, T)."""
    columns = torch.arange(prompts.tokens.shape[1])
    return (columns - prompts.padding[:, None]).clamp(min=0)


def tree_positions(prompts: PaddedPrompts, widths: Sequence[int], first: int = 1) -> Tensor:
    """Return position ids: all rows of a level stand at the same place behind their prompt.

    Args:
        prompts: G prompts.
        widths: rows of the tree's levels, one after another.
        first: level of the first of them.

    Returns:
        Shape (G, sum of `widths`).
    """
    levels = torch.arange(first, first + len(widths))
    depth = levels.repeat_interleave(torch.tensor(list(widths)))
    lengths = prompts.tokens.shape[1] - prompts.padding
    return lengths[:, None] - 1 + depth


def attention_mask(view: Tensor) -> Tensor:
    """Return the additive mask of what is seen. Shape (G, 1, n, m), float32."""
    hidden = torch.finfo(torch.float32).min
    return torch.zeros(view.shape).masked_fill(~view, hidden)[:, None]


def _is_prompt(prompts: PaddedPrompts) -> Tensor:
    return torch.arange(prompts.tokens.shape[1]) >= prompts.padding[:, None]
