"""Which rule decides a search's levels, and with what noise and law."""

from __future__ import annotations

import math
from dataclasses import dataclass

# By score; stochastic beam search (exact); AtSpeed's relaxed rule (approximate).
RULE_NAMES = ("TOP_K", "GUMBEL", "RELAXED")
MAX_TEMPERATURE = 100.0


@dataclass(frozen=True, slots=True)
class Selection:
    """How the next beams are chosen among the continuations of the present ones.

    Attributes:
        rule: one of `RULE_NAMES`.
        seed: source of all noise, together with the prefix it belongs to; 64 bits, unsigned.
        temperature: logits are divided by it before they become a law.
        top_k: only so many of the likeliest children of a node may be chosen, ties to the smaller
            token; 0 = all.
    """

    rule: str = "TOP_K"
    seed: int = 0
    temperature: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: one is impossible.
        """
        if self.rule not in RULE_NAMES:
            raise ValueError(f"rule is {self.rule!r}, not one of {', '.join(RULE_NAMES)}")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed is {self.seed}; it must fit 64 bits without a sign")
        if not (math.isfinite(self.temperature) and 0 < self.temperature <= MAX_TEMPERATURE):
            raise ValueError(f"temperature is {self.temperature}; above 0 to 100 is allowed")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must not be negative")
        if self.rule == "TOP_K" and self.shapes_laws:
            raise ValueError("temperature and top_k belong to rules that draw")

    @property
    def draws(self) -> bool:
        """Whether noise takes part."""
        return self.rule != "TOP_K"

    @property
    def perturbs(self) -> bool:
        """Whether beams have rank values besides their scores."""
        return self.rule == "GUMBEL"

    @property
    def shapes_laws(self) -> bool:
        """Whether the law of a node's children is not the model's own."""
        return self.temperature != 1.0 or self.top_k > 0


BY_SCORE = Selection()
"""Beam search: the largest scores."""
