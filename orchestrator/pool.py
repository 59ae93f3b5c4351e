"""The tree pool of one orchestrator: which trees a request reads, and what it leaves behind."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.breaker import Breaker
from orchestrator.bundles import Serving
from orchestrator.candidates import beams_of
from orchestrator.pool_writer import PoolWriter
from orchestrator.ports import BeamPaths
from orchestrator.query import TENANT
from specbeam.catalog import ItemTrie
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.drafting.verified import VerifiedTree, VerifiedTreeError
from specbeam.storage import PooledTree, PoolScope, pool_keys

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class TreePool:
    """What the target has scored before, by user and by last items.

    Attributes:
        writer: Writes behind the answers.
        nodes: Nodes per level of a tree that is kept.
        trees: Most trees read for a request.
        damaged: Trees read that were none.
        breaker: Leaves a store that does not answer alone, where only trees are wanted of it.
    """

    writer: PoolWriter
    nodes: int
    trees: int
    damaged: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    _scopes: dict[str, PoolScope] = field(default_factory=dict)

    def scope(self, serving: Serving) -> PoolScope:
        """Return where the trees of a bundle are kept: they fit one model, prompt and catalogue."""
        scope = self._scopes.get(serving.name)
        if scope is None:
            own = serving.fingerprints
            digest = hashlib.blake2b(digest_size=16)
            digest.update(f"{own.model}:{own.prompt}:{own.catalog}".encode())
            scope = self._scopes[serving.name] = PoolScope(TENANT, digest.hexdigest())
        return scope

    def decode(self, trees: Sequence[PooledTree], trie: ItemTrie) -> tuple[VerifiedTree, ...]:
        """Return the trees that are whole; the others are counted and left out."""
        found = []
        for tree in trees:
            try:
                found.append(VerifiedTree.decode(tree.data, trie))
            except VerifiedTreeError as error:
                self.damaged += 1
                _log.warning("damaged tree in the pool: %s", error)
        return tuple(found)

    def offer(
        self,
        serving: Serving,
        user_id: str,
        items: np.ndarray,
        scored: Sequence[tuple[BeamPaths, ScoredTree]],
        started_ms: int,
        beam_width: int,
    ) -> None:
        """Keep what the target scored, behind the answer.

        Args:
            serving: The bundle.
            user_id: Whose request it was; empty = nobody's.
            items: Item indices of the prompt, oldest first. Shape (n,).
            scored: The beams before each turn, and the nodes scored in it.
            started_ms: When the request began, milliseconds since 1970-01-01 UTC.
            beam_width: W; so many nodes of a level are kept at least.
        """
        trie = serving.trie
        keys = pool_keys([trie.item_id(int(item)) for item in items[-2:]])
        if not scored or not (user_id or keys):
            return
        # Whoever looked on may have asked the target for more.
        count = max(self.nodes, beam_width)
        seen = [(beams_of(trie, beams), tree.best(beams.scores, count)) for beams, tree in scored]
        tree = VerifiedTree.join(trie, seen)
        if len(tree):
            self.writer.offer(self.scope(serving), user_id, keys, tree.encode(), started_ms)
