"""`specbeam explain` and `specbeam recommend --stream` as a user runs them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import run
from tests.bundles import tiny_bundle
from tests.stack import running

ITEMS = "item-0001,item-0002"


def _printed(text: str) -> str:
    """Return what the command printed: the servers of this process log to stdout too."""
    return "\n".join(line for line in text.splitlines() if "[info" not in line)


@pytest.fixture(scope="module")
async def address() -> AsyncIterator[str]:
    async with running(tiny_bundle()) as stack:
        yield f"127.0.0.1:{stack.orchestrator.port}"


async def _run(*arguments: str) -> int:
    return await asyncio.to_thread(run, list(arguments))


async def test_page_and_picture(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, picture = tmp_path / "deep" / "page.html", tmp_path / "tree.svg"
    asked = ("explain", "--address", address, "--items", ITEMS, "-k", "4")
    assert await _run(*asked, "--out", str(page)) == exit_codes.OK
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and "Title of item-" in text
    assert "inline history" in text and "Where the time went" in text
    assert await _run(*asked, "--out", str(picture), "--max-rows", "12") == exit_codes.OK
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert os.listdir(page.parent) == ["page.html"]
    assert "page.html written" in capsys.readouterr().err


async def test_json_is_the_answer_with_its_details(
    address: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("explain", "--address", address, "--user", "nobody", "--json")
    assert await _run(*asked) == exit_codes.OK
    answer = json.loads(_printed(capsys.readouterr().out))
    assert answer["debug"]["rounds"][0]["nodes"] and len(answer["items"]) == 10
    assert not os.listdir(tmp_path)


async def test_what_cannot_be_drawn(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert await _run("explain", "--address", address) == exit_codes.USAGE
    wrong = ("--user", "a", "--out", str(tmp_path / "x.png"))
    assert await _run("explain", "--address", address, *wrong) == exit_codes.USAGE
    assert await _run("explain", "--address", address, "--items", "no") == exit_codes.BAD_INPUT
    gone = ("explain", "--address", "127.0.0.1:9", "--user", "a")
    assert await _run(*gone) == exit_codes.UNAVAILABLE
    assert "Traceback" not in capsys.readouterr().err


async def test_server_that_forbids_details(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "x.html"
    async with running(tiny_bundle(), allow_debug=False) as stack:
        address = f"127.0.0.1:{stack.orchestrator.port}"
        code = await _run("explain", "--address", address, "--user", "a", "--out", str(out))
    assert code == exit_codes.FAILURE
    assert "ALLOW_DEBUG" in capsys.readouterr().err and not out.exists()


async def test_stream_is_told_as_it_comes(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("recommend", "--address", address, "--items", ITEMS, "-k", "3", "--stream")
    assert await _run(*asked) == exit_codes.OK
    text = _printed(capsys.readouterr().out)
    places = [text.index(part) for part in ("level 1", "guesses", "level 2", "level 3", "answer")]
    assert places == sorted(places)
    assert text.count("Title of item-") >= 3
    assert await _run(*asked, "--json") == exit_codes.OK
    events = [json.loads(line) for line in _printed(capsys.readouterr().out).splitlines()]
    assert [event["event"] for event in events] == ["preview", "level", "level", "answer"]
    assert len(events[-1]["items"]) == 3 and events[0]["beams"][0]["num_items"] > 0
    batch = tmp_path / "users.txt"
    batch.write_text("ann")
    both = ("recommend", "--address", address, "--batch", str(batch), "--stream")
    assert await _run(*both) == exit_codes.USAGE
