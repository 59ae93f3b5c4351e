"""The served drafter: a bundle's small model on one device, with the catalogue."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from specbeam.bundle import Bundle, BundleError
from specbeam.decoding.selection import Selection
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.model_service.loading import drafter_kind, load_runner, open_bundle, open_search

KIND = "model"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may ask for.

    Attributes:
        max_prompt_tokens: longest prompt.
        max_nodes: most nodes proposed on one level.
        max_beam_width: largest beam width.
    """

    max_prompt_tokens: int
    max_nodes: int
    max_beam_width: int


@dataclass(frozen=True, slots=True)
class DraftModel:
    """A loaded drafter.  What runs it is used on its thread only.

    Attributes:
        bundle: the bundle it comes from.
        drafter: its name in the bundle.
        fingerprint: content hash of the drafter's own files.
        search: the model with its KV slots, and the catalogue on its device.
        sampling: the same under TRIE, for sessions that draw items.
        limits: what one session may ask for.
    """

    bundle: Bundle
    drafter: str
    fingerprint: str
    search: SearchModel
    sampling: SearchModel
    limits: Limits

    def search_for(self, selection: Selection) -> SearchModel:
        """Return what a session with this selection drafts with."""
        return self.sampling if selection.draws else self.search

    @property
    def runner(self) -> ModelRunner:
        """The model with its KV slots."""
        return self.search.runner


def scratch_rows(item_length: int, max_nodes: int, max_beam_width: int) -> int:
    """Return the tree rows a KV slot must have room for.

    The row of a node on level l stands beside those of its ancestors, and the drafter stops early
    when l rows per node of the level would not fit.  With n rows per level at most, l - 1 levels
    are there already, so l n more fit on every level l < L when there is room for 2 (L - 1) n.
    """
    return 2 * max(1, item_length - 1) * max(max_nodes, max_beam_width)


def load_drafter(
    directory: Path,
    *,
    drafter: str,
    device: str,
    dtype: str,
    slots: int,
    max_nodes: int,
    max_beam_width: int,
) -> DraftModel:
    """Load a bundle's drafter; call it on the thread that will own the device.

    Raises:
        BundleError: the bundle is damaged or has no such drafter of a kind served here, or the
            device is not there.
    """
    bundle = open_bundle(directory, device)
    _check_drafter(bundle, drafter)
    config = RunnerConfig(
        device=device,
        dtype=dtype,
        slots=slots,
        max_prompt_tokens=bundle.max_prompt_tokens,
        max_rows=scratch_rows(bundle.trie.depth, max_nodes, max_beam_width),
        max_item_tokens=bundle.trie.depth,
    )
    runner = load_runner(bundle, bundle.drafter_dir(drafter), config)
    limits = Limits(bundle.max_prompt_tokens, max_nodes, max_beam_width)
    search = open_search(bundle, runner)
    fingerprint = _fingerprint(bundle, drafter)
    return DraftModel(bundle, drafter, fingerprint, search, search.under("TRIE"), limits)


def _check_drafter(bundle: Bundle, drafter: str) -> None:
    known = bundle.manifest.drafters
    if drafter not in known:
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise BundleError([f"the bundle has no drafter {drafter!r}; {there}"])
    kind = drafter_kind(bundle, drafter)
    if kind != KIND:
        raise BundleError([f"drafter {drafter!r} is of kind {kind!r}; only {KIND!r} is served"])


def _fingerprint(bundle: Bundle, drafter: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, (size, file_digest) in sorted(bundle.manifest.contents.items()):
        if name.startswith(f"drafters/{drafter}/"):
            digest.update(f"{name}:{size}:{file_digest};".encode())
    return digest.hexdigest()
