"""Settings of a SASRec model and of its training."""

from dataclasses import asdict, dataclass
from typing import Any

from specbeam.training.errors import DatasetError


@dataclass(frozen=True, slots=True)
class SasRecConfig:
    """Sizes and training settings.

    The defaults come from a short search by NDCG@10 on the Beauty validation split: twice the width
    was no better (0.0256 against 0.0269) and took twice as long per epoch; dropout 0.3 was worse.

    Attributes:
        hidden_size: width of item embeddings and blocks, D.
        num_layers: transformer blocks.
        num_heads: attention heads, H; divides `hidden_size`.
        max_length: latest items of a history that are read, T.
        dropout: rate on the embedded input and on both halves of each block.
        learning_rate: peak of AdamW, after a linear warm-up.
        weight_decay: of AdamW, on matrices and embeddings.
        warmup_steps: optimiser steps of the warm-up.
        batch_size: sequences per optimiser step.
        max_epochs: most passes over the training users.
        patience: epochs without a better validation score before training ends.
        minutes: most wall-clock minutes; None for no limit.  A run that this limit ends is the
            only kind that does not repeat bit for bit.
        validation_users: users sampled for early stopping.
        seed: of weights, batches, dropout and the sample.
    """

    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 2
    max_length: int = 50
    dropout: float = 0.5
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    batch_size: int = 128
    max_epochs: int = 40
    patience: int = 5
    minutes: float | None = None
    validation_users: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}, not positive"
            for name in ("hidden_size", "num_layers", "num_heads", "max_length", "batch_size")
            if getattr(self, name) < 1
        ]
        problems += [
            f"{name} is {getattr(self, name)}, not positive"
            for name in ("learning_rate", "max_epochs", "patience", "validation_users")
            if getattr(self, name) <= 0
        ]
        if self.minutes is not None and self.minutes <= 0:
            problems.append(f"minutes is {self.minutes}, not positive")
        if not 0.0 <= self.dropout < 1.0:
            problems.append(f"dropout is {self.dropout}, not in 0 .. 1")
        if not problems and self.hidden_size % self.num_heads:
            problems.append(f"{self.num_heads} heads do not divide {self.hidden_size}")
        if problems:
            raise DatasetError("SASRec settings", problems)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
