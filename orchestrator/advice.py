"""How to answer a request: which way, and who chooses the trees; learned from the answers."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from orchestrator.bundles import Serving
from orchestrator.driving import TargetWork
from orchestrator.ports import SessionSpec
from specbeam.decoding.costs import CostPoint, CostTable
from specbeam.drafting.arms import ArmChooser
from specbeam.drafting.coverage import Calibration
from specbeam.drafting.planner import TreePlanner
from specbeam.drafting.prices import Prices, SearchPrices
from specbeam.drafting.ways import PLAIN, Flow, Way, least_ms, ways_of

PROMPT_BUCKETS = (48, 128, 256)
# Weight of a new observation in a running mean.
_NEW = 0.1

Costs = Mapping[tuple[int, int], float]


def prompt_bucket(prompt_tokens: int) -> int:
    """Return the number of the length bucket of a prompt."""
    return sum(prompt_tokens > edge for edge in PROMPT_BUCKETS)


@dataclass(frozen=True, slots=True)
class Advice:
    """How to answer one request.

    Attributes:
        way: Flow, and whether to ask the draft service.
        planner: Chooses the trees; None = they use up the row budget.
        kind: Requests whose times can be compared have the same.
        prices: What time costs in this search; None = unknown.
    """

    way: Way
    planner: TreePlanner | None = None
    kind: Hashable = None
    prices: SearchPrices | None = None


@dataclass(slots=True)
class _Known:
    """What was learned about one bundle."""

    calibration: Calibration = field(default_factory=Calibration)
    costs: Costs | None = None
    prices: Prices | None = None
    model_ms: float = 0.0

    def priced(self, costs: Costs) -> Prices | None:
        """Return the prices for what the target says of itself now."""
        if costs != self.costs:
            self.costs = costs
            table = CostTable.from_points(
                CostPoint(rows, prefix, ms) for (rows, prefix), ms in costs.items()
            )
            self.prices = None if table is None else Prices(table)
        return self.prices


class Advisor:
    """Advises on requests by expected milliseconds, with a little exploration."""

    def __init__(
        self,
        arms: ArmChooser,
        *,
        flows: tuple[Flow, ...] = (Flow.ROOT_FIRST, Flow.ONE_PASS),
        plan: bool = True,
        costs: Callable[[], Costs] = dict,
    ) -> None:
        """Start without knowledge.

        Args:
            arms: Chooses among ways by their times.
            flows: Flows that may be used with drafts.
            plan: Whether trees are chosen by expected time.
            costs: Returns what passes of the target cost, as it says itself; empty = unknown.
        """
        self._arms, self._flows, self._plan, self._costs = arms, flows, plan, costs
        self._bundles: dict[str, _Known] = {}

    def advise(
        self,
        serving: Serving,
        spec: SessionSpec,
        filter_kind: str,
        *,
        may_be_plain: bool,
        has_model: bool,
        has_others: bool,
    ) -> Advice:
        """Return how to answer a request that may use drafts.

        Args:
            serving: The bundle.
            spec: What is searched for.
            filter_kind: Kind of its filter.
            may_be_plain: Whether a search without drafts will do, too.
            has_model: Whether there is a draft service.
            has_others: Whether another drafter knows something.
        """
        may_be_plain = may_be_plain and spec.selection.rule != "RELAXED"
        flows = (*((Flow.PLAIN,) if may_be_plain else ()), *self._flows)
        ways = ways_of(flows, has_model=has_model, has_others=has_others)
        known = self._bundles.setdefault(serving.name, _Known())
        prices = self._prices(known, serving, spec)
        kind = self.kind(serving, spec, filter_kind)
        relaxed = spec.selection.rule == "RELAXED"
        if relaxed or prices is None:
            # Nothing tells which ways are worth a try: it is the plain one or the fullest. The
            # relaxed rule's answer depends on the way, so it is always the same.
            ways = ways[: 2 if may_be_plain else 1]
        if not ways:
            return Advice(PLAIN, None, kind, prices)
        floors = {
            way: 0.0 if prices is None else least_ms(way, prices, known.model_ms) for way in ways
        }
        way = self._arms.choose(kind, floors)
        planner = None
        if prices is not None and self._plan and not relaxed:
            planner = TreePlanner(
                serving.trie,
                spec.beam_width,
                known.calibration,
                prices,
                kind=(spec.score_kind, spec.selection.rule),
                always=not may_be_plain,
            )
        return Advice(way, planner, kind, prices)

    def plain(self, serving: Serving, spec: SessionSpec, filter_kind: str) -> Advice:
        """Return how to answer a request that must not use drafts."""
        known = self._bundles.setdefault(serving.name, _Known())
        prices = self._prices(known, serving, spec)
        return Advice(PLAIN, None, self.kind(serving, spec, filter_kind), prices)

    @staticmethod
    def kind(serving: Serving, spec: SessionSpec, filter_kind: str) -> Hashable:
        """Return what the times of a request can be compared by."""
        bucket = prompt_bucket(len(spec.prompt))
        return serving.name, spec.beam_width, bucket, filter_kind, spec.selection.rule

    def learn(
        self,
        serving: Serving,
        advice: Advice,
        work: TargetWork,
        search_ms: float,
        draft_ms: float | None,
        *,
        drafted: bool = True,
    ) -> None:
        """Learn from a search that went as advised, also where a drafter was not to be had.

        Args:
            serving: The bundle.
            advice: How it was searched.
            work: What the target did.
            search_ms: The whole search.
            draft_ms: Waiting for the draft service; None = it did not draft.
            drafted: Whether a tree was sent.
        """
        sent = drafted or advice.way == PLAIN
        self._arms.record(advice.kind, advice.way, search_ms, drafted=sent)
        known = self._bundles[serving.name]
        if advice.way.use_model and draft_ms is not None:
            known.model_ms += (_NEW if known.model_ms else 1.0) * (draft_ms - known.model_ms)
        prices = advice.prices
        if prices is None:
            return
        for turn in work.turns:
            expected = 0.0
            if turn.passes == 1:
                expected = prices.expected_ms(turn.before, turn.prompt_rows, turn.rows)
            prices.prices.observe(expected, turn.forward_ms, turn.wait_ms)

    def _prices(self, known: _Known, serving: Serving, spec: SessionSpec) -> SearchPrices | None:
        prices = known.priced(self._costs())
        if prices is None:
            return None
        widths = [min(spec.beam_width, level.num_nodes) for level in serving.trie.levels]
        return SearchPrices(prices, len(spec.prompt), widths)
