"""One request from history to items."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.auto import SpeculationChooser, prompt_bucket
from orchestrator.bundles import BundleTable, Serving
from orchestrator.filtering import RequestFilter, compile_filter
from orchestrator.flags import Flag
from orchestrator.history import load_history
from orchestrator.ports import BeamPaths, SessionSpec
from orchestrator.query import TENANT, Answer, Limits, Query, Speculation
from orchestrator.search import Searcher, SearchJob, SearchOutcome
from specbeam.catalog import LeafSpec, RankedItems, rank_items
from specbeam.decoding.beams import Beams
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import Internal, InvalidRequest, Violation
from specbeam.runtime.filter_rules import unknown_tag_violations
from specbeam.storage import HistoryStore

_NOTHING = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Recommender:
    """Answers requests.

    Attributes:
        bundles: What can be asked for.
        store: Stored histories.
        searcher: Runs searches.
        chooser: Decides on speculation when the client leaves it open.
        limits: Returns what a request may ask for now.
        default_max_rows: Row budget of a pass when the request does not say.
        has_draft: Whether there is a draft service at all.
        max_history: Most stored events read.
    """

    bundles: BundleTable
    store: HistoryStore
    searcher: Searcher
    chooser: SpeculationChooser
    limits: Callable[[], Limits]
    default_max_rows: int
    has_draft: bool
    max_history: int

    async def recommend(self, query: Query, budget: CallBudget, request_id: str) -> Answer:
        """Return the best items for a request.

        Args:
            query: The request.
            budget: Time left for it.
            request_id: Its id, for logs.

        Raises:
            SpecbeamError: See the API for which one when.
        """
        serving = self.bundles.get(query.bundle)
        beam_width, max_rows = self._widths(query, serving)
        started = time.perf_counter()
        history = await load_history(self.store, query, serving, budget, self.max_history)
        history_ms = (time.perf_counter() - started) * 1e3
        trie = serving.trie
        prompt = serving.bundle.template.render(trie.paths(history.prompt_items))
        chosen = await compile_filter(query, serving, history.seen_items)
        spec = _session_spec(request_id, serving, prompt, beam_width, max_rows, chosen.leaves)
        outcome = await self._search(query, serving, spec, budget, chosen.kind)
        ranked = _rank(serving, outcome.beams, query.num_items, chosen)
        entries = await serving.items.entries(ranked.items) if query.include_metadata else ()
        return Answer(
            ranked=ranked,
            item_ids=tuple(trie.item_id(int(item)) for item in ranked.items),
            paths=trie.leaf_paths(ranked.leaves),
            entries=tuple(entries),
            prompt=prompt,
            outcome=outcome,
            flags=history.flags + outcome.flags,
            history_ms=history_ms,
        )

    def _widths(self, query: Query, serving: Serving) -> tuple[int, int]:
        """Return W and the row budget, or say what does not fit the bundle or the target."""
        limits = self.limits()
        default = serving.bundle.manifest.default_beam_width
        beam_width = query.beam_width or max(query.num_items, default)
        violations = unknown_tag_violations(
            query.required_tags, serving.trie.tags, "filter.required_tags"
        )
        if beam_width > limits.max_beam_width:
            text = f"{beam_width} is more than {limits.max_beam_width}"
            violations.append(Violation("beam_width", text))
        if 0 < query.max_rows < beam_width:
            text = f"a pass needs a row for each of the {beam_width} beams"
            violations.append(Violation("max_rows", text))
        if violations:
            raise InvalidRequest(violations)
        # The default is a choice of ours: it follows the widths, a client's value never does.
        default_rows = max(beam_width, min(self.default_max_rows, limits.max_rows))
        return beam_width, query.max_rows or default_rows

    async def _search(
        self,
        query: Query,
        serving: Serving,
        spec: SessionSpec,
        budget: CallBudget,
        filter_kind: str,
    ) -> SearchOutcome:
        key = (serving.name, spec.beam_width, prompt_bucket(len(spec.prompt)), filter_kind)
        speculate = query.speculation is Speculation.ON
        if query.speculation is Speculation.AUTO and self.has_draft:
            speculate = self.chooser.choose(key)
        job = SearchJob(spec, serving.fan_outs, budget, speculate)
        outcome = await self.searcher.run(job)
        # Without a draft it was neither of the two ways.
        if Flag.NO_DRAFT not in outcome.flags:
            self.chooser.record(key, speculated=outcome.speculated, ms=outcome.search_ms)
        return outcome


def _session_spec(
    request_id: str,
    serving: Serving,
    prompt: np.ndarray,
    beam_width: int,
    max_rows: int,
    leaves: LeafSpec,
) -> SessionSpec:
    manifest = serving.bundle.manifest
    return SessionSpec(
        request_id=request_id,
        tenant=TENANT,
        bundle=serving.name,
        fingerprints=manifest.fingerprints,
        score_kind=manifest.score_kind,
        prompt=prompt,
        beam_width=beam_width,
        leaves=leaves,
        max_rows=max_rows,
        item_length=manifest.item_length,
        vocab_size=manifest.vocab_size,
    )


def _rank(serving: Serving, beams: BeamPaths, num_items: int, chosen: RequestFilter) -> RankedItems:
    trie = serving.trie
    if not len(beams):
        return RankedItems(_NOTHING, np.zeros(0), _NOTHING, exhausted=num_items > 0)
    try:
        leaves = Beams.from_paths(trie, beams.tokens, beams.scores)
    except ValueError as error:
        raise Internal() from error
    return rank_items(trie, leaves.nodes, leaves.scores, num_items, chosen.allowed)
