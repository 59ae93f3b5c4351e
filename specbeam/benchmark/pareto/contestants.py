"""What is compared: plain search, trees of a fixed size, chosen trees, and the choice of all."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from specbeam.benchmark.drafters.cases import DraftCase
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.settings import ROOT_READY, Knowledge, Setting
from specbeam.benchmark.speculation import Outcome, Speculation
from specbeam.drafting.arms import ArmChooser
from specbeam.drafting.registry import MODEL
from specbeam.drafting.ways import PLAIN, Flow, Way, least_ms, ways_of


@dataclass(slots=True)
class Contestant:
    """One way to answer the requests of a cell.

    Attributes:
        name: shown.
        setting: kind of search.
        ways: ways it may go; several = the quickest is learned.
        knowledge: lets it choose its trees; None = they use up the row budget.
        arms: what it has learned of its ways.
        picks: how often it went which way.
    """

    name: str
    setting: Setting
    ways: tuple[Way, ...]
    knowledge: Knowledge | None = None
    arms: ArmChooser = field(default_factory=lambda: ArmChooser(rng=random.Random(0)))
    picks: Counter[str] = field(default_factory=Counter)

    @property
    def learns(self) -> bool:
        """Whether it is better after some requests than at first."""
        return self.knowledge is not None

    def search(self, models: DraftModels, case: DraftCase) -> Outcome:
        """Answer one request."""
        search = Speculation(models, case, self.setting, self.knowledge)
        way = self._way(search)
        self.picks[_label(way)] += 1
        outcome = search.run(way)
        if len(self.ways) > 1:
            drafted = way == PLAIN or outcome.reached > 0
            self.arms.record(self.setting, way, outcome.ms, drafted=drafted)
        return outcome

    def _way(self, search: Speculation) -> Way:
        prices = search.search_prices()
        if len(self.ways) == 1 or prices is None or self.knowledge is None:
            return self.ways[0]
        model_ms = self.knowledge.model_ms
        floors = {way: least_ms(way, prices, model_ms) for way in self.ways}
        if self.setting.prefix == ROOT_READY:  # The root's pass is nobody's.
            floors = dict.fromkeys(floors, 0.0)
        return self.arms.choose(self.setting, floors)


def _label(way: Way) -> str:
    drafters = "" if way == PLAIN else ", model" if way.use_model else ", no model"
    return way.flow.value.lower().replace("_", "-") + drafters


def contestants(
    setting: Setting, rows: Sequence[int], new: Callable[[], Knowledge]
) -> list[Contestant]:
    """Return plain search, a tree of every size, chosen trees, and auto.

    Args:
        setting: kind of search; its row budget is that of chosen trees.
        rows: budgets of the trees of fixed size.
        new: makes knowledge to begin with.
    """
    has_model = MODEL in setting.sources
    drafted = _drafted(setting, has_model)
    fullest = drafted[0]
    found = [Contestant("A1", setting, (PLAIN,))]
    found += [
        Contestant("fixed", replace(setting, max_rows=budget), (fullest,))
        for budget in rows
        if budget > setting.width
    ]
    return [
        *found,
        Contestant("chosen", setting, drafted, new()),
        Contestant("auto", setting, (PLAIN, *drafted), new()),
    ]


def ablations(setting: Setting, new: Callable[[], Knowledge]) -> list[Contestant]:
    """Return plain search, chosen trees, and these without one ingredient each."""
    everything = _drafted(setting, MODEL in setting.sources)
    found = [
        Contestant("A1", setting, (PLAIN,)),
        Contestant("everything", setting, everything, new()),
    ]
    for name in setting.sources:
        left = tuple(source for source in setting.sources if source != name)
        ways = _drafted(setting, MODEL in left)
        less = replace(setting, sources=left)
        found.append(Contestant(f"without {name}", less, ways, new()))
    for flow in (Flow.ROOT_FIRST, Flow.ONE_PASS):
        ways = tuple(way for way in everything if way.flow is not flow)
        if ways:
            found.append(
                Contestant(f"without {_label(Way(flow)).split(',')[0]}", setting, ways, new())
            )
    unlearned = new()
    unlearned.learns = False
    found.append(Contestant("without learning coverage", setting, everything, unlearned))
    budget = Contestant("without choosing trees", setting, (everything[0],))
    return [*found, budget]


def _drafted(setting: Setting, has_model: bool) -> tuple[Way, ...]:
    flows = (Flow.ROOT_FIRST,) if setting.prefix == ROOT_READY else (Flow.ROOT_FIRST, Flow.ONE_PASS)
    others = any(source != MODEL for source in setting.sources)
    return tuple(ways_of(flows, has_model=has_model, has_others=others))
