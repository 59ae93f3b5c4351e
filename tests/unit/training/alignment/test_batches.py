from pathlib import Path

import numpy as np
from torch import nn

from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie
from specbeam.training.alignment.batches import AlignmentBatches
from specbeam.training.alignment.config import make_config
from specbeam.training.alignment.context import AlignmentContext, TeacherSettings
from specbeam.training.alignment.settings import most_held_out
from specbeam.training.alignment.tree_batches import TreeBatchMaker
from specbeam.training.batches import BatchMaker, Events
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.presets import PhaseConfig
from specbeam.training.progress import SilentReporter
from specbeam.training.validation import make_validation_set
from tests.unit.training.alignment.models import DRAFT
from tests.unit.training.alignment.teachers import make_prompts


def make_context(
    bundle: Bundle, dataset: Dataset, phase: PhaseConfig, seed: int
) -> AlignmentContext:
    return AlignmentContext(
        dataset=dataset,
        bundle=bundle,
        config=make_config("row-kl"),
        phase=phase,
        teacher=TeacherSettings(),
        teacher_dir=Path("unused"),
        start=None,
        draft_shape=DRAFT,
        seed=seed,
        bf16=False,
        work_dir=Path("unused"),
        devices=Devices(),
        reporter=SilentReporter(),
        should_stop=lambda: False,
        checkpoint_every_s=60.0,
    )


def test_validation_users_are_not_trained_on(bundle: Bundle, small_dataset: Dataset) -> None:
    phase = PhaseConfig(max_epochs=1, validation_users=5, drop=0.25)
    context = make_context(bundle, small_dataset, phase, seed=4)
    users = make_validation_set(small_dataset, bundle.trie, bundle.template, 5, 4)
    judged = {prompt.tobytes() for prompt in users.prompts}
    order = bundle.trie.index_of(small_dataset.items.item_ids)
    trained = {
        bundle.template.render(bundle.trie.paths(order[history])).tobytes()
        for history in context.prompts.histories
    }
    assert len(judged) == 5
    assert not judged & trained
    everybody = [h for h in small_dataset.histories("train") if len(h)]
    assert len(context.prompts.histories) == len(everybody) - 5
    assert (context.source.drop, context.source.seed) == (0.25, 4)


def test_few_users_are_mostly_trained_on(small_dataset: Dataset) -> None:
    assert most_held_out(small_dataset) == 6


def test_the_base_fills_up_the_batches_of_the_loss(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    events = Events.of(small_dataset.histories("train"))
    paths = small_dataset.items.paths

    def sequences(seed: int) -> BatchMaker:
        return BatchMaker(events, paths, 50, 150, drop=0.0, jitter=0.0, seed=seed)

    trees = TreeBatchMaker(make_prompts(target, trie, small_dataset), batch_tokens=60, seed=1)
    steps, few = len(trees.epoch(0)), len(sequences(1).epoch(0))
    both = AlignmentBatches(sequences(1), None, trees).epoch(0)
    assert len(both) == steps
    assert all(b.base and b.trees and not b.sequences for b in both)
    assert both[0].base is not None and both[0].trees is not None
    assert both[0].num_labels == both[0].base.num_labels + both[0].trees.num_labels
    swapped = AlignmentBatches(sequences(1), sequences(2), None).epoch(3)
    assert len(swapped) == len(sequences(2).epoch(3))
    alone = AlignmentBatches(sequences(1), None, None).epoch(0)
    assert len(alone) == few
    again = AlignmentBatches(sequences(1), None, None).epoch(0)
    pairs = zip(alone, again, strict=True)
    assert all(np.array_equal(a.base.events, b.base.events) for a, b in pairs if a.base and b.base)
