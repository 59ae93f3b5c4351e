import numpy as np
import pytest
import torch
from torch import nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.coverage import VALIDATED_CELLS, Cell, CoverageJudge, cells_of
from specbeam.training.choices import TrainedScoreKind, make_tables
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import DraftObjective, ItemSampler
from specbeam.training.ranking import SearchConfig, beam_search
from specbeam.training.validation import ValidationSet
from tests.unit.training.alignment.models import slow_logprobs, some_prompts

KINDS: tuple[TrainedScoreKind, ...] = ("TRIE", "VOCAB")
LENGTHS = [2, 5, 2, 7, 1, 4]


def test_cells_are_all_pairs() -> None:
    assert cells_of((5, 10), (1, 4)) == (Cell(5, 5), Cell(5, 20), Cell(10, 10), Cell(10, 40))
    assert {cell.beams for cell in VALIDATED_CELLS} == {5, 10, 20}
    assert {cell.nodes // cell.beams for cell in VALIDATED_CELLS} == {2, 4}


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_drafts_for_itself_covers_everything(
    target: nn.Module, trie: ItemTrie, kind: TrainedScoreKind
) -> None:
    prompts = some_prompts(trie, LENGTHS)
    judge = CoverageJudge(target, trie, prompts, kind, cells_of((1, 5, 20), (1, 2)))
    found = judge.measure(target)
    assert all(values.all() for values in found.whole.values())
    assert judge.numbers(target, Devices())["score"] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_coverage_equals_a_slow_count(
    target: nn.Module, draft: nn.Module, trie: ItemTrie, kind: TrainedScoreKind
) -> None:
    prompts = some_prompts(trie, LENGTHS, seed=5)
    cells = cells_of((2, 5, 9), (1, 2, 3))
    found = CoverageJudge(target, trie, prompts, kind, cells).measure(draft)
    outcomes = set()
    for row, prompt in enumerate(prompts):
        tokens = torch.from_numpy(prompt).long()[None]
        for cell in cells:
            search = SearchConfig(cell.beams, 2, kind)
            first, second = beam_search(target, trie, tokens, search)
            scored = []
            pairs = zip(first.nodes[0].tolist(), first.scores[0].tolist(), strict=True)
            for node, score in pairs:
                begin = int(trie.levels[1].first_child_of(np.array([node]))[0])
                end = int(trie.levels[1].first_child_of(np.array([node + 1]))[0])
                step = slow_logprobs(draft, trie, prompt, 1, node, kind)[: end - begin]
                scored += [(score + s, begin + i) for i, s in enumerate(step)]
            drafted = {node for _, node in sorted(scored, reverse=True)[: cell.nodes]}
            hits = [node in drafted for node in second.nodes[0].tolist() if node >= 0]
            assert bool(found.whole[cell][row]) == all(hits)
            assert found.share[cell][row] == pytest.approx(np.mean(hits))
            outcomes.add(all(hits))
    assert outcomes == {True, False}


def test_the_cell_of_ten_beams_and_forty_nodes_is_the_draft_phases(
    target: nn.Module, draft: nn.Module, trie: ItemTrie, small_dataset: Dataset
) -> None:
    prompts = tuple(some_prompts(trie, LENGTHS * 4, seed=8))
    users = ValidationSet(prompts, (np.zeros(0, np.int32),) * len(prompts), (frozenset(),) * 24)
    objective = DraftObjective(
        draft,
        target,
        trie,
        make_tables("TRIE", trie, small_dataset),
        ItemSampler(trie, small_dataset),
        users,
        Devices(),
        substitute=0.0,
        score_kind="TRIE",
        bf16=False,
    )
    known = objective.validate()
    judge = CoverageJudge(target, trie, prompts, "TRIE", (Cell(10, 40),))
    found = judge.numbers(draft, Devices())
    assert found["coverage"] == found["10/40"] == pytest.approx(known["coverage"])
    assert found["node_share"] == pytest.approx(known["node_share"], abs=1e-6)
    assert 0.0 < found["node_share"] < 1.0


def test_without_prompts_there_is_nothing_to_judge(
    target: nn.Module, draft: nn.Module, trie: ItemTrie
) -> None:
    assert CoverageJudge(target, trie, [], "TRIE").numbers(draft, Devices()) == {}
