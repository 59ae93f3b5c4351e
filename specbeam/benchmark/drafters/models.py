"""What the searches of the drafter benchmark run on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch

from specbeam.bundle import Bundle
from specbeam.drafting.registry import HEAD, MODEL, LocalDrafter, load_drafters, local_drafters
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.own_drafter import OWN_DRAFTERS, OwnDrafter
from specbeam.model_service.loading import drafter_kind, open_search


@dataclass(slots=True)
class DraftModels:
    """A bundle's target and every drafter that it has.

    Attributes:
        bundle: the bundle.
        target: the target.
        models: model drafters by their name in the bundle, the first one also as "model".
        head: the drafter beside the target, if there is one.
        local: drafters that need no device, by name.
    """

    bundle: Bundle
    target: SearchModel
    models: dict[str, SearchModel] = field(default_factory=dict)
    head: OwnDrafter | None = None
    local: dict[str, LocalDrafter] = field(default_factory=dict)

    @classmethod
    def load(cls, bundle: Bundle, *, threads: int, dtype: str, max_rows: int) -> DraftModels:
        """Load everything on the CPU.

        Args:
            bundle: the bundle.
            threads: torch threads.
            dtype: of all models.
            max_rows: largest row budget of a pass.
        """
        torch.set_num_threads(threads)
        depth = bundle.trie.depth
        config = RunnerConfig(
            dtype=dtype,
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=2 * depth * max_rows,
            max_item_tokens=depth,
        )
        target = open_search(bundle, ModelRunner.load(bundle.target_dir, config))
        found = cls(bundle, target, local=load_drafters(bundle, local_drafters()))
        for name in bundle.manifest.drafters:
            kind, directory = drafter_kind(bundle, name), bundle.drafter_dir(name)
            if kind == MODEL:
                search = open_search(bundle, ModelRunner.load(directory, config))
                found.models.setdefault(MODEL, search)
                found.models[f"{MODEL}:{name}"] = search
            elif kind in OWN_DRAFTERS and found.head is None:
                fingerprint = bundle.manifest.fingerprints.model
                found.head = OWN_DRAFTERS[kind](directory, target, fingerprint)
        return found

    def names(self) -> tuple[str, ...]:
        """Return every source there is."""
        head = (HEAD,) if self.head is not None else ()
        return (*self.models, *head, *self.local)

    def costs(self) -> dict[str, Any]:
        """Return what training the drafters took, as far as the bundle's report knows."""
        try:
            report = json.loads((self.bundle.path / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        draft = report.get("training", {}).get("draft", {})
        own = {key: draft[key] for key in ("minutes", "parameters", "steps") if key in draft}
        return {MODEL: own, **report.get("drafters", {}), **report.get("alignment", {})}
