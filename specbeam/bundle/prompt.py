"""From a history to prompt tokens with a stable prefix."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Window:
    """The anchored window over a history.

    The first item shown moves only once per `stride` events, so the token prefix of a growing
    history stays the same between moves and its KV state can be reused.

    Attributes:
        max_items: most items shown.
        stride: items by which the start moves.
    """

    max_items: int = 50
    stride: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.stride <= self.max_items:
            raise ValueError(f"window needs 1 <= stride <= max_items, got {self}")

    def start(self, length: int) -> int:
        """Return the index of the first item shown of a history of `length` items."""
        excess = max(0, length - self.max_items)
        return -(-excess // self.stride) * self.stride


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Fixed tokens, then the history oldest to newest, then the cue.

    Attributes:
        prefix: vocabulary ids before the history; starts with BOS.
        suffix: vocabulary ids after it (request-specific parts belong here); usually empty.
        window: which part of the history is shown.
    """

    prefix: tuple[int, ...] = (1,)
    suffix: tuple[int, ...] = ()
    window: Window = Window()

    def render(self, history_paths: np.ndarray) -> np.ndarray:
        """Return the prompt of a history.

        Args:
            history_paths: token paths of the items, oldest first.  Shape (n, L).

        Returns:
            Vocabulary ids.  Shape (T,), int32; never empty.
        """
        shown = np.asarray(history_paths)[self.window.start(len(history_paths)) :]
        parts = (self.prefix, shown.reshape(-1), self.suffix)
        return np.concatenate([np.asarray(part, np.int32).reshape(-1) for part in parts])

    def to_json(self) -> str:
        """Return the canonical text of prompt.json."""
        segments = [
            {"type": "tokens", "ids": list(self.prefix)},
            {"type": "history", "window": asdict(self.window)},
            {"type": "tokens", "ids": list(self.suffix)},
        ]
        return json.dumps({"version": 1, "segments": segments}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PromptTemplate:
        """Parse prompt.json.

        Raises:
            ValueError: not a template of version 1.
        """
        try:
            document = json.loads(text)
            prefix, history, suffix = document["segments"]
            if document["version"] != 1 or not prefix["ids"]:
                raise ValueError("unknown version or empty prefix")
            return cls(tuple(prefix["ids"]), tuple(suffix["ids"]), Window(**history["window"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"prompt.json is not a prompt template of version 1: {error}"
            ) from error

    @property
    def fingerprint(self) -> str:
        """Hex BLAKE2b-128 digest of the canonical text."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()
