"""A plain batched beam search over the item trie, for validation while training.

It keeps one cache row per beam and handles prompts of equal length together: simple, and quick
enough for a few thousand short prompts.  Serving uses specbeam.engine.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie

Int32Array = npt.NDArray[np.int32]
MAX_BEAM_ROWS = 640


@dataclass(frozen=True, slots=True)
class Beams:
    """Beams of G prompts on one trie level, best first.

    Attributes:
        nodes: trie nodes; -1 where a prompt has fewer beams. Shape (G, W).
        scores: cumulative log-probabilities, -inf on dead beams. Shape (G, W).
        parents: index of the beam each one extends. Shape (G, W).
    """

    nodes: Tensor
    scores: Tensor
    parents: Tensor


def equal_length_groups(
    prompts: Sequence[Int32Array], beam_width: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield indices and token ids (G, T) of prompts of the same length."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    size = max(1, MAX_BEAM_ROWS // beam_width)
    for _, indices in sorted(by_length.items()):
        for begin in range(0, len(indices), size):
            chosen = indices[begin : begin + size]
            yield chosen, torch.from_numpy(np.stack([prompts[i] for i in chosen])).long()


def expand(
    trie: ItemTrie, level: int, nodes: Tensor, scores: Tensor, logprobs: Tensor, width: int
) -> Beams:
    """Return the best children of all beams of each prompt.

    Args:
        trie: the catalogue.
        level: level of `nodes`, 0 .. L - 1.
        nodes: shape (G, W); -1 is dead.
        scores: shape (G, W).
        logprobs: next-token log-probabilities. Shape (G, W, V).
        width: beams to keep.
    """
    above, below = trie.levels[level], trie.levels[level + 1]
    known = nodes.clamp(min=0).numpy()
    begin = torch.from_numpy(np.asarray(above.first_child_of(known))).long()
    end = torch.from_numpy(np.asarray(above.first_child_of(known + 1))).long()
    count = torch.where(nodes >= 0, end - begin, 0)
    widest = max(1, int(count.max()))
    offset = torch.arange(widest)
    child = (begin[..., None] + offset).clamp(max=below.num_nodes - 1)
    alive = offset < count[..., None]
    gained = logprobs.gather(2, tokens_of(trie, level + 1, child))
    total = torch.where(alive, scores[..., None] + gained, -torch.inf).flatten(1)
    best, index = total.topk(min(width, total.shape[1]), dim=1)
    kept = torch.where(best > -torch.inf, child.flatten(1).gather(1, index), -1)
    return Beams(kept, best, index // widest)


def beam_search(
    model: nn.Module, trie: ItemTrie, prompts: Tensor, width: int, depth: int, *, bf16: bool
) -> list[Beams]:
    """Run trie-constrained beam search for prompts of equal length.

    Args:
        model: a causal language model in eval mode.
        trie: the catalogue.
        prompts: shape (G, T).
        width: beams kept per level, W.
        depth: levels to search, at most L.
        bf16: run matrix products in bfloat16.

    Returns:
        The beams of levels 1 .. depth.
    """
    nodes = torch.zeros((len(prompts), 1), dtype=torch.long)
    scores = torch.zeros((len(prompts), 1))
    found: list[Beams] = []
    cache: Any = None
    tokens = prompts
    for level in range(depth):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = model(
                input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        cache = output.past_key_values
        logprobs = torch.log_softmax(output.logits[:, -1].float(), dim=-1)
        beams = expand(trie, level, nodes, scores, logprobs.view(*nodes.shape, -1), width)
        found.append(beams)
        rows = (torch.arange(len(prompts))[:, None] * nodes.shape[1] + beams.parents).flatten()
        nodes, scores = beams.nodes, beams.scores
        if level + 1 < depth:
            cache.batch_select_indices(rows)
            tokens = tokens_of(trie, level + 1, nodes).view(-1, 1)
    return found


def tokens_of(trie: ItemTrie, level: int, nodes: Tensor) -> Tensor:
    """Return the token of each node of a level; dead nodes (-1) get some token.  Int64."""
    tokens = trie.levels[level].tokens_of(nodes.clamp(min=0).numpy())
    return torch.from_numpy(tokens).long()
