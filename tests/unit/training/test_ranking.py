import numpy as np
import torch

from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import Dataset
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.model import build_model
from specbeam.training.presets import ModelShape
from specbeam.training.ranking import beam_search

SHAPE = ModelShape(32, 2, 2, 1, 16, 64)


def make_trie(dataset: Dataset) -> ItemTrie:
    items = dataset.items
    return ItemTrie.build(items.paths, items.item_ids, items.popularity)


def test_beam_search_scores_equal_whole_sequence_scores(small_dataset: Dataset) -> None:
    trie = make_trie(small_dataset)
    model = build_model(SHAPE, small_dataset.vocab_size, seed=0).eval()
    paths = small_dataset.items.paths
    prompt = np.concatenate([[1], paths[[4, 8]].reshape(-1)])
    prompts = torch.from_numpy(np.stack([prompt, prompt[::1]])).long()
    width = trie.num_leaves
    beams = beam_search(model, trie, prompts, width, trie.depth, bf16=False)[-1]
    assert sorted(beams.nodes[0].tolist()) == list(range(trie.num_leaves))
    leaf_paths = torch.from_numpy(trie.leaf_paths(beams.nodes[0].numpy())).long()
    whole = torch.cat([prompts[:1].expand(width, -1), leaf_paths], dim=1)
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(input_ids=whole).logits, dim=-1)
    start = prompts.shape[1]
    expected = logprobs[:, start - 1 : -1].gather(2, leaf_paths[..., None]).sum(dim=(1, 2))
    torch.testing.assert_close(beams.scores[0], expected, atol=1e-4, rtol=0)
    assert (beams.scores[0].diff() <= 0).all()


def test_substituted_sequences_hold_catalogue_items_only(small_dataset: Dataset) -> None:
    torch.manual_seed(0)
    trie = make_trie(small_dataset)
    paths = torch.from_numpy(small_dataset.items.paths).long()
    tokens = torch.cat([torch.ones(6, 1, dtype=torch.long), paths[:18].reshape(6, 12)], dim=1)
    tokens[0, 5:] = 0
    logits = torch.zeros(*tokens.shape, small_dataset.vocab_size)
    changed = ItemSampler(trie).substitute(tokens, logits, rate=0.7)
    assert changed[0, 5:].tolist() == [0] * 8
    assert (changed != tokens).any()
    known = {tuple(path) for path in paths.tolist()}
    for row in changed.tolist():
        for begin in range(1, 13, 4):
            assert tuple(row[begin : begin + 4]) in known | {(0, 0, 0, 0)}
