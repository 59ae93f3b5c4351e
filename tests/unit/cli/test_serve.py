"""What `specbeam serve` says when it cannot start; nothing is loaded here but the bundle."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import run
from tests.bundles import tiny_bundle


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def _serve(bundle: Path, *arguments: str) -> int:
    alone = ("--services", "orchestrator", "--target-address", "127.0.0.1:9")
    return run(["serve", str(bundle), *alone, *arguments])


def test_port_in_use_is_one_line(taken_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle().path
    capfd.readouterr()  # what making it printed
    code = _serve(bundle, "--store", "memory:", "--port", str(taken_port))
    said = capfd.readouterr().err.splitlines()
    assert code == exit_codes.UNAVAILABLE
    assert said[-1].startswith(f"Error: cannot listen on 127.0.0.1:{taken_port}: ")
    assert len(said) == 2


def test_data_directory_that_cannot_be_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code = _serve(tiny_bundle().path, "--data-dir", str(tmp_path / "file" / "data"))
    assert code == exit_codes.BAD_INPUT
    assert "cannot hold histories: Not a directory" in capfd.readouterr().err


def test_damaged_catalogue_is_not_served(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle().path, damaged)
    data = bytearray((damaged / "catalog.idx").read_bytes())
    data[-1] ^= 1
    (damaged / "catalog.idx").write_bytes(bytes(data))
    assert _serve(damaged, "--store", "memory:", "--port", "0") == exit_codes.BAD_INPUT
    said = capfd.readouterr().err
    assert f"{damaged}: catalog.idx does not match its digest" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "wrong",
    [("--port", "99999"), ("--draft-port", "-1"), ("--threads", "-3"), ("--store", "ftp://x")],
)
def test_wrong_option_is_noticed_before_anything_is_loaded(
    wrong: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", str(tiny_bundle().path), *wrong]) in {
        exit_codes.USAGE,
        exit_codes.BAD_INPUT,
    }
    said = capfd.readouterr().err
    assert "ready" not in said
    assert "pydantic" not in said
