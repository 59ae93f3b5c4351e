"""The services of one bundle as child processes, supervised."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from specbeam.cli.local_services import ALL, Note, ServePlan

MODULES = {"target": "target_service", "draft": "draft_service", "orchestrator": "orchestrator"}
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.2


class ChildFailed(ConnectionError):
    """A child process ended by itself or never became ready."""


@dataclass(slots=True)
class ChildServices:
    """Children by service, in the order of start."""

    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def start(self, plan: ServePlan, note: Note, others: dict[str, str], log_level: str) -> None:
        """Start the plan's services and wait until each is ready.

        Raises:
            ChildFailed: One ended, or was not ready in time.
        """
        chosen = [service for service in ALL if service in plan.services]
        models = [service for service in chosen if service != "orchestrator"]
        for service in models:
            self._launch(plan, service, others, log_level)
        for service in models:
            self._wait_until_ready(service, note)
        if "orchestrator" in chosen:
            self._launch(plan, "orchestrator", others, log_level)
            self._wait_until_ready("orchestrator", note)

    def _launch(
        self, plan: ServePlan, service: str, others: dict[str, str], log_level: str
    ) -> None:
        port = plan.ports.get(service) or _free_port(plan.host)
        settings = plan.settings_of(service, others | self.addresses)
        settings |= {"port": str(port), "log_level": log_level, "drain_delay_s": "0"}
        self._children[service] = _spawn(service, settings)
        self.addresses[service] = plan.address(port)

    def wait(self) -> None:
        """Wait until a child ends by itself.

        Raises:
            ChildFailed: Always, when that happens.
        """
        while True:
            self._check()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop every child, the orchestrator first; none survives, however often Ctrl-C comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()

    def _check(self) -> None:
        for service, child in self._children.items():
            if child.poll() is not None:
                raise ChildFailed(f"the {service} process ended with status {child.returncode}")

    def _wait_until_ready(self, service: str, note: Note) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with grpc.insecure_channel(self.addresses[service]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                self._check()
                if _is_serving(stub):
                    pid = self._children[service].pid
                    note(f"{service:<13}{self.addresses[service]:<22}ready (process {pid})")
                    return
                time.sleep(POLL_S)
        raise ChildFailed(f"the {service} process was not ready in {START_TIMEOUT_S:.0f} s")


def _is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2.0)  # type: ignore[attr-defined]
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _spawn(service: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    # Variables, not flags: the store's URL may hold a password.
    prefix = f"SPECBEAM_{service.upper()}_"
    environment = {prefix + name.upper(): value for name, value in settings.items()}
    # A session of its own: Ctrl-C reaches the parent only, which stops the children in order.
    return subprocess.Popen(
        [sys.executable, "-m", "specbeam.cli.child_process", str(os.getpid()), MODULES[service]],
        env=os.environ | environment,
        start_new_session=True,
    )


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
