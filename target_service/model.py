"""The served model: a bundle's target on one device, with its catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specbeam.bundle import Bundle
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.model_service.loading import load_runner, open_bundle, open_search


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may ask for.

    Attributes:
        max_prompt_tokens: longest prompt.
        max_rows: most tree rows of one pass.
        max_beam_width: largest beam width.
    """

    max_prompt_tokens: int
    max_rows: int
    max_beam_width: int


@dataclass(frozen=True, slots=True)
class TargetModel:
    """A loaded target.  Everything but the attributes' plain values is used on its thread only.

    Attributes:
        bundle: the bundle it comes from.
        search: the model with its KV slots, and the catalogue on its device.
        limits: what one session may ask for.
    """

    bundle: Bundle
    search: SearchModel
    limits: Limits

    @property
    def runner(self) -> ModelRunner:
        """The model with its KV slots."""
        return self.search.runner

    @property
    def fingerprint(self) -> str:
        """Content hash of the weights."""
        return self.bundle.manifest.fingerprints.model


def scratch_rows(item_length: int, max_rows: int, max_beam_width: int) -> int:
    """Return the tree rows a KV slot must have room for, so that no session can run out of them.

    Every pass decides at least one level and the root needs no tree row, so a session runs at
    most L - 1 passes with rows.  One pass adds at most max_rows rows, or one row per beam where
    the beams alone are more (rows of beams are never cut).  A session resumed on level j first
    adds the beams' ancestors, which are the rows of the passes it skips.  Rows that became
    useless are dropped on the way, but a hostile tree can make all of them useful; hence no
    discount.
    """
    return max(1, item_length - 1) * max(max_rows, max_beam_width)


def load_target(
    directory: Path, *, device: str, dtype: str, slots: int, max_rows: int, max_beam_width: int
) -> TargetModel:
    """Load a bundle's target model; call it on the thread that will own the device.

    Raises:
        BundleError: the bundle is damaged, or needs what this service cannot do, or the device is
            not there.
    """
    bundle = open_bundle(directory, device)
    config = RunnerConfig(
        device=device,
        dtype=dtype,
        slots=slots,
        max_prompt_tokens=bundle.max_prompt_tokens,
        max_rows=scratch_rows(bundle.trie.depth, max_rows, max_beam_width),
        max_item_tokens=bundle.trie.depth,
    )
    runner = load_runner(bundle, bundle.target_dir, config)
    limits = Limits(bundle.max_prompt_tokens, max_rows, max_beam_width)
    return TargetModel(bundle, open_search(bundle, runner), limits)
