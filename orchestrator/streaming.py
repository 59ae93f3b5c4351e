"""News of one search while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.exact_levels import exact_levels
from orchestrator.ports import BeamPaths, SessionSpec, TargetTurn
from orchestrator.query import Answer
from orchestrator.watch import SearchWatch

if TYPE_CHECKING:
    from orchestrator.bundles import Serving
    from orchestrator.filtering import RequestFilter


@dataclass(frozen=True, slots=True)
class LevelNews:
    """A level is exact.

    Attributes:
        serving: The bundle that is searched.
        chosen: Which items may be returned.
        beams: The exact beams of the level.
        elapsed_ms: Since the arrival of the request, milliseconds.
    """

    serving: Serving
    chosen: RequestFilter
    beams: BeamPaths
    elapsed_ms: float


@dataclass(slots=True)
class NewsWatch(SearchWatch):
    """Tells every level but the last as it becomes exact.

    Attributes:
        started: Arrival of the request, seconds of `time.perf_counter`.
        news: What was told; None = there will be no more.
    """

    started: float
    # Less than W counts as W: the beams of levels that are settled on the way are told, too.
    report_nodes: int = 1
    stepwise: bool = True
    news: asyncio.Queue[LevelNews | None] = field(default_factory=asyncio.Queue)
    _search: tuple[Serving, RequestFilter, SessionSpec] | None = None

    def prepared(self, serving: Serving, chosen: RequestFilter, spec: SessionSpec) -> None:
        """See `SearchWatch`."""
        self._search = (serving, chosen, spec)

    def turn(self, before: BeamPaths, turn: TargetTurn, step: str) -> None:
        """See `SearchWatch`."""
        if self._search is None:
            return
        serving, chosen, spec = self._search
        elapsed_ms = (time.perf_counter() - self.started) * 1e3
        for level, beams in exact_levels(before, turn, spec.beam_width).items():
            if level < spec.item_length:
                self.news.put_nowait(LevelNews(serving, chosen, beams, elapsed_ms))


async def follow(
    watch: NewsWatch, recommend: Callable[[], Coroutine[Any, Any, Answer]]
) -> AsyncGenerator[LevelNews | Answer, None]:
    """Answer a request; yield what `watch` is told on the way, and the answer last.

    The search ends with the generator.

    Raises:
        SpecbeamError: Whatever `recommend` raises.
    """
    task = asyncio.create_task(recommend())
    task.add_done_callback(lambda _: watch.news.put_nowait(None))
    try:
        while (news := await watch.news.get()) is not None:
            yield news
        yield await task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            # Mark a failure as seen, else the loop complains about it.
            task.exception()
