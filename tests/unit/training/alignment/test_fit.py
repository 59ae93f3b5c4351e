import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from specbeam.bundle import Bundle, PromptTemplate
from specbeam.training.alignment.bundle_update import check_copyable
from specbeam.training.alignment.config import make_config
from specbeam.training.alignment.fit import (
    check_drafter_name,
    check_fit,
    make_draft,
    start_drafter,
)
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.presets import get_preset
from tests.unit.training.alignment.models import make_bundle

SOME = make_config("row-kl")


def with_manifest(bundle: Bundle, **fields: object) -> Bundle:
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, **fields))


def test_bundle_and_dataset_of_the_same_items_fit(bundle: Bundle, small_dataset: Dataset) -> None:
    check_fit(bundle, small_dataset, SOME)


def test_other_items_and_other_semantic_ids_are_refused(
    bundle: Bundle, small_dataset: Dataset
) -> None:
    items = small_dataset.items
    renamed = dataclasses.replace(items, item_ids=("strange", *items.item_ids[1:]))
    with pytest.raises(TrainingError, match="have different items"):
        check_fit(bundle, dataclasses.replace(small_dataset, items=renamed), SOME)
    paths = np.concatenate([items.paths[1:], items.paths[:1]])
    moved = dataclasses.replace(items, paths=paths)
    with pytest.raises(TrainingError, match="different semantic IDs"):
        check_fit(bundle, dataclasses.replace(small_dataset, items=moved), SOME)


def test_a_bundle_without_a_target_is_refused(
    tmp_path: Path, bundle: Bundle, small_dataset: Dataset
) -> None:
    copy = dataclasses.replace(bundle, path=shutil.copytree(bundle.path, tmp_path / "copy"))
    shutil.rmtree(copy.target_dir)
    with pytest.raises(TrainingError, match="has no target"):
        check_fit(copy, small_dataset, SOME)


def test_scores_that_nothing_is_trained_with_are_refused(
    bundle: Bundle, small_dataset: Dataset
) -> None:
    with pytest.raises(TrainingError, match="scores by LEVEL; drafts are aligned for TRIE and V"):
        check_fit(with_manifest(bundle, score_kind="LEVEL"), small_dataset, SOME)


def test_prompts_with_more_than_codes_teach_by_their_beams_alone(
    tmp_path: Path, small_dataset: Dataset
) -> None:
    template = PromptTemplate.of_codes((1,), (2,))
    bundle = make_bundle(tmp_path, small_dataset, template=template)
    check_fit(bundle, small_dataset, make_config("row-kl", alpha=1.0))
    for refused in (make_config("row-kl"), make_config("distillation"), make_config("ce")):
        with pytest.raises(TrainingError, match="alpha 1"):
            check_fit(bundle, small_dataset, refused)


def test_the_drafter_to_start_from_is_found(
    tmp_path: Path, bundle: Bundle, small_dataset: Dataset
) -> None:
    assert start_drafter(bundle, None) == start_drafter(bundle, "default") == "default"
    assert start_drafter(bundle, "scratch") is None
    with pytest.raises(TrainingError, match=r"no drafter 'other'.*default, scratch"):
        start_drafter(bundle, "other")
    without = make_bundle(tmp_path, small_dataset, drafter=False)
    assert start_drafter(without, None) is None
    with pytest.raises(TrainingError, match="there are scratch"):
        start_drafter(without, "default")


def test_a_drafter_that_is_no_model_is_no_start(tmp_path: Path, bundle: Bundle) -> None:
    copy = dataclasses.replace(bundle, path=shutil.copytree(bundle.path, tmp_path / "copy"))
    (copy.drafter_dir("default") / "drafter.json").write_text('{"kind": "head"}')
    with pytest.raises(TrainingError, match="of kind 'head'"):
        start_drafter(copy, None)


def test_new_weights_have_the_presets_shape(bundle: Bundle) -> None:
    shape = get_preset("tiny").draft
    one, two, other = (make_draft(bundle, None, shape, seed=s) for s in (1, 1, 2))
    states = [model.state_dict()["model.norm.weight"].shape for model in (one, two, other)]
    assert states == [(shape.hidden_size,)] * 3
    first, second, third = (next(m.parameters()).detach() for m in (one, two, other))
    assert first.equal(second) and not first.equal(third)
    assert len(first) == bundle.manifest.vocab_size


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "scratch"])
def test_names_that_are_no_folders_are_refused(name: str) -> None:
    with pytest.raises(TrainingError, match="cannot be the name"):
        check_drafter_name(name)
    check_drafter_name("aligned-2")


def test_parts_that_would_be_lost_are_named(bundle: Bundle) -> None:
    check_copyable(bundle)
    contents = {**bundle.manifest.contents, "latent/memory.bin": (1, "0")}
    with pytest.raises(TrainingError, match="would be lost: latent"):
        check_copyable(with_manifest(bundle, contents=contents))
