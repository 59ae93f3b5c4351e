"""The exact beams of every level, by plain search over a catalogue of the allowed items alone."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie, pad_paths
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.session import BeamSession
from specbeam.model_service.loading import scoring_of
from tests.bundles import item_facts

Path = tuple[int, ...]


class PlainBeams:
    """Plain beam search, one level per step; the filter is applied before there is a trie."""

    def __init__(self, bundle: Bundle) -> None:
        torch.set_num_threads(1)
        self._bundle = bundle
        self._facts = item_facts(bundle)
        config = RunnerConfig(
            device="cpu",
            dtype="fp64",
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=1024,
        )
        self._runner = ModelRunner.load(bundle.target_dir, config)
        levels = range(1, bundle.trie.depth + 1)
        used = tuple(bundle.trie.level_tokens(level) for level in levels)
        scoring = scoring_of(bundle.manifest)
        self._scoring = replace(scoring, codebooks=scoring.codebooks or used)

    def levels(
        self, history: Sequence[str], width: int, excluded: Sequence[str]
    ) -> dict[int, dict[Path, float]]:
        """Return the score of each exact beam by path, for each level."""
        kept = [item for item in self._facts if item.item_id not in set(excluded)]
        catalogue = ItemTrie.build(
            pad_paths([item.tokens for item in kept]),
            [item.item_id for item in kept],
            np.array([item.popularity for item in kept]),
        )
        model = SearchModel.of(self._runner, catalogue, self._scoring)
        trie = self._bundle.trie
        found: dict[int, dict[Path, float]] = {}
        with closing(BeamSession(model, width)) as session:
            session.open(self._bundle.template.render(trie.paths(trie.index_of(history))))
            while True:
                beams = session.beams
                paths = map(tuple, beams.paths(catalogue).tolist())
                found[beams.level] = dict(zip(paths, beams.scores.tolist(), strict=True))
                if session.finished:
                    return found
                session.plain_step()
