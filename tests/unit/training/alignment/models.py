"""Small random models and a bundle with them, for the tests of alignment."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from specbeam.bundle import Bundle, BundleParts, LevelTokens, PromptTemplate, write_bundle
from specbeam.catalog import ItemTrie
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.model import build_model, save_model
from specbeam.training.presets import ModelShape

TARGET = ModelShape(32, 2, 2, 1, 16, 64)
DRAFT = ModelShape(32, 1, 2, 1, 16, 32)
# Fresh weights say almost the same about every token; these have opinions.
SHARPER = 6.0


def make_model(shape: ModelShape, dataset: Dataset, seed: int) -> nn.Module:
    model = build_model(shape, dataset.vocab_size, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(SHARPER)
    return model.eval()


def make_trie(dataset: Dataset) -> ItemTrie:
    items = dataset.items
    return ItemTrie.build(items.paths, items.item_ids, items.popularity, tags=items.tag_rows())


def make_bundle(
    folder: Path,
    dataset: Dataset,
    kind: TrainedScoreKind = "TRIE",
    *,
    seed: int = 0,
    drafter: bool = True,
    template: PromptTemplate | None = None,
) -> Bundle:
    save_model(make_model(TARGET, dataset, seed), folder / "target")
    save_model(make_model(DRAFT, dataset, seed + 100), folder / "draft")
    parts = BundleParts(
        name="small",
        trie=make_trie(dataset),
        template=template or PromptTemplate.of_codes((1,)),
        vocab_size=dataset.vocab_size,
        target_dir=folder / "target",
        levels=tuple(LevelTokens(lv.name, ((lv.token_offset, lv.size),)) for lv in dataset.levels),
        drafters={"default": folder / "draft"} if drafter else {},
        report={"training": {"steps": 3}},
        default_beam_width=7,
        score_kind=kind,
    )
    return write_bundle(folder / "small.bundle", parts)


def some_prompts(trie: ItemTrie, lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    """Return prompts of random items."""
    rng = np.random.default_rng(seed)
    template = PromptTemplate.of_codes((1,))
    return [template.render(trie.paths(rng.integers(trie.num_items, size=n))) for n in lengths]


def slow_logprobs(
    model: nn.Module, trie: ItemTrie, prompt: np.ndarray, level: int, node: int, kind: str
) -> np.ndarray:
    """Return log-probabilities over a node's children (and all else), by a whole forward."""
    path = trie.node_paths(level, np.array([node]))[0]
    tokens = torch.from_numpy(np.concatenate([prompt, path])).long()[None]
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[0, -1].double()
    every = trie.leaf_paths(np.arange(trie.num_leaves))
    below = (every[:, :level] == path).all(axis=1)
    children = torch.from_numpy(np.unique(every[below, level])).long()
    if kind == "TRIE":
        return torch.log_softmax(logits[children], dim=0).numpy()
    probabilities = torch.softmax(logits, dim=0)
    rest = 1.0 - probabilities[children].sum()
    return torch.cat([probabilities[children], rest[None]]).log().numpy()
