"""Drives target and draft sessions over the wire in tests."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc
import numpy as np

from specbeam.bundle import Bundle
from specbeam.draft.v1alpha1 import draft_service_pb2 as draft_pb
from specbeam.draft.v1alpha1 import draft_service_pb2_grpc
from specbeam.runtime.status import RpcFailure, decode_error
from specbeam.target.v1alpha1 import session_pb2, target_service_pb2_grpc
from specbeam.target.v1alpha1 import target_service_pb2 as target_pb
from tests.waiting import until

TIMEOUT_S = 20.0


def header(bundle: Bundle, /, **changes: Any) -> session_pb2.SessionHeader:
    prints = bundle.manifest.fingerprints
    fingerprints = {"model": prints.model, "prompt": prints.prompt, "catalog": prints.catalog}
    fields = {
        "request_id": "request-1",
        "tenant": "default",
        "bundle": bundle.manifest.name,
        "score_kind": session_pb2.ScoreKind.Value(f"SCORE_KIND_{bundle.manifest.score_kind}"),
    }
    for name, value in changes.items():
        (fingerprints if name in fingerprints else fields)[name] = value
    return session_pb2.SessionHeader(
        **fields, fingerprints=session_pb2.Fingerprints(**fingerprints)
    )


def open_message(
    bundle: Bundle,
    prompt: Sequence[int] | np.ndarray,
    /,
    beam_width: int = 10,
    *,
    excluded_leaves: Sequence[int] = (),
    max_rows: int = 0,
    resume: session_pb2.Beams | None = None,
    tree: session_pb2.CandidateTree | None = None,
    filters: Mapping[str, Any] = MappingProxyType({}),
    **header_changes: Any,
) -> target_pb.VerifyRequest:
    search = session_pb2.SearchSpec(
        **{"excluded_leaves": excluded_leaves, **filters}, beam_width=beam_width, max_rows=max_rows
    )
    return target_pb.VerifyRequest(
        open=target_pb.Open(
            header=header(bundle, **header_changes),
            prompt_tokens=list(map(int, prompt)),
            search=search,
            resume=resume,
            tree=tree,
        )
    )


def plain(base_level: int, steps: int = 1) -> target_pb.VerifyRequest:
    advance = target_pb.Advance(base_level=base_level, plain_steps=steps)
    return target_pb.VerifyRequest(advance=advance)


def to_end(base_level: int) -> target_pb.VerifyRequest:
    advance = target_pb.Advance(base_level=base_level, run_to_end=target_pb.RunToEnd())
    return target_pb.VerifyRequest(advance=advance)


def tree(base_level: int, parents: Sequence[int], tokens: Sequence[int]) -> target_pb.VerifyRequest:
    drafted = session_pb2.CandidateTree(base_level=base_level, parents=parents, tokens=tokens)
    return target_pb.VerifyRequest(advance=target_pb.Advance(base_level=base_level, tree=drafted))


def draft_open(
    bundle: Bundle,
    prompt: Sequence[int] | np.ndarray,
    /,
    beam_width: int = 10,
    *,
    excluded_leaves: Sequence[int] = (),
    filters: Mapping[str, Any] = MappingProxyType({}),
    **header_changes: Any,
) -> draft_pb.DraftRequest:
    return draft_pb.DraftRequest(
        open=draft_pb.DraftOpen(
            header=header(bundle, **header_changes),
            prompt_tokens=list(map(int, prompt)),
            search=session_pb2.SearchSpec(
                **{"excluded_leaves": excluded_leaves, **filters}, beam_width=beam_width
            ),
        )
    )


def propose(beams: session_pb2.Beams, levels: int = 1, max_nodes: int = 0) -> draft_pb.DraftRequest:
    return draft_pb.DraftRequest(
        propose=draft_pb.Propose(beams=beams, levels=levels, max_nodes=max_nodes)
    )


@dataclass
class Session:
    """An open stream: say something, get the answer."""

    call: Any

    async def send(self, message: Any) -> None:
        await self.call.write(message)

    async def read(self) -> Any:
        answer = await self.call.read()
        if answer is grpc.aio.EOF:
            raise AssertionError(f"the stream ended: {await self.call.code()}")
        return answer

    async def say(self, message: Any) -> Any:
        await self.send(message)
        return await self.read()

    async def levels(self, message: draft_pb.DraftRequest) -> list[draft_pb.DraftedLevel]:
        await self.send(message)
        found = []
        while not found or not found[-1].last:
            found.append((await self.read()).level)
        return found


@contextlib.asynccontextmanager
async def target_session(
    channel: grpc.aio.Channel, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Session]:
    async with _session(target_service_pb2_grpc.TargetServiceStub(channel).Verify, timeout_s) as s:
        yield s


@contextlib.asynccontextmanager
async def draft_session(
    channel: grpc.aio.Channel, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Session]:
    async with _session(draft_service_pb2_grpc.DraftServiceStub(channel).Draft, timeout_s) as s:
        yield s


@contextlib.asynccontextmanager
async def _session(method: Any, timeout_s: float) -> AsyncIterator[Session]:
    call = method(timeout=timeout_s)
    try:
        yield Session(call)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    finally:
        call.cancel()


async def failure_of(answer: Awaitable[Any]) -> RpcFailure:
    """Await something that must fail on the wire; return how."""
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return decode_error(error)
    raise AssertionError("the call did not fail")


async def until_slots_are_back(info: Callable[[], Awaitable[Any]], total: int) -> None:
    """Wait until a service that answers `info()` has every slot free."""

    async def free() -> int:
        return int((await info()).slots_free)

    await until(free, total)
