"""The frozen target as a teacher: the states a head starts from, and those it should come near.

A pass over a sequence gives the state behind every item of a history, which is what serving has
when that item was the last one.  Items tried at the places of others are rows beside the sequence,
each of which sees the history before its place and its own codes: laws below several first codes
for the price of a few rows, and every history stays a real one.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from specbeam.bundle import Bundle
from specbeam.engine.transformers_adapter import body_of, load_causal_lm
from specbeam.training.batches import Batch


@dataclass(frozen=True, slots=True)
class Reading:
    """What the target made of a batch's sequences.

    Attributes:
        states: hidden state after the last norm at each token. Shape (B, T, hidden).
        cache: keys and values, as transformers keeps them.
    """

    states: Tensor
    cache: Any


class HeadTeacher:
    """A bundle's target, run over whole training sequences."""

    def __init__(self, bundle: Bundle, device: torch.device, *, bf16: bool) -> None:
        """Load and freeze the target.

        Args:
            bundle: whose target.
            device: where it runs.
            bf16: run matrix products of the target's body in bfloat16.

        Raises:
            UnsupportedModelError: the engine does not run its kind, or that of its adapter.
            MissingExtraError: it has an adapter and peft is not installed.
            OSError: the checkpoint is missing or damaged.
        """
        model = load_causal_lm(bundle.target_dir, torch.float32)
        frozen = cast(nn.Module, model).eval().requires_grad_(False).to(device)
        self._body, self._head = body_of(model), cast(Any, frozen).get_output_embeddings()
        self._embedding = cast(Any, frozen).get_input_embeddings()
        self._device, self._bf16 = device, bf16

    def read(self, batch: Batch) -> Reading:
        """Run a batch's sequences."""
        tokens = torch.from_numpy(batch.tokens).to(self._device)
        output = self._run(input_ids=tokens, use_cache=True)
        return Reading(output.last_hidden_state.float(), output.past_key_values)

    def branch(self, batch: Batch, reading: Reading, codes: Tensor) -> Tensor:
        """Run other codes at the places of a batch's items; uses up the reading's cache.

        Args:
            batch: R items.
            reading: of the batch.
            codes: first n codes of m items per place. Shape (R, m, n).

        Returns:
            State behind each code, given the history before the place. Shape (R, m, n, hidden).
        """
        row, column = (torch.from_numpy(part).to(self._device) for part in batch.places)
        size, places = batch.events.shape
        _, branches, length = codes.shape
        slots = codes.new_zeros((size, places, branches, length))
        slots[row, column] = codes
        positions, sees = branch_rows(
            places, branches, length, batch.paths.shape[1], reading.states.shape[1]
        )
        output = self._run(
            input_ids=slots.flatten(1),
            position_ids=positions.to(self._device).expand(size, -1),
            attention_mask=sees.to(self._device).expand(size, 1, -1, -1),
            past_key_values=reading.cache,
            use_cache=True,
        )
        return cast(Tensor, output.last_hidden_state.float().view(*slots.shape, -1)[row, column])

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> Tensor:
        """Return the input embeddings of token ids.  Shape (..., hidden)."""
        return cast(Tensor, self._embedding(tokens))

    def logits(self, states: Tensor) -> Tensor:
        """Apply the LM head; gradients reach the states.  Shape (..., V)."""
        return cast(Tensor, self._head(states))

    @torch.no_grad()
    def _run(self, **inputs: Any) -> Any:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            return self._body(**inputs)


def branch_rows(
    places: int, branches: int, length: int, depth: int, tokens: int
) -> tuple[Tensor, Tensor]:
    """Return where rows beside a sequence stand and what they see.

    Args:
        places: items in the sequence, S.
        branches: items tried at each place, m.
        length: codes of each, n.
        depth: tokens of an item, L; place s follows token s L.
        tokens: length of the sequence, T.

    Returns:
        Positions, shape (S m n,), and which of the sequence's tokens and the rows each row sees,
        shape (S m n, T + S m n), bool.
    """
    ranges = (torch.arange(places), torch.arange(branches), torch.arange(length))
    place, branch, code = (grid.flatten() for grid in torch.meshgrid(*ranges, indexing="ij"))
    root, path = place * depth, place * branches + branch
    history = torch.arange(tokens) <= root[:, None]
    own = (path[:, None] == path) & (code <= code[:, None])
    return root + 1 + code, torch.cat([history, own], dim=1)
