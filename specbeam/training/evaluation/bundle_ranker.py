"""Ranking with a bundle's target, the way it is served."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from specbeam.bundle import Bundle
from specbeam.catalog import FilterCompiler, ItemFilter, rank_items
from specbeam.decoding.scoring import Scoring
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel, SearchSpec, plain_search
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.evaluation.values import NO_ITEM

Int32Array = npt.NDArray[np.int32]


class BundleRanker:
    """Exact top-K of a bundle's target: plain beam search with the history excluded.

    Prompts are made from the bundle's own token paths, so the dataset need not have any.
    """

    # The serving engine answers one request at a time here; more would only coarsen the progress.
    batch_size = 8

    def __init__(self, bundle: Bundle, dataset: Dataset, beam_width: int) -> None:
        """Load the target in float32.

        Args:
            bundle: what is evaluated.
            dataset: item numbers are those of this dataset.
            beam_width: W.

        Raises:
            TrainingError: bundle and dataset have different items.
        """
        self._index = bundle.trie.index_of(dataset.items.item_ids)
        if (self._index < 0).any() or len(self._index) != bundle.trie.num_items:
            raise TrainingError(
                f"bundle {bundle.manifest.name} and dataset {dataset.name} have different items"
            )
        self._number = np.argsort(self._index).astype(np.int32)
        self._bundle, self._beam_width = bundle, beam_width
        widest = max(level.max_children for level in bundle.trie.levels)
        config = RunnerConfig(
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=max(beam_width * bundle.trie.depth, widest),
            max_item_tokens=bundle.trie.depth,
        )
        runner = ModelRunner.load(bundle.target_dir, config)
        self._search = SearchModel.of(
            runner, bundle.trie, Scoring(bundle.manifest.score_kind, bundle.manifest.codebooks())
        )
        self._filters = FilterCompiler(bundle.trie)

    def rank(self, histories: Sequence[Int32Array], limit: int) -> Int32Array:
        """Return the target's best items: at most `limit`, on at most `beam_width` leaves."""
        ranked = np.full((len(histories), limit), NO_ITEM, np.int32)
        for row, history in zip(ranked, histories, strict=True):
            items = self._rank_one(history, limit)
            row[: len(items)] = items
        return ranked

    def _rank_one(self, history: Int32Array, limit: int) -> Int32Array:
        known = self._index[history]
        prompt = self._bundle.template.render(self._bundle.trie.paths(known))
        wanted = ItemFilter(excluded_items=known)
        leaf_filter = self._filters.compile(self._filters.resolve(wanted))
        spec = SearchSpec(prompt, self._beam_width, leaf_filter)
        beams = plain_search(self._search, spec).beams
        found = rank_items(
            self._bundle.trie,
            beams.nodes,
            beams.scores,
            limit,
            lambda items: self._filters.allowed(wanted, items),
        )
        numbers: Int32Array = self._number[found.items]
        return numbers
