"""A model joined with the catalogue it searches."""

from __future__ import annotations

from dataclasses import dataclass

from specbeam.catalog import ItemTrie
from specbeam.decoding.expansion import AnyExpansion, open_expansion
from specbeam.decoding.scoring import Scoring
from specbeam.engine.head import LevelHead
from specbeam.engine.runner import ModelRunner


@dataclass(frozen=True, slots=True)
class SearchModel:
    """A model on its device with the catalogue it searches.

    Attributes:
        runner: the model.
        head: its LM head, cut for the catalogue and the score convention.
        expansion: the catalogue on the model's device.
    """

    runner: ModelRunner
    head: LevelHead
    expansion: AnyExpansion

    @classmethod
    def open(cls, runner: ModelRunner, expansion: AnyExpansion) -> SearchModel:
        """Join a model and a catalogue.

        Raises:
            ValueError: the catalogue has tokens the model has not.
        """
        return cls(runner, LevelHead(runner, expansion.trie, expansion.scoring), expansion)

    def under(self, kind: str) -> SearchModel:
        """Return the same model and catalogue under another score convention.

        Weights, slots and every array of the catalogue are shared; it costs two small objects.
        """
        if kind == self.expansion.scoring.kind:
            return self
        return SearchModel(self.runner, self.head.under(kind), self.expansion.under(kind))

    @classmethod
    def of(cls, runner: ModelRunner, trie: ItemTrie, scoring: Scoring) -> SearchModel:
        """Join a model, a catalogue and a score convention.

        Raises:
            ValueError: the catalogue has tokens the model has not.
        """
        return cls.open(runner, open_expansion(trie, runner.device, scoring))
