"""The root head's network: one small residual block per level, from a prefix's state to the next.

A state stands for the prompt and a prefix of codes, in the space of the target's hidden states
after the last norm: the target's own LM head reads it.  The state of the empty prefix is the
target's hidden state itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-6


class StateBlock(nn.Module):
    """Takes one more code into a state: s + W_out silu(W_in [norm(s); norm(e)])."""

    def __init__(
        self, hidden: int, bottleneck: int, epsilons: tuple[float, float] = (EPSILON, EPSILON)
    ) -> None:
        """Start as the identity.

        Args:
            hidden: width of a state and of an embedding.
            bottleneck: width between the two multiplications.
            epsilons: of the norms of state and embedding.
        """
        super().__init__()
        self._epsilons = epsilons
        # States and embeddings differ in scale by far, so that one norm over both would drown the
        # embedding.
        self.state_norm = nn.Parameter(torch.ones(hidden))
        self.code_norm = nn.Parameter(torch.ones(hidden))
        self.inner = nn.Linear(2 * hidden, bottleneck)
        self.outer = nn.Linear(bottleneck, hidden, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, state: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the states one code further.

        Args:
            state: shape (R, hidden).
            code: the code's input embedding.  Shape (R, hidden).

        Returns:
            Shape (R, hidden).
        """
        width = self.state_norm.shape
        seen = torch.cat(
            [
                F.rms_norm(state, width, self.state_norm, self._epsilons[0]),
                F.rms_norm(code, width, self.code_norm, self._epsilons[1]),
            ],
            dim=-1,
        )
        added: torch.Tensor = self.outer(F.silu(self.inner(seen)))
        return state + added


class StateBlocks(nn.Module):
    """The blocks of all levels: block l takes in the code of level l, 1 .. n."""

    def __init__(
        self,
        hidden: int,
        bottleneck: int,
        count: int,
        epsilons: tuple[float, float] = (EPSILON, EPSILON),
    ) -> None:
        """Make n blocks.

        Args:
            hidden: width of a state.
            bottleneck: see `StateBlock`.
            count: n.
            epsilons: see `StateBlock`.
        """
        super().__init__()
        self.blocks = nn.ModuleList(StateBlock(hidden, bottleneck, epsilons) for _ in range(count))

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def forward(self, root: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return the states along whole paths.

        Args:
            root: hidden states of the target that predict a first code.  Shape (R, hidden).
            codes: input embeddings of the first n' <= n codes.  Shape (R, n', hidden).

        Returns:
            State behind each code.  Shape (R, n', hidden).
        """
        state, states = root, []
        for block, code in zip(self.blocks, codes.unbind(1), strict=False):
            state = block(state, code)
            states.append(state)
        return torch.stack(states, dim=1) if states else codes

    def step(self, level: int, state: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the states of prefixes of `level` codes from those one shorter; see `forward`."""
        further: torch.Tensor = self.blocks[level - 1](state, code)
        return further
