"""Load scenario for Recommend: `locust -f loadtest/recommend.py --host 127.0.0.1:50051`.

Each simulated user keeps one call in flight on a channel of its own. With a users file the stored
histories of those users are read; without one, histories are drawn from items the server itself
recommends and sent inline. locust patches the interpreter with gevent, so this module runs in a
process of its own and no service imports it.
"""

# locust patches sockets and threads when it is imported: it comes before grpc.
import locust  # isort: skip

import json
import random
import time
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.experimental.gevent
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from specbeam.recommend.v1 import recommend_service_pb2 as service_pb2
from specbeam.recommend.v1 import recommend_service_pb2_grpc as service_pb2_grpc
from specbeam.recommend.v1 import types_pb2

grpc.experimental.gevent.init_gevent()

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
SPECULATION = {
    "auto": types_pb2.SPECULATION_AUTO,
    "on": types_pb2.SPECULATION_ON,
    "off": types_pb2.SPECULATION_OFF,
}
# The server may refuse more; enough variety for synthetic histories.
MAX_SEED_ITEMS = 50


@dataclass(slots=True)
class Answers:
    """What the successful answers of this process said about themselves."""

    count: int = 0
    items: int = 0
    passes: int = 0
    rows: int = 0
    forward_ms: float = 0.0
    speculated: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, response: service_pb2.RecommendResponse, latency_ms: float) -> None:
        """Count one answer."""
        self.count += 1
        self.latencies_ms.append(latency_ms)
        self.items += len(response.items)
        self.passes += response.work.passes
        self.rows += response.work.rows
        self.forward_ms += response.timings.forward_ms
        self.speculated += response.work.speculation_used
        self.degraded.update(types_pb2.DegradedFlag.Name(flag) for flag in response.degraded)

    def report(self) -> dict[str, Any]:
        """Return means per answer and the number of answers per degraded flag."""
        count = max(1, self.count)
        return {
            "count": self.count,
            "items_mean": self.items / count,
            "passes_mean": self.passes / count,
            "rows_mean": self.rows / count,
            "forward_ms_mean": self.forward_ms / count,
            "speculated": self.speculated,
            "degraded": dict(self.degraded),
        }


class HistorySource:
    """Chooses whose history each request is about."""

    def __init__(self, user_ids: list[str], item_ids: list[str], length: int, seed: int) -> None:
        self._user_ids = user_ids
        self._item_ids = item_ids
        self._length = length
        self._random = random.Random(seed)

    def fill(self, request: service_pb2.RecommendRequest) -> None:
        """Set the user id of a stored history, or inline events of a synthetic one."""
        if self._user_ids:
            request.user_id = self._random.choice(self._user_ids)
            return
        chosen = self._random.choices(self._item_ids, k=self._length) if self._item_ids else []
        request.events.extend(types_pb2.Interaction(item_id=item_id) for item_id in chosen)


def add_options(parser: LocustArgumentParser) -> None:
    """Add the scenario's own options to locust's."""
    group = parser.add_argument_group("Recommend")
    group.add_argument("--num-items", type=int, default=10, help="items per request (K)")
    group.add_argument("--beam-width", type=int, default=0, help="beams (W); 0 = server's choice")
    group.add_argument("--speculation", choices=sorted(SPECULATION), default="auto")
    group.add_argument("--deadline-s", type=float, default=5.0, help="deadline of each call")
    group.add_argument("--users-file", default="", help="stored user ids, one a line")
    group.add_argument("--history-length", type=int, default=20, help="synthetic inline events")
    group.add_argument("--history-seed", type=int, default=0)
    group.add_argument("--report-file", default="", help="write a JSON report here at the end")


def prepare(environment: Environment, **_: Any) -> None:
    """Validate the options, learn some item ids and attach the shared state to the environment."""
    options = environment.parsed_options
    if options is None or not options.host:
        raise SystemExit("recommend: --host ADDRESS is required")
    user_ids = Path(options.users_file).read_text("utf-8").split() if options.users_file else []
    if options.users_file and not user_ids:
        raise SystemExit(f"recommend: {options.users_file} names no user")
    item_ids = [] if user_ids else _learn_item_ids(options)
    # locust hands its listeners the environment alone; it is the place for shared state.
    environment.answers = Answers()  # type: ignore[attr-defined]
    environment.histories = HistorySource(  # type: ignore[attr-defined]
        user_ids, item_ids, options.history_length, options.history_seed
    )


