"""Beam search whose beams share one copy of the prompt's keys and values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.prompts import PaddedPrompts
from specbeam.training.alignment.tree_layout import (
    attention_mask,
    extend_ancestry,
    prompt_positions,
    prompt_view,
    tree_positions,
    tree_view,
)
from specbeam.training.model import device_of
from specbeam.training.ranking import Beams, SearchConfig, expand, root_beams, tokens_of


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One level of a search.

    Attributes:
        level: of the beams that are extended, 0 .. L - 1.
        beams: G prompts with W beams each.
        logprobs: the model's next-token log-probabilities. Shape (G, W, V).
        found: the beams of the next level.
    """

    level: int
    beams: Beams
    logprobs: Tensor
    found: Beams


def tree_search(
    model: nn.Module,
    trie: ItemTrie,
    prompts: PaddedPrompts,
    search: SearchConfig,
    first: Beams | None = None,
) -> Iterator[SearchStep]:
    """Yield the levels of trie-constrained beam search; the beams equal `ranking.beam_search`'s.

    Args:
        model: a causal language model in eval mode.
        trie: the catalogue.
        prompts: G prompts, of any lengths.
        search: how.
        first: beams of level 1 to go on from; the model's own by default.
    """
    device = device_of(model)
    beams, seen = root_beams(len(prompts)), None
    tokens, view, places = prompts.tokens, prompt_view(prompts), prompt_positions(prompts)
    cache: Any = None
    for level in range(search.depth):
        width = beams.nodes.shape[1]
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, search.bf16):
            output = model(
                input_ids=tokens.to(device),
                attention_mask=attention_mask(view).to(device),
                position_ids=places.to(device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=width,
            )
        cache = output.past_key_values
        logprobs = torch.log_softmax(output.logits[:, -width:].float(), dim=-1)
        found = expand(trie, level, beams, logprobs, search.width, search.score_kind)
        found = first if level == 0 and first is not None else found
        yield SearchStep(level, beams, logprobs, found)
        seen = extend_ancestry(seen, found.parents)
        beams = found
        tokens = tokens_of(trie, level + 1, found.nodes)
        view = tree_view(prompts, seen)
        places = tree_positions(prompts, [found.nodes.shape[1]], level + 1)
