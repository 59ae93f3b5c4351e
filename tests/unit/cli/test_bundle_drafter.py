"""`specbeam bundle add-drafter` and `remove-drafter`, and what else must know of kinds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from draft_service.model import load_drafter
from specbeam.bundle import Bundle, load_bundle
from specbeam.bundle.rewriting import with_drafter, without_drafter
from specbeam.cli import exit_codes, serve
from specbeam.cli.bundle_drafter import KINDS, _builder
from specbeam.cli.main import run
from specbeam.decoding.beams import Beams
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.sources.cooccurrence import CooccurrenceDrafter
from specbeam.training.data.dataset import Dataset, Interactions, Items
from specbeam.training.data.dataset_files import write_dataset
from tests.bundles import tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(shutil.copytree(tiny_bundle().path, tmp_path / "own.bundle"))


@pytest.fixture
def dataset(tmp_path: Path, bundle: Bundle) -> Path:
    """Random histories of the bundle's items; no semantic IDs are needed."""
    rng, count = np.random.default_rng(0), bundle.trie.num_items
    ids = tuple(bundle.trie.item_id(item) for item in range(count))
    users, taken = 40, 12
    log = Interactions(
        user_ids=tuple(f"u{number}" for number in range(users)),
        user=np.repeat(np.arange(users, dtype=np.int32), taken),
        item=rng.integers(0, count, users * taken).astype(np.int32),
        time=np.arange(users * taken, dtype=np.int64),
        split=np.tile(np.array([0] * (taken - 2) + [1, 2], np.uint8), users),
    )
    nothing: tuple[tuple[str, ...], ...] = ((),) * count
    items = Items(
        item_ids=ids,
        paths=np.zeros((count, 0), np.int32),
        titles=ids,
        topics=nothing,
        popularity=np.zeros(count, np.int32),
        created_at=(None,) * count,
    )
    write_dataset(Dataset("own", (), items, log), tmp_path / "own.dataset")
    return tmp_path / "own.dataset"


def add(bundle: Bundle, dataset: Path, *arguments: str) -> int:
    options = ["--kind", "cooccurrence", "--dataset", str(dataset), *arguments]
    return run(["bundle", "add-drafter", str(bundle.path), *options])


def test_a_drafter_is_built_added_shown_and_verified(
    bundle: Bundle, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(bundle, dataset, "--json") == exit_codes.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["drafter"], told["kind"], told["events"]) == ("cooccurrence", "cooccurrence", 400)
    new = load_bundle(bundle.path)
    assert new.manifest.drafters == ("default", "cooccurrence")
    assert new.manifest.fingerprints == bundle.manifest.fingerprints
    report = json.loads((new.path / "report.json").read_text())
    assert report["drafters"]["cooccurrence"]["entries"] == told["entries"] > 0
    drafter = CooccurrenceDrafter.load(new)
    assert drafter is not None
    history = np.arange(new.trie.num_items)
    assert drafter.scorer(DraftQuestion(new.trie, Beams.root(), 5, history)) is not None
    path = str(bundle.path)
    assert run(["bundle", "show", path, "--json"]) == exit_codes.OK
    drafters = json.loads(capsys.readouterr().out)["drafters"]
    assert (drafters["default"]["kind"], drafters["default"]["layers"]) == ("model", 1)
    assert (drafters["cooccurrence"]["kind"], drafters["cooccurrence"]["window"]) == (
        "cooccurrence",
        5,
    )
    assert run(["bundle", "show", path]) == exit_codes.OK
    assert "cooccurrence" in capsys.readouterr().out
    assert run(["bundle", "verify", path, "--deep", "--dtype", "fp64"]) == exit_codes.OK
    captured = capsys.readouterr()
    assert captured.out.endswith("sound\n")
    assert "co-occurrence table read" in captured.err


def test_another_bundle_and_another_name(
    bundle: Bundle, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.bundle")
    assert add(bundle, dataset, "--out", out, "--name", "near") == exit_codes.OK
    assert load_bundle(bundle.path).manifest == bundle.manifest
    assert load_bundle(out).manifest.drafters == ("default", "near")
    capsys.readouterr()
    assert run(["bundle", "remove-drafter", out, "near", "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out) == {"bundle": out, "drafters": ["default"]}
    assert load_bundle(out).manifest.drafters == ("default",)
    assert run(["bundle", "remove-drafter", out, "near"]) == exit_codes.BAD_INPUT
    assert "no drafter 'near'; it has default" in capsys.readouterr().err


def test_what_cannot_be_added_is_told_before_anything_is_built(
    bundle: Bundle,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KINDS, "cooccurrence", "specbeam.nowhere:build")
    assert add(bundle, dataset, "--name", "default") == exit_codes.BAD_INPUT
    assert "'default' is the name of a drafter of kind 'model'" in capsys.readouterr().err
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").touch()
    assert add(bundle, dataset, "--out", str(tmp_path / "taken")) == exit_codes.BAD_INPUT
    assert "left alone" in capsys.readouterr().err
    assert run(["bundle", "add-drafter", str(bundle.path), "--kind", "x"]) == exit_codes.USAGE


def test_a_dataset_of_other_items_is_refused(
    bundle: Bundle, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = load_bundle(shutil.copytree(tiny_bundle(num_items=40).path, tmp_path / "other.bundle"))
    assert add(other, dataset) == exit_codes.BAD_INPUT
    assert "are not in the bundle" in capsys.readouterr().err
    assert load_bundle(other.path).manifest == other.manifest


def test_a_table_of_another_catalogue_is_found_by_verify(
    bundle: Bundle, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(bundle, dataset) == exit_codes.OK
    folder = load_bundle(bundle.path).drafter_dir("cooccurrence")
    wrong = with_drafter(tiny_bundle(num_items=40), tmp_path / "wrong", "near", folder)
    assert run(["bundle", "verify", str(wrong.path)]) == exit_codes.BAD_INPUT
    assert "drafters/near belongs to another catalogue" in capsys.readouterr().out


def test_unknown_kinds_are_listed_and_not_refused(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "drafter.json").write_text('{"kind": "crystal ball", "facets": 7}')
    with_drafter(bundle, bundle.path, "ball", folder)
    path = str(bundle.path)
    assert run(["bundle", "verify", path, "--deep", "--dtype", "fp64"]) == exit_codes.OK
    assert run(["bundle", "show", path, "--json"]) == exit_codes.OK
    out = capsys.readouterr().out
    ball = json.loads(out[out.index("{") :])["drafters"]["ball"]
    assert (ball["kind"], ball["facets"]) == ("crystal ball", 7)


def test_the_model_is_served_whatever_stands_before_it(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "drafter.json").write_text('{"kind": "counts"}')
    alone = without_drafter(bundle, tmp_path / "alone", "default")
    first = with_drafter(alone, tmp_path / "first", "counts", folder)
    both = with_drafter(first, tmp_path / "both", "default", bundle.drafter_dir("default"))
    assert both.manifest.drafters == ("counts", "default")
    loaded = load_drafter(
        both.path,
        drafter="default",
        device="cpu",
        dtype="fp64",
        slots=1,
        max_nodes=16,
        max_beam_width=5,
    )
    assert loaded.drafter == "default"
    assert serve._chosen("target,draft", both) == ("target", "draft")
    assert serve._chosen("target,draft", first) == ("target",)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_builder(kind: str) -> None:
    assert callable(_builder(kind))


@pytest.mark.parametrize("command", ["add-drafter", "remove-drafter"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", command, "--help"]) == exit_codes.OK
    text = capsys.readouterr().out
    assert "Example" in text
    assert max(len(line) for line in text.splitlines()) <= 100
