"""A CSV log with item texts and no semantic IDs becomes a served bundle, by the commands alone."""

import asyncio
import csv
import json
from pathlib import Path

import pytest

from specbeam.bundle import Bundle, load_bundle
from specbeam.cli import exit_codes
from specbeam.cli.main import run
from tests.stack import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def command(*arguments: str | Path) -> None:
    assert run([str(argument) for argument in arguments]) == exit_codes.OK


def make_log(folder: Path) -> None:
    """Write interactions.csv and items.csv of generated data; there are no codes in them."""
    command("data", "synthesize", folder / "made", "--items", "200", "--users", "80")
    command("data", "export", folder / "made", folder / "log")
    with (folder / "log" / "items.csv").open(newline="") as stream:
        items = list(csv.DictReader(stream))
    assert items[0]["title"] and not any("token" in name or "code" in name for name in items[0])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("chain")
    make_log(folder)
    log, dataset, target = folder / "log", folder / "shop.dataset", folder / "shop.bundle"
    command("data", "import", log / "interactions.csv", dataset, "--items", log / "items.csv")
    limits = ("--target-steps", "25", "--draft-steps", "15", "--threads", "1")
    assert run(["train", str(dataset), str(target), "--preset", "tiny"]) == exit_codes.BAD_INPUT
    command("data", "semantic-ids", dataset)
    command("train", dataset, target, "--preset", "tiny", *limits)
    command("evaluate", target, dataset, "--users", "5")
    return load_bundle(target)


async def ask(capsys: pytest.CaptureFixture[str], address: str, speculation: str) -> list[str]:
    arguments = ["recommend", "--address", address, "--json", "--speculation", speculation]
    items = ["--items", "item-00001,item-00005", "-k", "5"]
    assert await asyncio.to_thread(run, [*arguments, *items]) == exit_codes.OK
    lines = capsys.readouterr().out.splitlines()
    answer = json.loads("\n".join(line for line in lines if "[info" not in line))
    assert all(item["metadata"]["title"] for item in answer["items"])
    return [item["item_id"] for item in answer["items"]]


async def test_the_bundle_is_served(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle.manifest.score_kind == "TRIE"
    assert (bundle.path / "training.svg").read_text().startswith("<?xml")
    assert any(name.startswith("topic:") for name in bundle.trie.tag_names)
    async with running(bundle) as stack:
        address = f"127.0.0.1:{stack.orchestrator.port}"
        plain = await ask(capsys, address, "off")
        assert len(plain) == 5
        assert not set(plain) & {"item-00001", "item-00005"}
        assert await ask(capsys, address, "on") == plain
