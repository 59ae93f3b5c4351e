"""Makers of teacher data for tests."""

from dataclasses import replace

from torch import nn

from specbeam.bundle import PromptTemplate
from specbeam.catalog import ItemTrie
from specbeam.training.alignment.prompt_source import PromptSource, train_histories
from specbeam.training.alignment.teacher_data import TeacherMaker
from specbeam.training.alignment.teacher_source import TeacherSource
from specbeam.training.alignment.tree_batches import TeacherPrompts
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset

TEMPLATE = PromptTemplate.of_codes((1,))


def make_maker(
    target: nn.Module,
    trie: ItemTrie,
    dataset: Dataset,
    kind: TrainedScoreKind = "TRIE",
    *,
    width: int = 5,
    substitute: float = 0.3,
) -> TeacherMaker:
    prompts = PromptSource(train_histories(dataset, []), 50, drop=0.5, jitter=0.5, seed=3)
    source = TeacherSource(
        target="t",
        catalog=trie.fingerprint,
        prompt=TEMPLATE.fingerprint,
        histories=prompts.digest(),
        score_kind=kind,
        width=width,
        shard_prompts=9,
        drop=0.5,
        jitter=0.5,
        substitute=substitute,
        seed=3,
    )
    return TeacherMaker(target, trie, TEMPLATE, dataset, prompts, source)


def make_prompts(
    target: nn.Module,
    trie: ItemTrie,
    dataset: Dataset,
    kind: TrainedScoreKind = "TRIE",
    *,
    width: int = 5,
) -> TeacherPrompts:
    maker = make_maker(target, trie, dataset, kind, width=width)
    return TeacherPrompts([maker.make(0), maker.make(1)], trie, TEMPLATE, kind)


def renamed(maker: TeacherMaker, **fields: object) -> TeacherMaker:
    return replace(maker, source=replace(maker.source, **fields))  # type: ignore[arg-type]
