"""Bundles: round trip, every kind of damage, the prompt window."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from specbeam.bundle import BundleError, PromptTemplate, Window, load_bundle, write_bundle
from tests.bundles import tiny_bundle


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle().path, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_loaded_bundle_is_what_was_written(copy: Path) -> None:
    bundle, original = load_bundle(copy), tiny_bundle()
    assert bundle.manifest == original.manifest
    assert bundle.trie.fingerprint == original.trie.fingerprint
    assert bundle.template == original.template


@pytest.mark.parametrize(
    "name", ["manifest.json", "prompt.json", "catalog.idx", "target/config.json"]
)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name.rpartition("/")[2]):
        load_bundle(copy)


@pytest.mark.parametrize("name", ["prompt.json", "catalog.idx", "target/model.safetensors"])
def test_one_flipped_byte_is_noticed(copy: Path, name: str) -> None:
    _flip(copy / name)
    with pytest.raises(BundleError, match="digest"):
        load_bundle(copy)


def test_checkpoints_may_be_left_to_the_services_that_open_them(copy: Path) -> None:
    _flip(copy / "target/model.safetensors")
    _flip(copy / "drafters/default/model.safetensors")
    load_bundle(copy, checkpoints=False)
    _flip(copy / "catalog.parquet")
    with pytest.raises(BundleError, match=r"^catalog\.parquet does not match its digest"):
        load_bundle(copy, checkpoints=False)


def test_every_file_is_readable_by_whoever_serves_it() -> None:
    files = [file for file in tiny_bundle().path.rglob("*") if file.is_file()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~_umask()}


def test_all_problems_are_listed(copy: Path) -> None:
    (copy / "catalog.idx").unlink()
    (copy / "prompt.json").write_text("{}")
    with pytest.raises(BundleError) as caught:
        load_bundle(copy)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"score_kind": "OTHER"},
        {"fingerprints": {}},
        {"item_length": 7},
        {"vocab_size": 4},
    ],
)
def test_wrong_manifest_is_refused(copy: Path, change: dict[str, object]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(BundleError):
        load_bundle(copy)


def test_a_directory_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    bundle = tiny_bundle()
    with pytest.raises(BundleError, match="left alone"):
        write_bundle(
            tmp_path,
            name="x",
            trie=bundle.trie,
            template=bundle.template,
            levels=bundle.manifest.levels,
            vocab_size=bundle.manifest.vocab_size,
            target_dir=bundle.target_dir,
        )
    assert (tmp_path / "precious").read_text() == "keep me"
    assert len(list(tmp_path.iterdir())) == 1


def test_window_moves_once_per_stride() -> None:
    window = Window(max_items=50, stride=10)
    starts = [window.start(length) for length in range(120)]
    assert starts[:51] == [0] * 51
    assert all(length - start <= 50 for length, start in enumerate(starts))
    assert all(length - start > 40 for length, start in enumerate(starts) if length > 50)
    assert {b - a for a, b in pairwise(starts)} == {0, 10}
    with pytest.raises(ValueError, match="stride"):
        Window(max_items=5, stride=6)


def test_prompt_starts_with_bos_and_keeps_its_prefix() -> None:
    template = PromptTemplate(prefix=(1,), suffix=(7,))
    paths = np.arange(12).reshape(3, 4) + 3
    assert template.render(paths[:0]).tolist() == [1, 7]
    shorter, longer = template.render(paths[:2]), template.render(paths)
    assert longer[: len(shorter) - 1].tolist() == shorter[:-1].tolist()
    assert PromptTemplate.from_json(template.to_json()) == template
    assert PromptTemplate().fingerprint != template.fingerprint


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
