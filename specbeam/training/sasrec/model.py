"""The SASRec network."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from specbeam.training.sasrec.config import SasRecConfig

INIT_STD = 0.02
FEED_FORWARD_FACTOR = 4


class _Block(nn.Module):
    """Pre-norm causal self-attention and feed-forward, each on a residual path."""

    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self._num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * size)
        self.attention_out = nn.Linear(size, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.widen = nn.Linear(size, FEED_FORWARD_FACTOR * size)
        self.narrow = nn.Linear(FEED_FORWARD_FACTOR * size, size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, size = hidden.shape
        qkv = self.qkv(self.attention_norm(hidden))
        query, key, value = qkv.view(batch, length, 3, self._num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, size)
        hidden = hidden + self.dropout(self.attention_out(mixed))
        wide = functional.gelu(self.widen(self.feed_forward_norm(hidden)))
        output: Tensor = hidden + self.dropout(self.narrow(wide))
        return output


class SasRec(nn.Module):
    """A causal transformer over item ids whose output is scored against the item embeddings.

    Item 0 is padding; sequences are padded on the right, where the causal mask hides it.
    """

    def __init__(self, num_items: int, config: SasRecConfig) -> None:
        """Draw the weights from torch's global generator.

        Args:
            num_items: N, padding not counted.
            config: sizes.
        """
        super().__init__()
        self.config = config
        self.items = nn.Embedding(num_items + 1, config.hidden_size, padding_idx=0)
        self.positions = nn.Embedding(config.max_length, config.hidden_size)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.apply(_initialise)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return the state after each item.

        Args:
            sequences: item numbers + 1, 0 on the right of shorter ones. Shape (B, T).

        Returns:
            Shape (B, T, D).
        """
        hidden = self.items(sequences) * self.config.hidden_size**0.5
        hidden = hidden + self.positions.weight[: sequences.shape[1]]
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        normed: Tensor = self.norm(hidden)
        return normed

    def logits(self, states: Tensor) -> Tensor:
        """Return the score of every item: (..., D) to (..., N)."""
        return states @ self.items.weight[1:].T


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
