"""The load scenario against a server that answers, refuses, or is not there."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from specbeam.cli import exit_codes
from specbeam.cli.loadtest import loadtest
from specbeam.recommend.v1 import recommend_service_pb2 as service_pb2
from specbeam.recommend.v1 import recommend_service_pb2_grpc as service_pb2_grpc
from specbeam.recommend.v1 import types_pb2

pytestmark = pytest.mark.slow


class Recommender(service_pb2_grpc.RecommendServiceServicer):
    """Answers with made-up items and refuses every tenth call."""

    def __init__(self) -> None:
        self.requests: list[service_pb2.RecommendRequest] = []

    async def Recommend(self, request: service_pb2.RecommendRequest, context: Any) -> Any:
        self.requests.append(request)
        if len(self.requests) % 10 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        await asyncio.sleep(0.005)
        items = [types_pb2.RecommendedItem(item_id=f"i{n}") for n in range(request.num_items)]
        work = types_pb2.Work(passes=3, rows=40, speculation_used=True)
        flags = [types_pb2.DEGRADED_FLAG_NO_DRAFT]
        return service_pb2.RecommendResponse(items=items, work=work, degraded=flags)


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, Recommender]]:
    recommender = Recommender()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_RecommendServiceServicer_to_server(recommender, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}", recommender
    await server.stop(None)


async def _load(*arguments: str) -> tuple[int, str]:
    """Run the command in a thread, the server shares this loop; return status and stdout."""
    result = await asyncio.to_thread(
        CliRunner().invoke,
        loadtest,
        [*arguments, "--users=2", "--seconds=2"],
        standalone_mode=False,
    )
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.stdout


async def test_report_counts_answers_failures_and_flags(served: tuple[str, Recommender]) -> None:
    address, recommender = served
    status, output = await _load(f"--address={address}", "--num-items=4", "--json")
    report = json.loads(output)
    assert status == exit_codes.FAILURE
    assert report["failures"] == sum(error["count"] for error in report["errors"]) > 0
    assert {error["error"] for error in report["errors"]} == {"RESOURCE_EXHAUSTED: busy"}
    answers = report["answers"]
    assert answers["count"] == report["requests"] - report["failures"]
    assert answers["degraded"] == {"DEGRADED_FLAG_NO_DRAFT": answers["count"]}
    assert (answers["passes_mean"], answers["rows_mean"], answers["items_mean"]) == (3, 40, 4)
    assert 5 <= report["latency_ms"]["p50"] <= report["latency_ms"]["max"]
    # The first request asks for items; the others carry histories drawn from them.
    known = {f"i{n}" for n in range(40)}
    assert all({event.item_id for event in r.events} <= known for r in recommender.requests)
    assert all(len(r.events) == 20 for r in recommender.requests[1:])


async def test_users_file_names_whose_history_is_read(
    served: tuple[str, Recommender], tmp_path: Any
) -> None:
    address, recommender = served
    users = tmp_path / "users.txt"
    users.write_text("ann\nbob\n", "utf-8")
    await _load(f"--address={address}", f"--users-file={users}", "--speculation=off", "--json")
    asked = {request.user_id for request in recommender.requests}
    assert asked and asked <= {"ann", "bob"}
    assert {r.speculation for r in recommender.requests} == {types_pb2.SPECULATION_OFF}


async def test_absent_server_is_reported_as_unavailable(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{unused_tcp_port}"):
        await _load(f"--address=127.0.0.1:{unused_tcp_port}", "--deadline-s=0.5")
