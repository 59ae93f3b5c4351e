"""Bundles with one drafter more or less: what changes, what does not, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from specbeam.bundle import Bundle, BundleError, BundleParts, load_bundle, write_bundle
from specbeam.bundle.rewriting import with_drafter, without_drafter
from tests.bundles import tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    shutil.copytree(tiny_bundle().path, tmp_path / "bundles" / "own")
    return load_bundle(tmp_path / "bundles" / "own")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return described(tmp_path / "table", "counts")


def described(folder: Path, kind: str, text: str = "1 2 3") -> Path:
    """A drafter of some kind that is no checkpoint."""
    (folder / "deep").mkdir(parents=True)
    (folder / "drafter.json").write_text(json.dumps({"kind": kind}))
    (folder / "deep" / "numbers.txt").write_text(text)
    return folder


def report_of(bundle: Bundle) -> dict[str, object]:
    found: dict[str, object] = json.loads((bundle.path / "report.json").read_text())
    return found


def names_beside(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_a_drafter_is_added_and_nothing_else_changes(
    bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    old, was = bundle.manifest, report_of(bundle)
    for number, place in enumerate((tmp_path / "elsewhere" / "new", bundle.path)):
        new = with_drafter(bundle, place, "extra", table, {"entries": number})
        loaded = load_bundle(place)
        assert new.manifest == loaded.manifest
        assert loaded.manifest.fingerprints == old.fingerprints
        assert loaded.manifest.drafters == ("default", "extra")
        assert loaded.template == bundle.template
        kept = {n: e for n, e in loaded.manifest.contents.items() if n in old.contents}
        changed = {n for n, entry in kept.items() if entry != old.contents[n]}
        assert (set(kept), changed) == (set(old.contents), {"report.json"})
        assert set(loaded.manifest.contents) - set(kept) == {
            "drafters/extra/drafter.json",
            "drafters/extra/deep/numbers.txt",
        }
        assert report_of(loaded) == {**was, "drafters": {"extra": {"entries": number}}}
        assert names_beside(place) == [place.name]


def test_the_source_stays_as_it_is_when_another_bundle_is_written(
    bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    new = with_drafter(bundle, tmp_path / "new", "extra", table)
    assert load_bundle(bundle.path).manifest == bundle.manifest
    # A copy, not links: editing one bundle does not damage the other.
    for name in new.manifest.contents:
        if name in bundle.manifest.contents:
            assert not (new.path / name).samefile(bundle.path / name), name


def test_a_drafter_that_is_removed_leaves_no_trace(bundle: Bundle, table: Path) -> None:
    manifest, report = bundle.manifest, report_of(bundle)
    added = with_drafter(bundle, bundle.path, "extra", table, {"entries": 3})
    removed = without_drafter(added, bundle.path, "extra")
    assert load_bundle(bundle.path).manifest == removed.manifest == manifest
    assert report_of(removed) == report
    assert not removed.drafter_dir("extra").exists()


def test_the_last_drafter_can_be_removed(bundle: Bundle) -> None:
    left = without_drafter(bundle, bundle.path, "default")
    assert left.manifest.drafters == ()
    assert left.model_drafters() == ()
    assert not any(name.startswith("drafters/") for name in left.manifest.contents)


def test_a_newer_drafter_of_the_same_name_takes_the_place_of_the_older(
    bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    first = with_drafter(bundle, bundle.path, "extra", table, {"entries": 3})
    with_third = with_drafter(first, bundle.path, "third", table)
    newer = described(tmp_path / "newer", "counts", "4 5 6")
    (newer / "deep" / "numbers.txt").rename(newer / "numbers.txt")
    second = with_drafter(with_third, bundle.path, "extra", newer)
    load_bundle(second.path)
    assert second.manifest.drafters == ("default", "extra", "third")
    assert (second.drafter_dir("extra") / "numbers.txt").read_text() == "4 5 6"
    assert not (second.drafter_dir("extra") / "deep").exists()
    # The older one's figures do not describe it.
    assert report_of(second) == report_of(bundle)


def test_a_checkpoint_without_a_description_is_a_model(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    shutil.copytree(bundle.drafter_dir("default"), source)
    (source / "drafter.json").unlink()
    (source / "optimizer.pt").write_text("not served")
    new = with_drafter(bundle, bundle.path, "other", source)
    assert load_bundle(new.path).model_drafters() == ("default", "other")
    assert not (new.drafter_dir("other") / "optimizer.pt").exists()
    assert with_drafter(new, new.path, "other", source).manifest == new.manifest


def test_kinds_are_told_apart(bundle: Bundle, table: Path) -> None:
    new = with_drafter(bundle, bundle.path, "extra", table)
    assert new.model_drafters() == ("default",)
    assert new.drafters_of("counts") == ("extra",)
    assert new.drafters_of("head") == ()
    (new.drafter_dir("extra") / "drafter.json").write_text("{}")
    with pytest.raises(BundleError, match=r"drafter\.json cannot be read"):
        new.model_drafters()


@pytest.mark.parametrize("name", ["../up", "", "a b", "a/b"])
def test_a_name_that_is_no_folder_is_refused(bundle: Bundle, table: Path, name: str) -> None:
    with pytest.raises(BundleError, match="cannot be called"):
        with_drafter(bundle, bundle.path, name, table)


def test_what_is_no_drafter_is_refused_and_nothing_written(
    bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="not a checkpoint"):
        with_drafter(bundle, bundle.path, "extra", tmp_path / "empty")
    with pytest.raises(BundleError, match="of kind 'model'"):
        with_drafter(bundle, bundle.path, "default", table)
    with pytest.raises(BundleError, match="no drafter 'extra'; it has default"):
        without_drafter(bundle, bundle.path, "extra")
    with pytest.raises(BundleError, match="left alone"):
        with_drafter(bundle, tmp_path, "extra", table)
    assert load_bundle(bundle.path).manifest == bundle.manifest
    assert names_beside(bundle.path) == ["own"]


def test_a_damaged_source_is_not_copied(bundle: Bundle, table: Path, tmp_path: Path) -> None:
    weights = bundle.target_dir / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    (bundle.path / "catalog.parquet").unlink()
    with pytest.raises(BundleError) as caught:
        with_drafter(bundle, tmp_path / "far" / "new", "extra", table)
    assert len(caught.value.problems) == 2
    assert list((tmp_path / "far").iterdir()) == []


@pytest.mark.parametrize("step", ["load_bundle", "put_in_place", "copy_files"])
def test_a_failure_leaves_the_bundle_as_it_was(
    bundle: Bundle, table: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(f"specbeam.bundle.rewriting.{step}", refuse)
    with pytest.raises(OSError, match="no space"):
        with_drafter(bundle, bundle.path, "extra", table)
    assert load_bundle(bundle.path).manifest == bundle.manifest
    assert names_beside(bundle.path) == ["own"]


def test_a_bundle_of_another_kind_of_drafter_can_be_written_anew(
    bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    parts = BundleParts(
        name="parts",
        trie=bundle.trie,
        template=bundle.template,
        vocab_size=bundle.manifest.vocab_size,
        target_dir=bundle.target_dir,
        levels=bundle.manifest.levels,
        drafters={"extra": table, "default": bundle.drafter_dir("default")},
    )
    new = write_bundle(tmp_path / "new", parts)
    assert load_bundle(new.path).model_drafters() == ("default",)
    assert (new.drafter_dir("extra") / "deep" / "numbers.txt").read_text() == "1 2 3"
