import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.training.batches import NO_EVENT, Batch
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.model import build_model
from specbeam.training.presets import ModelShape
from specbeam.training.ranking import SearchConfig, beam_search

SHAPE = ModelShape(32, 2, 2, 1, 16, 64)


def make_trie(dataset: Dataset) -> ItemTrie:
    items = dataset.items
    return ItemTrie.build(items.paths, items.item_ids, items.popularity)


@pytest.mark.parametrize("kind", ["TRIE", "VOCAB"])
def test_beam_search_scores_equal_whole_sequence_scores(
    small_dataset: Dataset, kind: TrainedScoreKind
) -> None:
    trie = make_trie(small_dataset)
    model = build_model(SHAPE, small_dataset.vocab_size, seed=0).eval()
    paths = small_dataset.items.paths
    prompt = np.concatenate([[1], paths[[4, 8]].reshape(-1)])
    prompts = torch.from_numpy(np.stack([prompt, prompt[::1]])).long()
    width = trie.num_leaves
    beams = beam_search(model, trie, prompts, SearchConfig(width, trie.depth, kind))[-1]
    assert sorted(beams.nodes[0].tolist()) == list(range(trie.num_leaves))
    leaf_paths = torch.from_numpy(trie.leaf_paths(beams.nodes[0].numpy())).long()
    whole = torch.cat([prompts[:1].expand(width, -1), leaf_paths], dim=1)
    with torch.inference_mode():
        logits = model(input_ids=whole).logits[:, prompts.shape[1] - 1 : -1]
    expected = torch.stack(
        [slow_score(trie, path, rows, kind) for path, rows in zip(leaf_paths, logits, strict=True)]
    )
    torch.testing.assert_close(beams.scores[0], expected, atol=1e-4, rtol=0)
    assert (beams.scores[0].diff() <= 0).all()


def slow_score(
    trie: ItemTrie, path: torch.Tensor, logits: torch.Tensor, kind: TrainedScoreKind
) -> torch.Tensor:
    """Score one path, whose logits have shape (L, V)."""
    every = trie.leaf_paths(np.arange(trie.num_leaves))
    score = torch.zeros(())
    for level, token in enumerate(path.tolist()):
        row = logits[level]
        if kind == "TRIE":
            allowed = (every[:, :level] == path[:level].numpy()).all(axis=1)
            children = torch.from_numpy(np.unique(every[allowed, level])).long()
            score = score + row[token] - row[children].logsumexp(0)
        else:
            score = score + torch.log_softmax(row, dim=-1)[token]
    return score


def test_substituted_batches_hold_catalogue_items_likely_to_the_target(
    small_dataset: Dataset,
) -> None:
    torch.manual_seed(0)
    trie = make_trie(small_dataset)
    paths = small_dataset.items.paths
    events = np.arange(18).reshape(6, 3)
    events[0, 1:] = NO_EVENT
    batch = Batch(events, np.arange(18), paths)
    logits = torch.zeros(6, 13, small_dataset.vocab_size)
    logits[..., paths[40, 0]] = 50.0  # the target is sure of the first code
    changed = ItemSampler(trie, small_dataset).substitute(batch, logits, rate=0.7)
    assert changed.tokens[0, 5:].tolist() == [0] * 8
    moved = changed.items != batch.items
    assert 0 < moved.sum() < len(moved)
    assert (paths[changed.items[moved], 0] == paths[40, 0]).all()
