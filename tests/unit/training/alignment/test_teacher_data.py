import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.prompt_source import (
    PromptSource,
    shows_codes_only,
    substitute_items,
    train_histories,
)
from specbeam.training.alignment.teacher_data import ensure_teacher_data, num_shards
from specbeam.training.alignment.teacher_shards import (
    TeacherDataError,
    TeacherShard,
    read_shard,
    shard_path,
    write_shard,
)
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.loop import StopRequested
from specbeam.training.progress import SilentReporter
from specbeam.training.ranking import SearchConfig, beam_search
from tests.unit.training.alignment.models import slow_logprobs
from tests.unit.training.alignment.teachers import TEMPLATE, make_maker, renamed

KINDS: tuple[TrainedScoreKind, ...] = ("TRIE", "VOCAB")


def arrays_of(shard: TeacherShard) -> list[np.ndarray]:
    values = [getattr(shard, field.name) for field in dataclasses.fields(shard)]
    return [a for value in values for a in (value if isinstance(value, tuple) else (value,))]


def same(one: TeacherShard, two: TeacherShard) -> bool:
    pairs = zip(arrays_of(one), arrays_of(two), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [3, 20])
def test_a_shard_holds_what_slow_forwards_say(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset, kind: TrainedScoreKind, width: int
) -> None:
    shard = make_maker(target, trie, small_dataset, kind, width=width).make(2)
    assert len(shard) == 9
    for row in range(0, len(shard), 4):
        items = shard.items[shard.item_begin[row] : shard.item_begin[row + 1]]
        prompt = TEMPLATE.render(trie.paths(items))
        search = SearchConfig(width, trie.depth, kind)
        beams = beam_search(target, trie, torch.from_numpy(prompt).long()[None], search)
        expected, above = [], [0]
        for level in range(trie.depth):
            expected += [slow_logprobs(target, trie, prompt, level, n, kind) for n in above]
            above = [n for n in beams[level].nodes[0].tolist() if n >= 0]
            kept = shard.beams[level][row]
            assert kept[kept >= 0].tolist() == above
            assert len(kept) == min(width, trie.levels[level + 1].num_nodes)
            np.testing.assert_allclose(
                shard.scores[level][row][: len(above)],
                beams[level].scores[0][: len(above)].numpy(),
                atol=1e-4,
            )
        begin, end = shard.logprob_begin[row : row + 2]
        np.testing.assert_allclose(
            shard.logprobs[begin:end].astype(np.float64),
            np.concatenate(expected),
            atol=2e-3,
            rtol=2e-3,
        )


