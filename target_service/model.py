"""The served model: a bundle's target on one device, with its catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from specbeam.bundle import Bundle, BundleError
from specbeam.decoding.selection import Selection
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.own_drafter import OWN_DRAFTERS, OwnDrafter
from specbeam.model_service.loading import drafter_kind, load_runner, open_bundle, open_search


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
        sampling: the same under TRIE, for sessions that draw items.
        limits: what one session may ask for.
        own_drafter: the drafter beside the target, or None.
        own_drafter_name: its name in the bundle; empty without one.
    """

    bundle: Bundle
    search: SearchModel
    sampling: SearchModel
    limits: Limits
    own_drafter: OwnDrafter | None = None
    own_drafter_name: str = ""

    def search_for(self, selection: Selection) -> SearchModel:
        """Return what a session with this selection searches."""
        return self.sampling if selection.draws else self.search

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

    The prompt's pass adds at most max_rows rows.  It decides level 1 and every later pass one level
    at least, so there are at most L - 1 of them.  Each adds at most max_rows rows, or one row per
    beam where the beams alone are more (rows of beams are never cut).  A session resumed on level j
    first adds the beams' ancestors, which are the rows of the passes it skips.  Rows that became
    useless are dropped on the way, but a hostile tree can make all of them useful; hence no
    discount.
    """
    return max_rows + (item_length - 1) * max(max_rows, max_beam_width)


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
    search = open_search(bundle, runner)
    own_drafter = _open_own_drafter(bundle, search)
    return TargetModel(bundle, search, search.under("TRIE"), limits, *own_drafter)


def _open_own_drafter(bundle: Bundle, search: SearchModel) -> tuple[OwnDrafter | None, str]:
    """The first drafter of the bundle that lives beside a target, and its name."""
    for name in bundle.manifest.drafters:
        loader = OWN_DRAFTERS.get(drafter_kind(bundle, name))
        if loader is not None:
            try:
                target = bundle.manifest.fingerprints.model
                return loader(bundle.drafter_dir(name), search, target), name
            except (OSError, ValueError, SafetensorError) as error:
                line = (str(error).splitlines() or [type(error).__name__])[0]
                raise BundleError([f"drafters/{name}/ cannot be loaded: {line}"]) from error
    return None, ""
