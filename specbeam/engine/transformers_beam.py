"""A0: transformers' own constrained beam search, the baseline everybody knows.

It copies the prompt K times before the prefill and keeps one KV copy per beam; the trie is a Python
callback.  Used by the benchmark and by the exactness suite, never by a service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from specbeam.catalog import ItemTrie


@dataclass(frozen=True, slots=True)
class TransformersBeams:
    """What `generate` returned.

    Attributes:
        paths: token paths, best first.  Shape (K, L).
        scores: cumulative log-probabilities (length_penalty 0).  Shape (K,).
    """

    paths: np.ndarray
    scores: np.ndarray


def allowed_children(trie: ItemTrie) -> dict[tuple[int, ...], list[int]]:
    """Return the allowed next tokens of every prefix, for `prefix_allowed_tokens_fn`."""
    allowed: dict[tuple[int, ...], list[int]] = {}
    for level in range(trie.depth):
        nodes = np.arange(trie.levels[level].num_nodes)
        paths = trie.node_paths(level, nodes).tolist()
        first = trie.levels[level].first_child_of(np.append(nodes, len(nodes))).tolist()
        token = trie.levels[level + 1].tokens_of(np.arange(first[-1])).tolist()
        for node, path in enumerate(paths):
            allowed[tuple(path)] = token[first[node] : first[node + 1]]
    return allowed


def transformers_beam_search(
    model: PreTrainedModel,
    allowed: dict[tuple[int, ...], list[int]],
    prompt: np.ndarray,
    beam_width: int,
    depth: int,
    score_kind: str = "VOCAB",
) -> TransformersBeams:
    """Run `generate(num_beams=K)` under the trie.

    Equality with our search holds without a filter, with one item per leaf and a root with at least
    `beam_width` children.

    Args:
        model: with transformers' own attention.
        allowed: from `allowed_children`.
        prompt: vocabulary ids.  Shape (P,).
        beam_width: K.
        depth: L.
        score_kind: VOCAB, or TRIE: scores are normalised again over the allowed tokens.

    Raises:
        ValueError: transformers has no such convention.
    """
    if score_kind not in ("VOCAB", "TRIE"):
        raise ValueError(f"transformers cannot score by {score_kind}")
    tokens = torch.as_tensor(prompt, dtype=torch.int64, device=model.device)[None]
    out = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=depth,
        min_new_tokens=depth,
        num_beams=beam_width,
        num_return_sequences=beam_width,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        eos_token_id=None,
        pad_token_id=0,
        prefix_allowed_tokens_fn=_callback(allowed, len(prompt)),
        renormalize_logits=score_kind == "TRIE",
        return_dict_in_generate=True,
        output_scores=True,
    )
    paths = out.sequences[:, len(prompt) :].cpu().numpy()
    if beam_width == 1:
        return TransformersBeams(paths, np.full(1, np.nan))
    return TransformersBeams(paths, out.sequences_scores.double().cpu().numpy())


def _callback(
    allowed: dict[tuple[int, ...], list[int]], prompt_tokens: int
) -> Callable[[int, torch.Tensor], list[int]]:
    def allowed_tokens(_: int, tokens: torch.Tensor) -> list[int]:
        return allowed[tuple(tokens[prompt_tokens:].tolist())]

    return allowed_tokens
