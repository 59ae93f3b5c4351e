"""Python client of the recommend service.

    from specbeam.client import Interaction, SyncRecommendClient

    with SyncRecommendClient("localhost:50051") as client:
        client.record_interactions("ann", [Interaction("item-7", type="view")])
        for item in client.recommend("ann", num_items=5).items:
            print(item.item_id, item.score)

`RecommendClient` has the same methods as coroutines. A failed call raises a
`ClientError`. Neither needs torch.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from types import TracebackType
from typing import Any, Final, Self, Unpack

import grpc

from specbeam.client_debug import (
    DebugInfo,
    DebugNode,
    DebugRound,
    DebugSpan,
    ForwardInterval,
    TreeEstimate,
)
from specbeam.client_errors import (
    ClientError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
    Violation,
    client_error,
)
from specbeam.client_events import (
    Prefix,
    PreviewItem,
    RootPreview,
    StreamEvent,
    VerifiedLevel,
    read_events,
    read_events_async,
)
from specbeam.client_messages import (
    decode_history,
    decode_info,
    decode_recommendation,
    encode_interactions,
    encode_request,
)
from specbeam.client_types import (
    BundleInfo,
    Fingerprints,
    Interaction,
    ItemMetadata,
    Recommendation,
    RecommendedItem,
    RecommendOptions,
    RecordResult,
    ServerInfo,
    TagInfo,
    Timings,
    UserHistory,
    Work,
)
from specbeam.recommend.v1 import recommend_service_pb2 as service_pb2
from specbeam.recommend.v1.recommend_service_pb2_grpc import RecommendServiceStub
from specbeam.runtime.channel import create_channel, retry_config
from specbeam.runtime.options import channel_options

__all__ = [
    "BundleInfo",
    "ClientError",
    "DeadlineError",
    "DebugInfo",
    "DebugNode",
    "DebugRound",
    "DebugSpan",
    "Fingerprints",
    "ForwardInterval",
    "Interaction",
    "InvalidRequestError",
    "ItemMetadata",
    "NotFoundError",
    "OverloadedError",
    "Prefix",
    "PreviewItem",
    "RecommendClient",
    "RecommendOptions",
    "Recommendation",
    "RecommendedItem",
    "RecordResult",
    "RootPreview",
    "ServerInfo",
    "StreamEvent",
    "SyncRecommendClient",
    "TagInfo",
    "Timings",
    "TreeEstimate",
    "UnavailableError",
    "UserHistory",
    "VerifiedLevel",
    "Violation",
    "Work",
]

DEFAULT_TIMEOUT_S: Final = 10.0

_SERVICE = service_pb2.DESCRIPTOR.services_by_name["RecommendService"]


def _record_request(
    user_id: str, events: Sequence[Interaction]
) -> service_pb2.RecordInteractionsRequest:
    return service_pb2.RecordInteractionsRequest(
        user_id=user_id, events=encode_interactions(events)
    )


def _stream_request(user_id: str, options: RecommendOptions) -> service_pb2.StreamRecommendRequest:
    return service_pb2.StreamRecommendRequest(request=encode_request(user_id, options))


def _record_result(message: service_pb2.RecordInteractionsResponse) -> RecordResult:
    return RecordResult(message.stored, message.duplicates, message.total)


class RecommendClient:
    """Client for asyncio. Use it in one event loop.

    The connection is made at the first call; one client serves any number of
    concurrent calls.
    """

    def __init__(self, target: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Prepare the client.

        Args:
            target: Where the service is, such as ``localhost:50051``.
            timeout_s: Longest time of a call that is given none, seconds.
        """
        self._target = target
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. A later call opens a new one."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def recommend(
        self,
        user_id: str = "",
        *,
        timeout_s: float | None = None,
        **options: Unpack[RecommendOptions],
    ) -> Recommendation:
        """Return the best items for a user; see `SyncRecommendClient.recommend`."""
        request = encode_request(user_id, options)
        return decode_recommendation(await self._call("Recommend", request, timeout_s))

    def stream_recommend(
        self,
        user_id: str = "",
        *,
        timeout_s: float | None = None,
        **options: Unpack[RecommendOptions],
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield news of an answer, then the answer; see `SyncRecommendClient.stream_recommend`.

        A loop that is left early ends the call once the generator is closed: use
        `contextlib.aclosing`.
        """
        request = _stream_request(user_id, options)
        call = self._stub().StreamRecommend(request, timeout=self._timeout(timeout_s))
        return read_events_async(call)

    async def record_interactions(
        self, user_id: str, events: Sequence[Interaction], *, timeout_s: float | None = None
    ) -> RecordResult:
        """Append to a user's history; see `SyncRecommendClient.record_interactions`."""
        request = _record_request(user_id, events)
        return _record_result(await self._call("RecordInteractions", request, timeout_s))

    async def get_history(
        self, user_id: str, *, limit: int = 0, timeout_s: float | None = None
    ) -> UserHistory:
        """Return the most recent events of a user; 0 = the server's default number."""
        request = service_pb2.GetHistoryRequest(user_id=user_id, limit=limit)
        return decode_history(await self._call("GetHistory", request, timeout_s))

    async def delete_user(self, user_id: str, *, timeout_s: float | None = None) -> bool:
        """Remove every trace of a user; return whether there was one."""
        request = service_pb2.DeleteUserRequest(user_id=user_id)
        return bool((await self._call("DeleteUser", request, timeout_s)).deleted)

    async def get_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Return what is served."""
        return decode_info(await self._call("GetInfo", service_pb2.GetInfoRequest(), timeout_s))

    async def _call(self, method: str, request: Any, timeout_s: float | None) -> Any:
        call = getattr(self._stub(), method)
        try:
            return await call(request, timeout=self._timeout(timeout_s))
        except grpc.aio.AioRpcError as error:
            raise client_error(error) from error

    def _stub(self) -> Any:
        if self._channel is None:
            self._channel = create_channel(self._target, retry=(_SERVICE,))
        return RecommendServiceStub(self._channel)

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


class SyncRecommendClient:
    """Client for code without asyncio. May be used by several threads."""

    def __init__(self, target: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Prepare the client; the connection is made at the first call.

        Args:
            target: Where the service is, such as ``localhost:50051``.
            timeout_s: Longest time of a call that is given none, seconds.
        """
        self._timeout_s = timeout_s
        options = (*channel_options(), ("grpc.service_config", retry_config((_SERVICE,))))
        self._channel = grpc.insecure_channel(target, options=options)
        self._stub = RecommendServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The client cannot be used afterwards."""
        self._channel.close()

    def recommend(
        self,
        user_id: str = "",
        *,
        timeout_s: float | None = None,
        **options: Unpack[RecommendOptions],
    ) -> Recommendation:
        """Return the best items for a user.

        Args:
            user_id: Whose stored history to use; empty = nobody's.
            timeout_s: Longest time of the call, seconds; None = the client's.
            options: What to ask for; see `RecommendOptions`.

        Raises:
            ClientError: The call failed.
            TypeError: There is no such option, or one is of another type.
            ValueError: An option has no such value.
        """
        request = encode_request(user_id, options)
        return decode_recommendation(self._call("Recommend", request, timeout_s))

    def stream_recommend(
        self,
        user_id: str = "",
        *,
        timeout_s: float | None = None,
        **options: Unpack[RecommendOptions],
    ) -> Generator[StreamEvent, None, None]:
        """Yield what becomes known on the way, and last the answer that `recommend` returns.

        A `RootPreview` comes first, then a `VerifiedLevel` for each deeper level; a search that is
        settled at once may skip them. What came before an error is to be dropped. Never retried;
        leaving the loop early ends the call.

        Args:
            user_id: Whose stored history to use; empty = nobody's.
            timeout_s: Longest time of the whole call, seconds; None = the client's.
            options: What to ask for; see `RecommendOptions`.

        Raises:
            ClientError: The call failed; raised by the iterator.
            TypeError: There is no such option, or one is of another type.
            ValueError: An option has no such value.
        """
        request = _stream_request(user_id, options)
        return read_events(self._stub.StreamRecommend(request, timeout=self._timeout(timeout_s)))

    def record_interactions(
        self, user_id: str, events: Sequence[Interaction], *, timeout_s: float | None = None
    ) -> RecordResult:
        """Append to a user's history; events known already change nothing.

        Once it returns, the events are stored.

        Raises:
            ClientError: The call failed. Calling again with the same events is safe.
        """
        request = _record_request(user_id, events)
        return _record_result(self._call("RecordInteractions", request, timeout_s))

    def get_history(
        self, user_id: str, *, limit: int = 0, timeout_s: float | None = None
    ) -> UserHistory:
        """Return the most recent events of a user; 0 = the server's default number."""
        request = service_pb2.GetHistoryRequest(user_id=user_id, limit=limit)
        return decode_history(self._call("GetHistory", request, timeout_s))

    def delete_user(self, user_id: str, *, timeout_s: float | None = None) -> bool:
        """Remove every trace of a user; return whether there was one."""
        request = service_pb2.DeleteUserRequest(user_id=user_id)
        return bool(self._call("DeleteUser", request, timeout_s).deleted)

    def get_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Return what is served."""
        return decode_info(self._call("GetInfo", service_pb2.GetInfoRequest(), timeout_s))

    def _call(self, method: str, request: Any, timeout_s: float | None) -> Any:
        call = getattr(self._stub, method)
        try:
            return call(request, timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise client_error(error) from error

    def _timeout(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s
