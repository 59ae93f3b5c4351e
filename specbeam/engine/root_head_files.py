"""The files of a root head: drafter.json and head.safetensors in one directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from specbeam.engine.root_head_blocks import EPSILON, StateBlocks

KIND = "head"
FORMAT = 1
DRAFTER_FILE = "drafter.json"
WEIGHTS_FILE = "head.safetensors"


class RootHeadError(ValueError):
    """A root head is missing, damaged, or does not fit the target."""


@dataclass(frozen=True, slots=True)
class RootHeadConfig:
    """What a root head was made for, and its shape.

    Attributes:
        hidden: width of the target's hidden states.
        vocab_size: of the target, V.
        levels: deepest level whose codes are drafted.
        bottleneck: inner width of a block.
        target: fingerprint of the target, as in a bundle's manifest.
        state_epsilon: of the norms of states.
        code_epsilon: of the norms of embeddings.
    """

    hidden: int
    vocab_size: int
    levels: int
    bottleneck: int
    target: str
    state_epsilon: float = EPSILON
    code_epsilon: float = EPSILON

    def __post_init__(self) -> None:
        """Check the ranges."""
        numbers = (self.hidden, self.vocab_size, self.levels, self.bottleneck)
        if not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"sizes must be positive whole numbers: {self}")
        if not isinstance(self.target, str):
            raise ValueError("target is not a fingerprint")
        if not (self.state_epsilon > 0 and self.code_epsilon > 0):
            raise ValueError(f"epsilons must be positive: {self}")

    def make_blocks(self) -> StateBlocks:
        """Return new blocks: codes of level l + 1 are read from a state behind l codes."""
        epsilons = (self.state_epsilon, self.code_epsilon)
        return StateBlocks(self.hidden, self.bottleneck, self.levels - 1, epsilons)


def save_root_head(directory: Path, config: RootHeadConfig, blocks: StateBlocks) -> None:
    """Write both files into an existing directory."""
    weights = {name: value.detach().contiguous() for name, value in blocks.state_dict().items()}
    save_file(weights, directory / WEIGHTS_FILE)
    text = json.dumps({"kind": KIND, "format": FORMAT, **asdict(config)}, indent=2) + "\n"
    (directory / DRAFTER_FILE).write_text(text, encoding="utf-8")


def load_root_head(directory: Path) -> tuple[RootHeadConfig, StateBlocks]:
    """Read both files.

    Raises:
        RootHeadError: one is missing or damaged, or of another kind or format.
    """
    config = _read_config(directory / DRAFTER_FILE)
    blocks = config.make_blocks()
    file = directory / WEIGHTS_FILE
    try:
        blocks.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RootHeadError(f"{file} cannot be read: {error}") from error
    return config, blocks


def _read_config(file: Path) -> RootHeadConfig:
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        kind, version = document.pop("kind"), document.pop("format")
        if kind != KIND:
            raise RootHeadError(f"{file} describes a drafter of kind {kind!r}, not {KIND!r}")
        if version != FORMAT:
            raise RootHeadError(f"{file} has format {version}; this release reads {FORMAT}")
        return RootHeadConfig(**document)
    except RootHeadError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RootHeadError(f"{file} cannot be read: {error}") from error
