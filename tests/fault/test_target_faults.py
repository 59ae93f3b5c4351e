"""The target gone, dying, restarting: resumed where possible, a typed error where not."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from specbeam.client import Interaction, UnavailableError
from specbeam.draft.v1alpha1 import draft_service_pb2 as pb
from specbeam.runtime.channel import create_channel
from specbeam.target.v1alpha1 import target_service_pb2
from specbeam.target.v1alpha1.target_service_pb2_grpc import TargetServiceStub
from target_service.app import start_app as start_target
from tests.bundles import exact_norms, tiny_bundle
from tests.fault.test_draft_faults import faulty_draft
from tests.stack import Oracle, running, target_settings
from tests.waiting import until

HISTORY = [f"item-{number:04d}" for number in (3, 14, 15, 92, 65, 35)]
EVENTS = [Interaction(item) for item in HISTORY]


@pytest.fixture(scope="module", autouse=True)
def _norms() -> Iterator[None]:
    with exact_norms():
        yield


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(tiny_bundle())


def _draft_that_first(
    act: Callable[[], Awaitable[None]],
) -> Callable[[pb.Propose], AsyncIterator[pb.DraftResponse]]:
    """A draft whose first proposal comes after `act`: a hook in the middle of a request."""
    acted = False

    async def answer(propose: pb.Propose) -> AsyncIterator[pb.DraftResponse]:
        nonlocal acted
        if not acted:
            acted = True
            await act()
        base = propose.beams.level
        level = pb.DraftedLevel(
            base_level=base, level=base + 1, parents=[0], tokens=[15], last=True
        )
        yield pb.DraftResponse(level=level)

    return answer


async def test_target_that_restarts_in_a_request_is_resumed(oracle: Oracle) -> None:
    bundle = tiny_bundle()
    first = await start_target(target_settings(bundle))
    second = []

    async def restart() -> None:
        await first.stop()
        second.append(await start_target(target_settings(bundle, first.port)))

    async with (
        faulty_draft(_draft_that_first(restart)) as (draft, _),
        running(bundle, draft=draft, target=f"127.0.0.1:{first.port}") as stack,
    ):
        found = await stack.client.recommend(events=EVENTS, speculation="on")
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        assert found.degraded == ()
        # The prompt was computed twice, level 1 decided once.
        assert found.work.prompt_rows == 2 * found.work.prompt_tokens
        again = await stack.client.recommend(events=EVENTS, speculation="off")
        oracle.check(again, oracle.rank(HISTORY, 10, excluded=HISTORY))
        await second[0].stop()


async def test_target_process_killed_in_a_request(oracle: Oracle) -> None:
    bundle = tiny_bundle()
    process, port = await _start_target_process(str(bundle.path))

    async def kill() -> None:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()

    try:
        async with (
            faulty_draft(_draft_that_first(kill)) as (draft, _),
            running(bundle, draft=draft, target=f"127.0.0.1:{port}") as stack,
        ):
            before = await stack.client.recommend(events=EVENTS, speculation="off")
            assert len(before.items) == 10
            started = time.monotonic()
            with pytest.raises(UnavailableError) as caught:
                await stack.client.recommend(events=EVENTS, speculation="on")
            assert caught.value.reason == "TARGET_UNAVAILABLE"
            assert time.monotonic() - started < 12
            await until(_ready(stack), False)
            assert not (await stack.client.get_info()).target_available
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _ready(stack: object) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return bool(await stack.orchestrator.health.refresh())  # type: ignore[attr-defined]

    return ask


async def _start_target_process(bundle: str) -> tuple[asyncio.subprocess.Process, int]:
    from tests.redis_server import _free_port

    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "target_service", "--bundle", bundle, "--port", str(port)),
        *("--dtype", "fp64", "--threads", "1", "--warm-up-s", "0", "--log-level", "error"),
    )

    async def ask() -> bool:
        assert process.returncode is None, "the target ended while it started"
        async with create_channel(f"127.0.0.1:{port}") as channel:
            try:
                request = target_service_pb2.GetInfoRequest()
                await TargetServiceStub(channel).GetInfo(request, timeout=1)
            except Exception:
                return False
        return True

    await until(ask, True, 60)
    return process, port


async def test_target_absent_at_start_and_found_later(oracle: Oracle) -> None:
    bundle = tiny_bundle()
    first = await start_target(target_settings(bundle))
    await first.stop()
    async with running(bundle, draft=False, target=f"127.0.0.1:{first.port}") as stack:
        assert not stack.orchestrator.health.is_ready
        for speculation in ("off", "on"):
            with pytest.raises(UnavailableError) as caught:
                await stack.client.recommend(
                    events=EVENTS,
                    speculation=speculation,  # type: ignore[arg-type]
                )
            assert caught.value.reason == "TARGET_UNAVAILABLE"
        second = await start_target(target_settings(bundle, first.port))
        await until(_ready(stack), True)
        found = await stack.client.recommend(events=EVENTS)
        oracle.check(found, oracle.rank(HISTORY, 10, excluded=HISTORY))
        await second.stop()


async def test_target_with_another_bundle_makes_the_orchestrator_unready() -> None:
    other = tiny_bundle(seed=7)
    served = await start_target(target_settings(other))
    async with running(tiny_bundle(), draft=False, target=f"127.0.0.1:{served.port}") as stack:
        assert not stack.orchestrator.health.is_ready
        with pytest.raises(UnavailableError) as caught:
            await stack.client.recommend(events=EVENTS)
        assert caught.value.reason == "TARGET_UNAVAILABLE"
    await served.stop()
