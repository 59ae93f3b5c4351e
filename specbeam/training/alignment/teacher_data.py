"""Making teacher data: the target's beam search over many prompts, shard by shard.

A shard that is there is never made again, so that a killed run goes on where it stood, and one
directory serves any number of runs with different losses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from specbeam.bundle import PromptTemplate
from specbeam.catalog import ItemTrie
from specbeam.training.alignment.candidates import candidates_of
from specbeam.training.alignment.prompt_source import PromptSource, substitute_items
from specbeam.training.alignment.prompts import by_length, pad_left
from specbeam.training.alignment.teacher_shards import TeacherShard, shard_path, write_shard
from specbeam.training.alignment.teacher_source import TeacherSource
from specbeam.training.alignment.tree_search import SearchStep, tree_search
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.evaluation.stages import Stage
from specbeam.training.loop import StopRequested
from specbeam.training.progress import Reporter
from specbeam.training.ranking import SearchConfig

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

PROMPTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class TeacherMaker:
    """Makes shards.

    Attributes:
        target: in eval mode.
        trie: the bundle's catalogue.
        template: the bundle's.
        dataset: item numbers and token paths.
        prompts: makes histories.
        source: what the shards are made from.
        should_stop: asked between batches.
    """

    target: nn.Module
    trie: ItemTrie
    template: PromptTemplate
    dataset: Dataset
    prompts: PromptSource
    source: TeacherSource
    should_stop: Callable[[], bool] = lambda: False

    def make(self, index: int) -> TeacherShard:
        """Return one shard.

        Raises:
            StopRequested: `should_stop` said so; nothing was written.
        """
        items = self._items(index)
        prompts = [self.template.render(self.trie.paths(some)) for some in items]
        found: list[_Found | None] = [None] * len(prompts)
        for chosen in by_length(prompts, PROMPTS_AT_ONCE):
            if self.should_stop():
                raise StopRequested
            searched = self._search([prompts[i] for i in chosen])
            for row, number in enumerate(chosen):
                found[number] = searched[row]
        return _shard(items, [one for one in found if one is not None])

    def _items(self, index: int) -> list[Int32Array]:
        """Return the histories of a shard, as the trie numbers items."""
        source = self.source
        histories = self.prompts.make(index, source.shard_prompts)
        if source.substitute > 0.0:
            sampler = ItemSampler(self.trie, self.dataset)
            seed = int(np.random.SeedSequence((source.seed, index)).generate_state(1)[0])
            histories = substitute_items(
                histories, self.target, sampler, self.dataset, rate=source.substitute, seed=seed
            )
        order = self.trie.index_of(self.dataset.items.item_ids)
        return [order[history].astype(np.int32) for history in histories]

    def _search(self, prompts: Sequence[Int32Array]) -> list["_Found"]:
        search = SearchConfig(self.source.width, self.trie.depth, self.source.score_kind)
        found = [_Found() for _ in prompts]
        for step in tree_search(self.target, self.trie, pad_left(prompts), search):
            width = min(search.width, self.trie.levels[step.level + 1].num_nodes)
            self._record(step, width, found)
        return found

    def _record(self, step: SearchStep, width: int, found: Sequence["_Found"]) -> None:
        """Keep what a level of the search said and found, prompt by prompt."""
        nodes = step.beams.nodes.numpy()
        candidates = candidates_of(self.trie, step.level, nodes, self.source.score_kind)
        logprobs = candidates.logprobs(step.logprobs.cpu()).numpy().astype(np.float16)
        exists = candidates.exists.numpy()
        beams = _widened(step.found.nodes.numpy(), width, -1).astype(np.int32)
        scores = _widened(step.found.scores.numpy(), width, -np.inf).astype(np.float32)
        for row, one in enumerate(found):
            one.logprobs.append(logprobs[row][exists[row]])
            one.beams.append(beams[row])
            one.scores.append(scores[row])


class _Found:
    """What was found for one prompt, level by level."""

    def __init__(self) -> None:
        self.logprobs: list[npt.NDArray[np.float16]] = []
        self.beams: list[Int32Array] = []
        self.scores: list[npt.NDArray[np.float32]] = []


def _shard(items: Sequence[Int32Array], found: Sequence[_Found]) -> TeacherShard:
    levels = range(len(found[0].beams))
    logprobs = [np.concatenate(one.logprobs) for one in found]
    return TeacherShard(
        items=np.concatenate(items),
        item_begin=np.cumsum([0, *map(len, items)], dtype=np.int64),
        beams=tuple(np.stack([one.beams[level] for one in found]) for level in levels),
        scores=tuple(np.stack([one.scores[level] for one in found]) for level in levels),
        logprobs=np.concatenate(logprobs),
        logprob_begin=np.cumsum([0, *map(len, logprobs)], dtype=np.int64),
    )


def _widened(rows: np.ndarray, width: int, filling: float) -> np.ndarray:
    """Return rows of `width` columns; the catalogue alone says how many beams a shard has."""
    missing = width - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, missing)), constant_values=filling)


def num_shards(num_prompts: int, shard_prompts: int) -> int:
    """Return the shards that hold at least `num_prompts` prompts."""
    return -(-num_prompts // shard_prompts)


def ensure_teacher_data(
    directory: Path, maker: TeacherMaker, count: int, devices: Devices, reporter: Reporter
) -> dict[str, Any]:
    """Make the shards that are missing; every process makes its share.

    Args:
        directory: where; made if it is not there.
        maker: makes shards.
        count: shards in all.
        devices: this process and the others.
        reporter: told about progress.

    Returns:
        What a report says about them.

    Raises:
        StopRequested: the maker was asked to stop; finished shards stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(count) if not shard_path(directory, i).is_file()]
    missing = list(devices.broadcast(missing))
    own = missing[devices.rank :: devices.size]
    stage = Stage(reporter, "teacher data")
    for done, index in enumerate(own):
        stage.update(done / len(own), f"shard {done:,} of {len(own):,}")
        write_shard(directory, index, maker.make(index), maker.source)
    devices.wait()
    prompts = count * maker.source.shard_prompts
    size = sum(shard_path(directory, i).stat().st_size for i in range(count))
    made = len(missing) * maker.source.shard_prompts
    reporter.note(f"teacher data: {prompts:,} prompts, {made:,} of them made now")
    return {
        "prompts": prompts,
        "prompts_made": made,
        "seconds": round(stage.seconds, 1),
        "bytes_per_prompt": round(size / prompts, 1),
    }
