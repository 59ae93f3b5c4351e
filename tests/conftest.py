"""Fixtures shared by all tests: thread limits and a real Redis server."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# No test may ask the network for a model; one thread per pytest worker.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

_REDIS_START_TIMEOUT_S = 10.0


def _find_redis_server() -> str | None:
    bundled = Path(sys.executable).parent / "redis-server"
    return str(bundled) if bundled.exists() else shutil.which("redis-server")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_answering(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _REDIS_START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"redis-server ended with status {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.01)
    pytest.fail("redis-server did not answer in time")


@pytest.fixture(scope="session")
def redis_binary() -> str:
    """Path of a redis-server; skips without one unless SPECBEAM_REQUIRE_REDIS is set."""
    binary = _find_redis_server()
    if binary is None:
        if os.environ.get("SPECBEAM_REQUIRE_REDIS"):
            pytest.fail("SPECBEAM_REQUIRE_REDIS is set and no redis-server was found")
        pytest.skip("no redis-server binary")
    return binary


@pytest.fixture(scope="session")
def redis_url(redis_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a private, memory-only redis-server shared by the tests of one worker."""
    port = _free_port()
    command = [redis_binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--appendonly", "no", "--dir", str(tmp_path_factory.mktemp("redis"))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_answering(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=10)
