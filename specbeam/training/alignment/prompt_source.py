"""The prompts that a target teaches on: parts of train histories, varied at random."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from specbeam.bundle import PromptTemplate
from specbeam.training.alignment.prompts import by_length
from specbeam.training.augmentation import drop_some, jitter_order
from specbeam.training.batches import Batch, padded
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.vocabulary import BOS_TOKEN_ID
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.model import device_of, forward_logits

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

SAMPLED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Histories to cut prompts from, and how they are varied.

    Attributes:
        histories: item numbers of the dataset, oldest first, none of them empty.
        max_items: longest history, as in serving.
        drop: share of histories from which items are dropped.
        jitter: share of histories whose order is disturbed.
        seed: of everything random here.
    """

    histories: tuple[Int32Array, ...]
    max_items: int
    drop: float
    jitter: float
    seed: int

    def make(self, shard: int, count: int) -> list[Int64Array]:
        """Return the histories of one shard: random users, cut at random places, varied.

        Args:
            shard: number of the shard; the same one gets the same histories.
            count: how many.
        """
        rng = np.random.default_rng((self.seed, shard))
        users = rng.integers(len(self.histories), size=count)
        return [self._varied(self.histories[user], rng) for user in users]

    def _varied(self, history: Int32Array, rng: np.random.Generator) -> Int64Array:
        items = history[: rng.integers(1, len(history) + 1)].astype(np.int64)
        if rng.random() < self.drop:
            items = drop_some(items, rng)
        if rng.random() < self.jitter:
            items = jitter_order(items, rng)
        return items[-self.max_items :]

    def digest(self) -> str:
        """Return a hex digest of the histories."""
        found = hashlib.blake2b(digest_size=16)
        lengths = np.array([len(history) for history in self.histories], np.int64)
        found.update(lengths.tobytes())
        for history in self.histories:
            found.update(history.astype(np.int32).tobytes())
        return found.hexdigest()


def train_histories(dataset: Dataset, held_out: Sequence[int]) -> tuple[Int32Array, ...]:
    """Return the train histories of all users but some; empty ones are left out.

    Args:
        dataset: histories.
        held_out: user numbers.
    """
    without = set(held_out)
    return tuple(
        history
        for user, history in enumerate(dataset.histories("train"))
        if len(history) and user not in without
    )


def shows_codes_only(template: PromptTemplate) -> bool:
    """Say whether a prompt is BOS and the paths of the history, as `specbeam train` makes it.

    Then every item of a history is itself an answer to the items before it.
    """
    history = template.history
    plain = not template.suffix and not history.separator and not history.end_tokens
    return plain and template.prefix == (BOS_TOKEN_ID,)


def substitute_items(
    histories: Sequence[Int64Array],
    target: nn.Module,
    sampler: ItemSampler,
    dataset: Dataset,
    *,
    rate: float,
    seed: int,
) -> list[Int64Array]:
    """Replace some items by items that the target finds likely where they stand.

    Args:
        histories: item numbers of the dataset.
        target: in eval mode.
        sampler: of the catalogue.
        dataset: token paths.
        rate: share of items replaced.
        seed: of the samples; the global generator is left as it was.
    """
    replaced = list(histories)
    numbers = np.arange(len(dataset.items))
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for chosen in by_length([h.astype(np.int32) for h in histories], SAMPLED_AT_ONCE):
            batch = Batch(padded([histories[i] for i in chosen]), numbers, dataset.items.paths)
            tokens = torch.from_numpy(batch.tokens).to(device_of(target))
            logits = forward_logits(target, tokens, bf16=False)
            changed = sampler.substitute(batch, logits, rate).events
            for row, index in enumerate(chosen):
                replaced[index] = changed[row, : len(histories[index])]
    return replaced
