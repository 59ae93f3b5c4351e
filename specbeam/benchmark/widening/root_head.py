"""A root head beside a widened target: the same candidates, read from wide hidden states.

A wide state holds each small dim n times, with signs; a tied LM head adds the copies up, so each is
an n-th of the small one.  The blocks read and write such states; their bottleneck stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from specbeam.benchmark.widening.plan import WideningPlan
from specbeam.engine.root_head_files import load_root_head, save_root_head


def widen_root_head(
    source: Path, destination: Path, plan: WideningPlan, *, tied: bool, target: str
) -> None:
    """Write the head of a widened target.

    Args:
        source: directory of the small target's head.
        destination: an existing directory.
        plan: of the target.
        tied: whether the target's LM head is its embedding.
        target: fingerprint of the widened target.

    Raises:
        RootHeadError: the small head is damaged.
    """
    config, blocks = load_root_head(source)
    copies = plan.fit.copies if tied else 1
    carried = plan.fit.copies * plan.small.hidden / plan.large.hidden
    wide = replace(
        config,
        hidden=plan.large.hidden,
        target=target,
        state_epsilon=config.state_epsilon * carried / copies**2,
        code_epsilon=config.code_epsilon * carried,
    )
    widened = wide.make_blocks()
    state = {
        name: _widen(name.rpartition("blocks.")[2].partition(".")[2], tensor.double(), plan, copies)
        for name, tensor in blocks.state_dict().items()
    }
    widened.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    save_root_head(destination, wide, widened)


def _widen(name: str, old: torch.Tensor, plan: WideningPlan, copies: int) -> torch.Tensor:
    """One parameter of a block; what stands for unused dims is zero."""
    residual = plan.residual
    used, source = residual.used, torch.from_numpy(residual.source[residual.used])
    sign = torch.from_numpy(residual.sign[used])
    if name in ("state_norm", "code_norm"):
        new = old.new_zeros(plan.large.hidden)
        new[used] = old[source] * float(np.sqrt(plan.fit.copies * plan.small.hidden / len(new)))
    elif name == "inner.weight":
        share = torch.from_numpy(residual.share[used])
        new = old.new_zeros(len(old), 2, plan.large.hidden)
        new[:, :, used] = old.view(len(old), 2, -1)[:, :, source] * (sign * share)
        new = new.flatten(1)
    elif name == "outer.weight":
        new = old.new_zeros(plan.large.hidden, old.shape[1])
        new[used] = old[source] * sign[:, None] / copies
    elif name == "inner.bias":
        new = old
    else:
        raise AssertionError(f"a root head has no parameter {name}")
    return new