def _learn_item_ids(options: Namespace) -> list[str]:
    """Ask for the items recommended to nobody; an unreachable server shows in the run itself."""
    request = service_pb2.RecommendRequest(num_items=min(MAX_SEED_ITEMS, 10 * options.num_items))
    with grpc.insecure_channel(options.host) as channel:
        stub = service_pb2_grpc.RecommendServiceStub(channel)
        try:
            answer = stub.Recommend(request, timeout=options.deadline_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise SystemExit(f"recommend: {options.host}: {_describe(error)}") from None
    return [item.item_id for item in answer.items]


def _describe(error: Any) -> str:
    """Return "CODE: details" of a failed call; grpc's exceptions are calls as well."""
    return f"{error.code().name}: {error.details()}"


class RecommendUser(locust.User):
    """Asks for recommendations, one call after the other, without pause."""

    wait_time = locust.constant(0)

    def on_start(self) -> None:
        """Open a channel that shares no connection, so replicas behind one address all get load."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(self.host or "", options=options)
        self._stub = service_pb2_grpc.RecommendServiceStub(self._channel)

    def on_stop(self) -> None:
        """Close the channel."""
        self._channel.close()

    @locust.task
    def recommend(self) -> None:
        """Make one call and report it to locust, successful or not."""
        environment: Any = self.environment
        options = environment.parsed_options
        request = service_pb2.RecommendRequest(
            num_items=options.num_items,
            beam_width=options.beam_width,
            speculation=SPECULATION[options.speculation],
        )
        environment.histories.fill(request)
        failure: Exception | None = None
        length = 0
        start = time.perf_counter()
        try:
            response = self._stub.Recommend(request, timeout=options.deadline_s)
            length = response.ByteSize()
            environment.answers.add(response, (time.perf_counter() - start) * 1000)
        except grpc.RpcError as error:
            failure = RuntimeError(_describe(error))
        environment.events.request.fire(
            request_type="grpc",
            name="Recommend",
            response_time=(time.perf_counter() - start) * 1000,
            response_length=length,
            exception=failure,
            context={},
        )


def _latency_ms(latencies: list[float]) -> dict[str, float]:
    """Return mean, percentiles (nearest rank) and maximum; locust's own are rounded to 10 ms."""
    if not latencies:
        return {}
    ordered = sorted(latencies)
    last = len(ordered) - 1
    quantiles = {name: ordered[round(share * last)] for name, share in PERCENTILES.items()}
    return {"mean": sum(ordered) / len(ordered), **quantiles, "max": ordered[-1]}


def write_report(environment: Environment, **_: Any) -> None:
    """Write the JSON report, when one was asked for."""
    options = environment.parsed_options
    answers: Answers | None = getattr(environment, "answers", None)
    if options is None or not options.report_file or answers is None:
        return
    total = environment.stats.total
    report = {
        "address": options.host,
        "users": options.num_users,
        "num_items": options.num_items,
        "beam_width": options.beam_width,
        "speculation": options.speculation,
        "history": options.users_file or f"synthetic, {options.history_length} events",
        "requests": total.num_requests,
        "failures": total.num_failures,
        "requests_per_s": total.total_rps,
        "latency_ms": _latency_ms(answers.latencies_ms),
        "errors": [
            {"error": str(entry.error), "count": entry.occurrences}
            for entry in environment.stats.errors.values()
        ],
        "answers": answers.report(),
    }
    Path(options.report_file).write_text(json.dumps(report, indent=2) + "\n", "utf-8")


# locust finds its listeners by importing this file.
locust.events.init_command_line_parser.add_listener(add_options)
locust.events.init.add_listener(prepare)
locust.events.quitting.add_listener(write_report)
