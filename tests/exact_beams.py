"""The exact beams of every level, by plain search over a catalogue of the allowed items alone."""

from collections.abc import Sequence
from contextlib import closing

from specbeam.engine.session import BeamSession
from tests.stack import Oracle

Path = tuple[int, ...]


class PlainBeams(Oracle):
    """Plain beam search, one level per step; the filter is applied before there is a trie."""

    def levels(
        self, history: Sequence[str], width: int, excluded: Sequence[str]
    ) -> dict[int, dict[Path, float]]:
        """Return the score of each exact beam by path, for each level."""
        model = self._over([item for item in self._facts if item.item_id not in set(excluded)])
        trie = self._bundle.trie
        found: dict[int, dict[Path, float]] = {}
        with closing(BeamSession(model, width)) as session:
            session.open(self._bundle.template.render(trie.paths(trie.index_of(history))))
            while True:
                beams = session.beams
                paths = map(tuple, beams.paths(model.expansion.trie).tolist())
                found[beams.level] = dict(zip(paths, beams.scores.tolist(), strict=True))
                if session.finished:
                    return found
                session.plain_step()
