"""The public API."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from orchestrator.bundles import BundleTable
from orchestrator.converters import (
    check_user,
    from_answer,
    from_append,
    from_bundle,
    from_history,
    from_limits,
    to_events,
    to_history_limit,
    to_query,
)
from orchestrator.debug import DetailsWatch
from orchestrator.history import unknown_items
from orchestrator.pool_writer import PoolWriter
from orchestrator.preview import guess_items
from orchestrator.query import TENANT, Answer, Limits, Query, Speculation
from orchestrator.recommender import Recommender
from orchestrator.streaming import LevelNews, NewsWatch, follow
from orchestrator.watch import UNWATCHED, SearchWatch, Watches
from orchestrator.watch_converters import add_details, from_level, from_preview
from specbeam.recommend.v1 import recommend_service_pb2 as pb
from specbeam.recommend.v1.recommend_service_pb2_grpc import RecommendServiceServicer
from specbeam.runtime.context import current_request_id
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import UnknownUser
from specbeam.storage import StateStore

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the model services are in reach.

    Attributes:
        target: The target service.
        draft: The draft service.
    """

    target: bool
    draft: bool


@dataclass(frozen=True, slots=True)
class ServicerConfig:
    """What the servicer is told.

    Attributes:
        default_deadline_s: Deadline of a call whose client set none, seconds.
        default_speculation: Used when a request leaves it open.
        allow_debug: Whether details may be sent.
        version: Version of the software.
    """

    default_deadline_s: float
    default_speculation: Speculation
    allow_debug: bool
    version: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that was found sound.

    Attributes:
        query: What is asked for.
        budget: Time left.
        started: Its arrival, seconds of `time.perf_counter`.
        details: Collects details, if they are asked for and allowed.
    """

    query: Query
    budget: CallBudget
    started: float
    details: DetailsWatch | None


class RecommendServicer(RecommendServiceServicer):
    """Recommendations and histories."""

    def __init__(
        self,
        recommender: Recommender,
        bundles: BundleTable,
        store: StateStore,
        limits: Callable[[], Limits],
        availability: Callable[[], Availability],
        config: ServicerConfig,
        pool_writer: PoolWriter | None = None,
    ) -> None:
        """Keep what the methods need.

        Args:
            recommender: Answers Recommend.
            bundles: What is served.
            store: Stored histories.
            limits: Returns what a request may ask for now.
            availability: Says which services are in reach.
            config: See there.
            pool_writer: Writes verified trees behind the answers; None = nobody does.
        """
        self._recommender = recommender
        self._bundles = bundles
        self._store = store
        self._limits = limits
        self._availability = availability
        self._config = config
        self._pool_writer = pool_writer

    async def Recommend(
        self, request: pb.RecommendRequest, context: _Context
    ) -> pb.RecommendResponse:
        """Return the best items for a user."""
        asked = self._admit(request, context)
        answer = await self._answer(asked, asked.details or UNWATCHED)
        return self._response(asked, answer)

    async def StreamRecommend(
        self, request: pb.StreamRecommendRequest, context: _Context
    ) -> AsyncIterator[pb.StreamRecommendResponse]:
        """Return what is known of the best items for a user as it becomes known."""
        asked = self._admit(request.request, context)
        news = NewsWatch(asked.started)
        watch = news if asked.details is None else Watches((news, asked.details))
        async with aclosing(follow(news, lambda: self._answer(asked, watch))) as events:
            async for event in events:
                if isinstance(event, Answer):
                    yield pb.StreamRecommendResponse(answer=self._response(asked, event))
                elif event.beams.level == 1:
                    preview = await self._preview(asked.query, event)
                    yield pb.StreamRecommendResponse(preview=preview)
                else:
                    yield pb.StreamRecommendResponse(level=from_level(event))

    async def RecordInteractions(
        self, request: pb.RecordInteractionsRequest, context: _Context
    ) -> pb.RecordInteractionsResponse:
        """Append interactions to a user's history."""
        events = to_events(request, self._limits())
        item_ids = [event.item_id for event in events]
        unknown = self._bundles.unknown_everywhere(item_ids)
        if len(unknown):
            raise unknown_items("events", item_ids, unknown)
        return from_append(await self._store.append(TENANT, request.user_id, events))

    async def GetHistory(
        self, request: pb.GetHistoryRequest, context: _Context
    ) -> pb.GetHistoryResponse:
        """Return the most recent part of a user's history."""
        limit = to_history_limit(request)
        history = await self._store.read(TENANT, request.user_id, limit)
        if not history.total:
            raise UnknownUser()
        return from_history(history)

    async def DeleteUser(
        self, request: pb.DeleteUserRequest, context: _Context
    ) -> pb.DeleteUserResponse:
        """Remove every trace of a user."""
        user_id = check_user(request.user_id)
        if self._pool_writer is not None:
            await self._pool_writer.forget(user_id)
        return pb.DeleteUserResponse(deleted=await self._store.delete(TENANT, user_id))

    async def GetInfo(self, request: pb.GetInfoRequest, context: _Context) -> pb.GetInfoResponse:
        """Say what is served."""
        availability = self._availability()
        return pb.GetInfoResponse(
            bundles=[from_bundle(serving) for serving in self._bundles.all()],
            default_bundle=self._bundles.default.name,
            limits=from_limits(self._limits()),
            target_available=availability.target,
            draft_available=availability.draft,
            version=self._config.version,
        )

    def _admit(self, request: pb.RecommendRequest, context: _Context) -> _Asked:
        started = time.perf_counter()
        budget = CallBudget.start(context, default_s=self._config.default_deadline_s)
        query = to_query(request, self._limits(), self._config.default_speculation)
        details = DetailsWatch() if request.debug and self._config.allow_debug else None
        return _Asked(query, budget, started, details)

    async def _answer(self, asked: _Asked, watch: SearchWatch) -> Answer:
        request_id = current_request_id()
        return await self._recommender.recommend(asked.query, asked.budget, request_id, watch)

    def _response(self, asked: _Asked, answer: Answer) -> pb.RecommendResponse:
        response = from_answer(
            answer,
            self._bundles.get(asked.query.bundle),
            request_id=current_request_id(),
            total_ms=(time.perf_counter() - asked.started) * 1e3,
            debug=asked.details is not None,
        )
        if asked.details is not None:
            add_details(response.debug, asked.details.details())
        return response

    async def _preview(self, query: Query, news: LevelNews) -> pb.RootPreview:
        serving = news.serving
        guesses = guess_items(serving.trie, news.beams, news.chosen, query.num_items)
        entries = await serving.items.entries(guesses) if query.include_metadata else []
        return from_preview(news, guesses, entries)
