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
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.model import device_of

Int32Array = npt.NDArray[np.int32]
MAX_BEAM_ROWS = 640


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How to search.

    Attributes:
        width: beams kept per level, W.
        depth: levels to search, at most L.
        score_kind: convention of the scores.
        bf16: run matrix products in bfloat16.
    """

    width: int
    depth: int
    score_kind: TrainedScoreKind
    bf16: bool = False


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
    trie: ItemTrie, level: int, beams: Beams, logprobs: Tensor, width: int, kind: TrainedScoreKind
) -> Beams:
    """Return the best children of all beams of each prompt.

    Args:
        trie: the catalogue.
        level: level of the beams' nodes, 0 .. L - 1.
        beams: G prompts with W beams each.
        logprobs: next-token log-probabilities over all token ids. Shape (G, W, V).
        width: beams to keep.
        kind: TRIE normalises over the children of each node.
    """
    nodes, scores = beams.nodes, beams.scores
    above, below = trie.levels[level], trie.levels[level + 1]
    known = nodes.clamp(min=0).numpy()
    begin = torch.from_numpy(np.asarray(above.first_child_of(known))).long()
    end = torch.from_numpy(np.asarray(above.first_child_of(known + 1))).long()
    count = torch.where(nodes >= 0, end - begin, 0)
    offset = torch.arange(max(1, int(count.max())))
    child = (begin[..., None] + offset).clamp(max=below.num_nodes - 1)
    alive = offset < count[..., None]
    gained = logprobs.gather(2, tokens_of(trie, level + 1, child).to(logprobs.device)).cpu()
    gained = torch.where(alive, gained, -torch.inf)
    if kind == "TRIE":
        gained = gained - gained.logsumexp(dim=-1, keepdim=True).nan_to_num(neginf=0.0)
    total = (scores[..., None] + gained).flatten(1)
    best, index = total.topk(min(width, total.shape[1]), dim=1)
    kept = torch.where(best > -torch.inf, child.flatten(1).gather(1, index), -1)
    return Beams(kept, best, index // len(offset))


def root_beams(count: int) -> Beams:
    """Return one beam per prompt, at the root."""
    nodes = torch.zeros((count, 1), dtype=torch.long)
    return Beams(nodes, torch.zeros((count, 1)), nodes)


def beam_search(
    model: nn.Module, trie: ItemTrie, prompts: Tensor, search: SearchConfig
) -> list[Beams]:
    """Run trie-constrained beam search for prompts of equal length.

    Args:
        model: a causal language model in eval mode.
        trie: the catalogue.
        prompts: shape (G, T).
        search: how.

    Returns:
        The beams of levels 1 .. depth, on the host.
    """
    device = device_of(model)
    beams = root_beams(len(prompts))
    found: list[Beams] = []
    cache: Any = None
    tokens = prompts
    for level in range(search.depth):
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, search.bf16):
            output = model(
                input_ids=tokens.to(device), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        cache = output.past_key_values
        logprobs = torch.log_softmax(output.logits[:, -1].float(), dim=-1)
        width = beams.nodes.shape[1]
        scored = logprobs.view(len(prompts), width, -1)
        beams = expand(trie, level, beams, scored, search.width, search.score_kind)
        found.append(beams)
        rows = (torch.arange(len(prompts))[:, None] * width + beams.parents).flatten()
        if level + 1 < search.depth:
            cache.batch_select_indices(rows.to(device))
            tokens = tokens_of(trie, level + 1, beams.nodes).view(-1, 1)
    return found


def tokens_of(trie: ItemTrie, level: int, nodes: Tensor) -> Tensor:
    """Return the token of each node of a level; dead nodes (-1) get some token.  Int64."""
    tokens = trie.levels[level].tokens_of(nodes.clamp(min=0).numpy())
    return torch.from_numpy(tokens).long()
