"""One request from history to items."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from orchestrator.advice import Advice, Advisor
from orchestrator.bundles import BundleTable, Serving
from orchestrator.candidates import RequestCandidates
from orchestrator.filtering import RequestFilter, compile_filter, compile_leaves
from orchestrator.flags import Flag
from orchestrator.history import RequestHistory, load_history
from orchestrator.pool import TreePool
from orchestrator.ports import BeamPaths, SessionSpec
from orchestrator.query import TENANT, Answer, Limits, Mode, Query, Speculation
from orchestrator.search import Searcher, SearchJob, SearchOutcome
from orchestrator.watch import UNWATCHED, SearchWatch, now_ns
from specbeam.catalog import LeafSpec, RankedItems, rank_items
from specbeam.decoding.beams import Beams
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.shape import union_shape
from specbeam.drafting.candidates import UnitedCandidates
from specbeam.drafting.registry import HEAD, MODEL
from specbeam.drafting.ways import Flow
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import Internal, InvalidRequest, Violation
from specbeam.runtime.filter_rules import unknown_tag_violations
from specbeam.storage import StateStore

_NOTHING = np.zeros(0, np.int32)
_RULES = {Mode.EXACT_SAMPLING: "GUMBEL", Mode.RELAXED_SAMPLING: "RELAXED"}

# Filters that leave a small part of the catalogue: the trees searched then say little to others.
SELECTIVE = ("allow", "conditions")


@dataclass(frozen=True, slots=True)
class DraftingChoice:
    """Who drafts.

    Attributes:
        names: Drafters in use.
        own_drafter: Whether a drafter lives beside the target now, for a bundle's name.
    """

    names: tuple[str, ...] = (MODEL,)
    own_drafter: Callable[[str], bool] = lambda name: False


@dataclass(frozen=True, slots=True)
class Recommender:
    """Answers requests.

    Attributes:
        bundles: What can be asked for.
        store: Stored histories.
        searcher: Runs searches.
        advisor: Decides how a request is searched.
        limits: Returns what a request may ask for now.
        default_max_rows: Row budget of a pass when the request does not say.
        has_draft: Whether there is a draft service at all.
        max_history: Most stored events read.
        drafting: Who drafts, and how.
        pool: Verified trees of earlier requests; None = not kept.
    """

    bundles: BundleTable
    store: StateStore
    searcher: Searcher
    advisor: Advisor
    limits: Callable[[], Limits]
    default_max_rows: int
    has_draft: bool
    max_history: int
    drafting: DraftingChoice = field(default_factory=lambda: DraftingChoice())
    pool: TreePool | None = None

    async def recommend(
        self,
        query: Query,
        budget: CallBudget,
        request_id: str,
        watch: SearchWatch = UNWATCHED,
    ) -> Answer:
        """Return the best items for a request.

        Args:
            query: The request.
            budget: Time left for it.
            request_id: Its id, for logs.
            watch: Who looks on.

        Raises:
            SpecbeamError: See the API for which one when.
        """
        serving = self.bundles.get(query.bundle)
        beam_width, max_rows = self._widths(query, serving)
        selection = _selection(query)
        began = now_ns()
        started, started_ms = time.perf_counter(), time.time_ns() // 1_000_000
        readable = None if query.speculation is Speculation.OFF else self.pool
        history = await load_history(self.store, query, serving, budget, self.max_history, readable)
        history_ms = (time.perf_counter() - started) * 1e3
        watch.span("history", began)
        began = now_ns()
        trie = serving.trie
        prompt = serving.bundle.template.render(trie.paths(history.prompt_items))
        chosen = await compile_filter(query, serving, history.seen_items)
        spec = _session_spec(
            request_id, serving, prompt, beam_width, max_rows, chosen.leaves, selection
        )
        # Laws that are tempered or over fewer children say little to other requests.
        told = self.pool is not None and chosen.kind not in SELECTIVE and not selection.draws
        pool_nodes = self.pool.nodes if self.pool is not None and told else 0
        spec = replace(spec, report_nodes=max(pool_nodes, watch.report_nodes))
        watch.span("prompt", began)
        watch.prepared(serving, chosen, spec)
        outcome = await self._search(query, serving, spec, budget, chosen.kind, history, watch)
        began = now_ns()
        ranked = _rank(serving, outcome.beams, query.num_items, chosen)
        if self.pool is not None and pool_nodes:
            scored = outcome.work.scored
            items = history.prompt_items
            self.pool.offer(serving, query.user_id, items, scored, started_ms, beam_width)
        entries = await serving.items.entries(ranked.items) if query.include_metadata else ()
        watch.span("rank", began)
        return Answer(
            ranked=ranked,
            item_ids=tuple(trie.item_id(int(item)) for item in ranked.items),
            paths=trie.leaf_paths(ranked.leaves),
            entries=tuple(entries),
            prompt=prompt,
            outcome=outcome,
            flags=history.flags + outcome.flags,
            history_ms=history_ms,
            mode=query.mode,
            score_kind=spec.score_kind,
            seed=selection.seed if selection.draws else None,
        )

    def _widths(self, query: Query, serving: Serving) -> tuple[int, int]:
        """Return W and the row budget, or say what does not fit the bundle or the target."""
        limits = self.limits()
        # More beams change nothing about the first items drawn exactly.
        drawn = query.mode is Mode.EXACT_SAMPLING
        default = 0 if drawn else serving.bundle.manifest.default_beam_width
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
        if query.mode is Mode.RELAXED_SAMPLING:
            levels = serving.bundle.manifest.item_length - 1
            drafted = beam_width + levels * (query.drawing.draft_width or 2 * beam_width)
            default_rows = max(default_rows, min(drafted, limits.max_rows))
        return beam_width, query.max_rows or default_rows

    async def _search(
        self,
        query: Query,
        serving: Serving,
        spec: SessionSpec,
        budget: CallBudget,
        filter_kind: str,
        history: RequestHistory,
        watch: SearchWatch,
    ) -> SearchOutcome:
        # Without drafts, level by level takes longer than in one call.
        kind = f"{filter_kind}, level by level" if watch.stepwise else filter_kind
        advice = self._advise(query, serving, spec, kind)
        job = SearchJob(spec, serving.fan_outs, budget, watch=watch)
        if advice.way.flow is not Flow.PLAIN:
            job = await self._with_drafters(query, job, advice, serving, history)
        outcome = await self.searcher.run(job)
        asked = Flag.NO_DRAFT not in outcome.flags
        draft_ms = outcome.draft_ms if asked else None
        united = None
        if isinstance(job.candidates, RequestCandidates):
            united = job.candidates.united
            outcome = replace(outcome, sources=dict(united.nodes), left_out=united.left_out)

        def learn() -> None:
            work, search_ms, drafted = outcome.work, outcome.search_ms, outcome.rounds > 0
            self.advisor.learn(serving, advice, work, search_ms, draft_ms, drafted=drafted)
            if united is not None:
                united.learn()

        asyncio.get_running_loop().call_soon(learn)  # behind the answer
        return outcome

    def _advise(
        self, query: Query, serving: Serving, spec: SessionSpec, filter_kind: str
    ) -> Advice:
        speculation = query.speculation
        if speculation is Speculation.OFF or not self._can_draft(serving):
            return self.advisor.plain(serving, spec, filter_kind)
        return self.advisor.advise(
            serving,
            spec,
            filter_kind,
            may_be_plain=speculation is Speculation.AUTO,
            has_model=self.has_draft,
            has_others=self._has_others(serving),
        )

    def _can_draft(self, serving: Serving) -> bool:
        return self.has_draft or self._has_others(serving)

    def _has_others(self, serving: Serving) -> bool:
        informed = any(drafter.informed for drafter in serving.drafters.values())
        return informed or self._own_drafter(serving)

    def _own_drafter(self, serving: Serving) -> bool:
        return HEAD in self.drafting.names and self.drafting.own_drafter(serving.name)

    async def _with_drafters(
        self,
        query: Query,
        job: SearchJob,
        advice: Advice,
        serving: Serving,
        history: RequestHistory,
    ) -> SearchJob:
        """Return the job with every drafter that is in use and there."""
        spec, flow = job.spec, advice.way.flow
        if advice.planner is not None:
            # What became of a tree is learned from the scores of the exact beams.
            spec = replace(spec, report_nodes=max(spec.report_nodes, spec.beam_width))
        if self._own_drafter(serving) and flow is Flow.ROOT_FIRST:
            shape = union_shape(serving.fan_outs, 1, spec.beam_width, spec.max_rows)
            spec = replace(spec, own_draft=shape if shape.levels else None)
        united = UnitedCandidates(
            trie=serving.trie,
            score_kind=spec.score_kind,
            beam_width=spec.beam_width,
            max_rows=spec.max_rows,
            drafters=serving.drafters,
            history=history.prompt_items.astype(np.int64),
            leaf_filter=await compile_leaves(spec.leaves, serving),
            pool=history.pool,
            planner=advice.planner,
            selection=spec.selection,
            draft_width=query.drawing.draft_width or 2 * spec.beam_width,
        )
        return replace(
            job,
            spec=spec,
            flow=flow,
            candidates=RequestCandidates(united),
            use_model=advice.way.use_model,
        )


def _session_spec(
    request_id: str,
    serving: Serving,
    prompt: np.ndarray,
    beam_width: int,
    max_rows: int,
    leaves: LeafSpec,
    selection: Selection,
) -> SessionSpec:
    manifest = serving.bundle.manifest
    return SessionSpec(
        request_id=request_id,
        tenant=TENANT,
        bundle=serving.name,
        fingerprints=manifest.fingerprints,
        score_kind="TRIE" if selection.draws else manifest.score_kind,
        prompt=prompt,
        beam_width=beam_width,
        leaves=leaves,
        max_rows=max_rows,
        item_length=manifest.item_length,
        vocab_size=manifest.vocab_size,
        selection=selection,
    )


def _selection(query: Query) -> Selection:
    """Return how beams are chosen; a draw without a seed gets one."""
    if query.mode is Mode.EXACT_TOPK:
        return BY_SCORE
    drawing = query.drawing
    seed = secrets.randbits(64) if drawing.seed is None else drawing.seed
    return Selection(_RULES[query.mode], seed, drawing.temperature, drawing.top_k)


def _rank(serving: Serving, beams: BeamPaths, num_items: int, chosen: RequestFilter) -> RankedItems:
    trie = serving.trie
    if not len(beams):
        return RankedItems(_NOTHING, np.zeros(0), _NOTHING, num_items > 0, np.zeros(0))
    try:
        leaves = Beams.from_paths(trie, beams.tokens, beams.scores, beams.ranks)
    except ValueError as error:
        raise Internal() from error
    return rank_items(
        trie, leaves.nodes, leaves.scores, num_items, chosen.allowed, leaves.rank_values
    )
