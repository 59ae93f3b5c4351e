"""The bundles that requests can be answered from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orchestrator.items import ItemTable
from specbeam.bundle import Bundle, BundleError, Fingerprints, load_bundle
from specbeam.catalog import FilterCompiler, ItemTrie
from specbeam.decoding.shape import mean_fan_outs
from specbeam.drafting.registry import LocalDrafter, load_drafters
from specbeam.runtime.errors import UnknownBundle


@dataclass(frozen=True, slots=True)
class Serving:
    """A bundle as this service uses it.

    Attributes:
        bundle: The bundle; no model of it is opened here.
        filters: Compiles filters of its catalogue.
        fan_outs: Mean children per trie node by level. Length L.
        items: Titles and topics, read when first asked for.
        drafters: Drafters that need no device, by name.
    """

    bundle: Bundle
    filters: FilterCompiler
    fan_outs: tuple[float, ...]
    items: ItemTable
    drafters: Mapping[str, LocalDrafter] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name used in requests."""
        return self.bundle.manifest.name

    @property
    def trie(self) -> ItemTrie:
        """The catalogue."""
        return self.bundle.trie

    @property
    def fingerprints(self) -> Fingerprints:
        """Content hashes of the bundle."""
        return self.bundle.manifest.fingerprints


def _load(path: str | Path) -> Bundle:
    try:
        # Checkpoints are verified by the services that open them, the rest is used here.
        return load_bundle(path, checkpoints=False)
    except BundleError as error:
        raise BundleError([f"{path}: {problem}" for problem in error.problems]) from error


class BundleTable:
    """All bundles, the default one first."""

    def __init__(self, servings: Sequence[Serving]) -> None:
        """Keep the bundles.

        Args:
            servings: At least one; names must differ.

        Raises:
            ValueError: There is none, or two have one name.
        """
        self._by_name: Mapping[str, Serving] = {serving.name: serving for serving in servings}
        if not servings or len(self._by_name) != len(servings):
            raise ValueError("one or more bundles with different names are needed")
        self.default = servings[0]

    @classmethod
    def load(
        cls,
        paths: Sequence[str | Path],
        *,
        filter_cache_bytes: int = 256 << 20,
        drafters: Sequence[str] = (),
    ) -> "BundleTable":
        """Load bundle directories.

        Args:
            paths: The directories.
            filter_cache_bytes: Memory for compiled filters, of each bundle.
            drafters: Names of drafters; those a bundle has not what it takes for are left out.

        Raises:
            BundleError: One is not usable.
            ValueError: There is none, two have one name, or a drafter is unknown.
        """
        servings = []
        for path in paths:
            bundle = _load(path)
            bundle.trie.prepare()
            filters = FilterCompiler(bundle.trie, filter_cache_bytes)
            fan_outs = mean_fan_outs(bundle.trie)
            local = load_drafters(bundle, drafters)
            servings.append(Serving(bundle, filters, fan_outs, ItemTable(bundle), local))
        return cls(servings)

    def all(self) -> tuple[Serving, ...]:
        """Return every bundle."""
        return tuple(self._by_name.values())

    def get(self, name: str) -> Serving:
        """Return a bundle by name; an empty name means the default one.

        Raises:
            UnknownBundle: There is no such bundle.
        """
        if not name:
            return self.default
        serving = self._by_name.get(name)
        if serving is None:
            raise UnknownBundle(metadata={"bundle": name})
        return serving

    def unknown_everywhere(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the positions of the ids that no bundle knows. Shape (n,)."""
        unknown = np.ones(len(item_ids), bool)
        for serving in self._by_name.values():
            unknown &= serving.trie.index_of(item_ids) < 0
        return np.flatnonzero(unknown)
