"""Bundles: round trip, every kind of damage, another format."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from specbeam.bundle import (
    Bundle,
    BundleError,
    BundleParts,
    LevelTokens,
    load_bundle,
    write_bundle,
)
from tests.bundles import tiny_bundle


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle().path, tmp_path / "bundle")
    return tmp_path / "bundle"


def parts_of(bundle: Bundle, **changes: object) -> BundleParts:
    manifest = bundle.manifest
    parts = BundleParts(
        name=manifest.name,
        trie=bundle.trie,
        template=bundle.template,
        vocab_size=manifest.vocab_size,
        target_dir=bundle.target_dir,
        levels=manifest.levels,
    )
    return dataclasses.replace(parts, **changes)  # type: ignore[arg-type]


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
        {"levels": [{"name": "a", "ranges": [[3, 12]]}]},
        {"levels": [{"name": "a", "ranges": [[9, 2], [3, 2]]}]},
        {"levels": [{"name": name, "ranges": [[3, 12]]} for name in "abcd"]},
        {"default_beam_width": 0},
    ],
)
def test_wrong_manifest_is_refused(copy: Path, change: dict[str, object]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(BundleError):
        load_bundle(copy)


def test_a_bundle_of_format_1_tells_how_to_repack_it(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest |= {"format": 1, "levels": [{"name": "a", "token_offset": 3, "size": 12}]}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as caught:
        load_bundle(copy)
    (problem,) = caught.value.problems
    assert f"specbeam bundle pack NEW --target {copy}/target" in problem
    assert f"--drafter default={copy}/drafters/default" in problem


def test_a_directory_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    with pytest.raises(BundleError, match="left alone"):
        write_bundle(tmp_path, parts_of(tiny_bundle()))
    assert (tmp_path / "precious").read_text() == "keep me"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_could_not_be_loaded_is_not_written(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    parts = parts_of(bundle, levels=bundle.manifest.levels[:1] * bundle.trie.depth)
    with pytest.raises(BundleError, match="its codebook has not got"):
        write_bundle(tmp_path / "new", parts)
    assert list(tmp_path.iterdir()) == []


def test_every_missing_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    parts = parts_of(
        tiny_bundle(),
        target_dir=tmp_path / "gone",
        drafters={"small": tmp_path / "gone too"},
        adapter_dir=tmp_path / "adapter",
    )
    with pytest.raises(BundleError) as caught:
        write_bundle(tmp_path / "new", parts)
    assert len(caught.value.problems) == 3


def test_adapter_and_tokenizer_are_copied_and_digested(tmp_path: Path) -> None:
    adapter, tokenizer = tmp_path / "lora", tmp_path / "tokenizer"
    for folder in (adapter, tokenizer):
        folder.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (adapter / "README.md").write_text("not part of the adapter")
    (tokenizer / "tokenizer.json").write_text("{}")
    original = tiny_bundle()
    parts = parts_of(original, adapter_dir=adapter, tokenizer_dir=tokenizer)
    bundle = write_bundle(tmp_path / "first", parts)
    assert bundle.adapter_dir == tmp_path / "first/target/adapter"
    assert bundle.tokenizer_dir == tmp_path / "first/tokenizer"
    extra = {name for name in bundle.manifest.contents if "adapter" in name or "tokenizer" in name}
    assert extra == {
        "target/adapter/adapter_config.json",
        "target/adapter/adapter_model.safetensors",
        "tokenizer/tokenizer.json",
    }
    assert bundle.manifest.fingerprints.model != original.manifest.fingerprints.model
    # A target that is packed again brings its adapter along.
    again = write_bundle(tmp_path / "second", parts_of(bundle))
    assert again.manifest.fingerprints.model == bundle.manifest.fingerprints.model
    _flip(again.path / "target/adapter/adapter_config.json")
    with pytest.raises(BundleError, match=r"target/adapter/adapter_config\.json does not match"):
        load_bundle(again.path)


def test_a_drafter_keeps_its_kind(tmp_path: Path) -> None:
    original = tiny_bundle()
    drafter = tmp_path / "drafter"
    shutil.copytree(original.drafter_dir("default"), drafter)
    (drafter / "drafter.json").write_text('{"kind": "other"}')
    bundle = write_bundle(tmp_path / "new", parts_of(original, drafters={"d": drafter}))
    assert json.loads((bundle.drafter_dir("d") / "drafter.json").read_text())["kind"] == "other"


def test_progress_ends_with_all_bytes(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    write_bundle(tmp_path / "new", parts_of(tiny_bundle()), lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2] > 0
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_a_codebook_is_a_union_of_runs() -> None:
    level = LevelTokens.of_tokens("a", [9, 3, 4, 5, 11, 10, 3])
    assert level.ranges == ((3, 3), (9, 3))
    assert level.token_ids().tolist() == [3, 4, 5, 9, 10, 11]
    assert level.size == 6
    for ranges in [(), ((3, 0),), ((3, 2), (4, 1)), ((-1, 2),)]:
        with pytest.raises(ValueError, match="level a"):
            LevelTokens("a", ranges)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