def test_a_shard_depends_on_its_number_and_the_seed_alone(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    maker = make_maker(target, trie, small_dataset)
    first = maker.make(4)
    torch.manual_seed(77)
    state = torch.get_rng_state()
    assert same(first, make_maker(target, trie, small_dataset).make(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(first, maker.make(5))
    assert not same(first, renamed(maker, seed=4).make(4))


def test_prompts_are_varied_parts_of_train_histories(small_dataset: Dataset) -> None:
    histories = train_histories(small_dataset, [2, 5])
    every = small_dataset.histories("train")
    assert len(histories) == sum(len(h) > 0 for h in every) - 2
    plain = PromptSource(histories, max_items=50, drop=0.0, jitter=0.0, seed=1)
    beginnings = {tuple(h[:n]) for h in histories for n in range(1, len(h) + 1)}
    made = plain.make(0, 300)
    assert {tuple(h) for h in made} <= beginnings
    assert len({len(h) for h in made}) > 3
    dropped = dataclasses.replace(plain, drop=1.0).make(0, 300)
    assert sum(map(len, dropped)) < 0.9 * sum(map(len, made))
    assert all(len(h) for h in dropped)
    moved = dataclasses.replace(plain, jitter=1.0).make(0, 300)
    assert any(tuple(h) not in beginnings for h in moved)
    assert all(len(h) <= 2 for h in dataclasses.replace(plain, max_items=2).make(0, 50))
    assert plain.digest() != dataclasses.replace(plain, histories=histories[1:]).digest()


def test_items_are_replaced_by_what_the_target_finds_likely(
    target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    histories = [h.astype(np.int64) for h in train_histories(small_dataset, [])]
    sampler = ItemSampler(trie, small_dataset)

    def replaced(rate: float) -> list[np.ndarray]:
        return substitute_items(histories, target, sampler, small_dataset, rate=rate, seed=1)

    assert all(np.array_equal(a, b) for a, b in zip(replaced(0.0), histories, strict=True))
    pairs = list(zip(replaced(0.5), histories, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    moved = sum(int((a != b).sum()) for a, b in pairs) / sum(len(a) for a, _ in pairs)
    assert 0.3 < moved < 0.6


def test_shards_survive_the_disk(
    tmp_path: Path, target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    maker = make_maker(target, trie, small_dataset)
    shard = maker.make(1)
    write_shard(tmp_path, 1, shard, maker.source)
    assert same(read_shard(tmp_path, 1, maker.source), shard)
    assert [path.name for path in tmp_path.iterdir()] == ["00001.safetensors"]


def test_a_shard_that_is_not_finished_is_not_there(
    tmp_path: Path,
    target: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = make_maker(target, trie, small_dataset)
    there: list[bool] = []

    def interrupted(source: Path, path: Path) -> None:
        there.append(Path(path).exists())
        raise OSError("disk full")

    monkeypatch.setattr("specbeam.training.alignment.teacher_shards.os.replace", interrupted)
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path, 0, maker.make(0), maker.source)
    assert there == [False]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [("target", "u"), ("catalog", "c"), ("score_kind", "VOCAB"), ("width", 6), ("seed", 4)],
)
def test_shards_of_something_else_are_refused(
    tmp_path: Path,
    target: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    field: str,
    value: object,
) -> None:
    maker = make_maker(target, trie, small_dataset)
    write_shard(tmp_path, 0, maker.make(0), maker.source)
    with pytest.raises(TeacherDataError, match=f"made with another {field}$"):
        read_shard(tmp_path, 0, renamed(maker, **{field: value}).source)


def test_damaged_missing_and_misplaced_shards_are_refused(
    tmp_path: Path, target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    maker = make_maker(target, trie, small_dataset)
    write_shard(tmp_path, 0, maker.make(0), maker.source)
    path = shard_path(tmp_path, 0)
    whole = path.read_bytes()
    shard_path(tmp_path, 1).write_bytes(whole)
    with pytest.raises(TeacherDataError, match="is shard 0, not 1"):
        read_shard(tmp_path, 1, maker.source)
    with pytest.raises(TeacherDataError, match="remove it"):
        read_shard(tmp_path, 2, maker.source)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TeacherDataError, match="does not match its digest"):
        read_shard(tmp_path, 0, maker.source)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TeacherDataError, match="cannot be read"):
        read_shard(tmp_path, 0, maker.source)


def test_a_finished_shard_is_never_made_again(
    tmp_path: Path,
    target: nn.Module,
    trie: ItemTrie,
    small_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = make_maker(target, trie, small_dataset)
    first = ensure_teacher_data(tmp_path, maker, 2, Devices(), SilentReporter())
    assert (first["prompts"], first["prompts_made"]) == (18, 18)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert first["bytes_per_prompt"] == pytest.approx(size / 18, abs=0.1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    made: list[int] = []
    original = type(maker).make
    monkeypatch.setattr(type(maker), "make", lambda self, i: made.append(i) or original(self, i))
    more = ensure_teacher_data(tmp_path, maker, 3, Devices(), SilentReporter())
    assert (more["prompts"], more["prompts_made"], made) == (27, 9, [2])
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert num_shards(27, 9) == 3 and num_shards(28, 9) == 4


def test_a_request_to_stop_leaves_whole_shards(
    tmp_path: Path, target: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    answers = iter([False, True])
    maker = dataclasses.replace(
        make_maker(target, trie, small_dataset), should_stop=lambda: next(answers)
    )
    with pytest.raises(StopRequested):
        ensure_teacher_data(tmp_path, maker, 2, Devices(), SilentReporter())
    assert [path.name for path in tmp_path.iterdir()] == ["00000.safetensors"]


def test_only_prompts_of_codes_alone_are_sequences_of_answers() -> None:
    template = type(TEMPLATE)
    assert shows_codes_only(TEMPLATE)
    assert not shows_codes_only(template.of_codes((1,), (2,)))
    assert not shows_codes_only(template.of_codes((2,)))
    history = dataclasses.replace(TEMPLATE.history, separator=(9,))
    assert not shows_codes_only(dataclasses.replace(TEMPLATE, history=history))
