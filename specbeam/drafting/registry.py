"""Which drafters there are.

A drafter that needs no device is one file in `sources/` with one class whose name ends in
`Drafter`, found here by itself:

    class MineDrafter:
        name = "mine"
        informed = True                 # says something about this request, not about all alike

        @classmethod
        def load(cls, bundle): ...      # None where the bundle has not what it needs

        def scorer(self, question): ... # None where it knows nothing of the request

Drafters that run a model (`model` in the draft service, `head` beside the target) answer with
scored trees instead and are named in `REMOTE`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import ClassVar, Protocol

from specbeam.bundle import Bundle
from specbeam.drafting import sources
from specbeam.drafting.question import ChildScorer, DraftQuestion

MODEL, HEAD, POOL = "model", "head", "pool"
REMOTE = (MODEL, HEAD)


class LocalDrafter(Protocol):
    """A drafter that needs no device; called on the event loop, so it must take microseconds."""

    name: ClassVar[str]
    informed: ClassVar[bool]

    @classmethod
    def load(cls, bundle: Bundle) -> LocalDrafter | None:
        """Return the drafter of a bundle; None where the bundle has not what it needs.

        Raises:
            BundleError: what it needs is there and damaged.
        """

    def scorer(self, question: DraftQuestion) -> ChildScorer | None:
        """Return log-probabilities of children for one moment of one search, or None."""


@cache
def local_drafters() -> Mapping[str, type[LocalDrafter]]:
    """Return the classes found in `sources/` by name.

    Raises:
        ValueError: two have the same name.
    """
    found: dict[str, type[LocalDrafter]] = {}
    for module in pkgutil.iter_modules(sources.__path__, f"{sources.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            own = isinstance(value, type) and value.__module__ == module.name
            if not own or not value.__name__.endswith("Drafter"):
                continue
            if value.name in found or value.name in REMOTE:
                raise ValueError(f"two drafters are called {value.name!r}")
            found[value.name] = value
    return found


def drafter_names() -> tuple[str, ...]:
    """Return the names of all drafters there are."""
    return (*REMOTE, *sorted(local_drafters()))


def load_drafters(bundle: Bundle, names: Iterable[str]) -> dict[str, LocalDrafter]:
    """Return the local drafters among `names` that the bundle has what it takes for.

    Raises:
        ValueError: a name is unknown.
        BundleError: what a drafter needs is there and damaged.
    """
    known, loaded = local_drafters(), {}
    for name in names:
        if name in REMOTE:
            continue
        if name not in known:
            raise ValueError(f"{name!r} is no drafter; there are {', '.join(drafter_names())}")
        drafter = known[name].load(bundle)
        if drafter is not None:
            loaded[name] = drafter
    return loaded
