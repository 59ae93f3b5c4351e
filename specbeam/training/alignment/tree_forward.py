"""The logits of a prompt's end and of all beams below it, in one forward.

The beams of a prompt follow it as rows of one sequence, under a mask that shows each row the
prompt, its ancestors and itself.  So the prompt is computed once, not once per beam, and nothing is
copied: on a CPU a third of a search with one cache row per beam went into copying keys and values.
The extra columns of the attention cost little beside the multiplications with the weights.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.prompts import PaddedPrompts
from specbeam.training.alignment.tree_layout import (
    ancestry,
    attention_mask,
    prompt_positions,
    tree_positions,
    whole_view,
)
from specbeam.training.model import device_of
from specbeam.training.ranking import tokens_of

Int64Array = npt.NDArray[np.int64]


def tree_logits(
    model: nn.Module,
    trie: ItemTrie,
    prompts: PaddedPrompts,
    levels: Sequence[Int64Array],
    *,
    bf16: bool = False,
) -> tuple[Tensor, ...]:
    """Return the next-token logits of each prompt and of each beam below it.

    Args:
        model: a causal language model, or its wrapper over several processes.
        trie: the catalogue.
        prompts: G prompts.
        levels: beams of levels 1, 2, .., D; -1 where dead. (G, W_d) each.
        bf16: run matrix products in bfloat16.

    Returns:
        Of levels 0 .. D: (G, W_d, V) each in float32, W_0 = 1.  Those of dead beams mean nothing.
    """
    device = device_of(model)
    tokens = [prompts.tokens]
    tokens += [
        tokens_of(trie, level, torch.from_numpy(nodes)) for level, nodes in enumerate(levels, 1)
    ]
    widths = [nodes.shape[1] for nodes in levels]
    places = torch.cat([prompt_positions(prompts), tree_positions(prompts, widths)], dim=1)
    mask = attention_mask(whole_view(prompts, ancestry(trie, levels)))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        output = model(
            input_ids=torch.cat(tokens, dim=1).to(device),
            attention_mask=mask.to(device),
            position_ids=places.to(device),
            use_cache=False,
            logits_to_keep=1 + sum(widths),
        )
    logits = cast(Tensor, cast(Any, output).logits.float())
    return torch.split(logits, [1, *widths], dim=1)
