"""`specbeam serve` and `specbeam recommend` as a user runs them."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import run
from tests.bundles import item_facts, tiny_bundle
from tests.stack import running

pytestmark = pytest.mark.slow

# As a shell without job control starts background jobs.
IGNORING_SIGINT = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


async def _recommend(*arguments: str) -> int:
    return await asyncio.to_thread(run, ["recommend", *arguments])


def _printed(text: str) -> str:
    """Return what the command printed: the servers of this process log to stdout too."""
    return "\n".join(line for line in text.splitlines() if "[info" not in line)


async def test_recommend_prints_titles_and_what_it_took(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with running(tiny_bundle()) as stack:
        address = f"127.0.0.1:{stack.orchestrator.port}"
        items = "item-0001,item-0002"
        code = await _recommend(
            "--address", address, "--items", items, "-k", "3", "--speculation", "on"
        )
        text = capsys.readouterr().out
        assert code == exit_codes.OK
        assert text.count("Title of item-") == 3
        assert "passes" in text and "drafted nodes" in text

        assert await _recommend("--address", address, "--user", "new", "--json") == exit_codes.OK
        answer = json.loads(_printed(capsys.readouterr().out))
        assert answer["degraded"] == ["empty_history"] and len(answer["items"]) == 10

        batch = tmp_path / "batch.txt"
        good = ["ann", '{"items": ["item-0001"]}', '{"items": ["nowhere"]}']
        bad = ["{broken", '{"items": "item-0001"}', '{"user_id": 3}', '{"itms": []}', "", "bob"]
        batch.write_text("\n".join(good + bad))
        code = await _recommend("--address", address, "--batch", str(batch), "--json")
        captured = capsys.readouterr()
        assert code == exit_codes.FAILURE
        lines = _printed(captured.out).splitlines()
        assert [json.loads(line)["line"] for line in lines] == [1, 2, 9]
        assert {len(json.loads(line)["items"]) for line in lines} == {10}
        told = [line for line in captured.err.splitlines() if "batch.txt, line " in line]
        assert [int(line.split("line ")[1].split(":")[0]) for line in told] == [3, 4, 5, 6, 7]

        assert await _recommend("--address", address, "--items", "no") == exit_codes.BAD_INPUT
    assert await _recommend("--address", "127.0.0.1:9", "--user", "a") == exit_codes.UNAVAILABLE


async def test_recommend_takes_filters(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = tiny_bundle(facts=True)
    facts = {item.item_id: item for item in item_facts(bundle)}
    campaign = tmp_path / "campaign.txt"
    campaign.write_text("\n".join(list(facts)[:150]))
    async with running(bundle) as stack:
        asked = ("--address", f"127.0.0.1:{stack.orchestrator.port}", "--json")
        tags = ("--require-tag", "half", "--require-tag", "third|quarter")
        listed = ("--allow-file", str(campaign), "--exclude", "item-0001")
        code = await _recommend(*asked, *tags, *listed, "--created-after", "2023-11-20")
        answer = json.loads(_printed(capsys.readouterr().out))
        assert code == exit_codes.OK
        assert answer["items"]
        for item in answer["items"]:
            found = facts[item["item_id"]]
            assert "half" in found.tags and found.tags & {"third", "quarter"}
            assert found.created_at_ms is not None and found.created_at_ms >= 1_700_438_400_000
            assert item["item_id"] in list(facts)[:150] and item["item_id"] != "item-0001"
        assert answer["filter"] == {
            "exclude_history": None,
            "exclude_item_ids": ["item-0001"],
            "allow_item_ids": list(facts)[:150],
            "required_tags": [["half"], ["third", "quarter"]],
            "created_after_ms": 1_700_438_400_000,
        }
        assert await _recommend(*asked, "--require-tag", "nope") == exit_codes.BAD_INPUT
        assert "the catalogue has no tag 'nope'" in capsys.readouterr().err
        assert await _recommend(*asked, "--created-after", "soon") == exit_codes.USAGE


@pytest.mark.parametrize("how", [(), ("--processes",)], ids=["one process", "processes"])
async def test_serve_starts_everything_and_stops_cleanly(
    how: tuple[str, ...], tmp_path: Path
) -> None:
    ports = ("--port", "0", "--target-port", "0", "--draft-port", "0")
    process = await asyncio.create_subprocess_exec(
        *IGNORING_SIGINT,
        *(sys.executable, "-c", "from specbeam.cli.main import main; main()"),
        *("serve", str(tiny_bundle().path), *ports, "--data-dir", str(tmp_path), "--json", *how),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"SPECBEAM_TARGET_WARM_UP_S": "0", "SPECBEAM_DRAFT_WARM_UP_S": "0"},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        lines = []
        async with asyncio.timeout(90):
            while not lines or lines[-1] != b"}\n":
                lines.append(await process.stdout.readline())
                assert lines[-1], "ended before it was ready"
        addresses = json.loads(b"".join(lines))["addresses"]
        assert set(addresses) == {"target", "draft", "orchestrator"}
        code = await _recommend("--address", addresses["orchestrator"], "--items", "item-0001")
        assert code == exit_codes.OK
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
        assert process.returncode == exit_codes.OK, errors.decode()
        assert "ready; Ctrl-C stops" in errors.decode()
        code = await _recommend("--address", addresses["orchestrator"], "--items", "item-0001")
        assert code == exit_codes.UNAVAILABLE
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
