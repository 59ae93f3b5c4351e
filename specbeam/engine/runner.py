"""One model on one device: rows in, hidden states and logits out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from specbeam.decoding.upload import upload
from specbeam.engine.decoder import SlotRows, tree_mask
from specbeam.engine.graphs import GraphRecorder
from specbeam.engine.kv_pool import KvGeometry, KvPool
from specbeam.engine.meter import PassMeter
from specbeam.engine.static_decoder import StaticDecoder, run_at_once, slot_positions
from specbeam.engine.transformers_adapter import load_causal_lm, take_apart

_NO_ROWS = np.zeros(0, np.int64)
_NO_SEES = np.zeros((0, 0), bool)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How a model is run.

    Attributes:
        device: torch device name.
        dtype: fp32, bf16 or fp64.
        slots: KV slots, i.e. sessions open at the same time.
        max_prompt_tokens: longest prompt.
        max_rows: scratch rows of a slot; must hold the rows of one pass plus those kept from
            before.
        max_item_tokens: longest item, L; a catalogue's depth.
        graphs: whether passes over tree rows have fixed shapes: on CUDA graphs that are replayed,
            elsewhere the same kernel by kernel; "auto" = on CUDA only.
    """

    device: str = "cpu"
    dtype: str = "fp32"
    slots: int = 4
    max_prompt_tokens: int = 256
    max_rows: int = 512
    max_item_tokens: int = 64
    graphs: bool | str = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}, not one of {', '.join(DTYPES)}")
        if min(self.slots, self.max_prompt_tokens, self.max_rows, self.max_item_tokens) < 1:
            raise ValueError(f"slots, tokens and rows must be positive: {self}")
        if self.graphs not in (True, False, "auto"):
            raise ValueError(f"graphs is {self.graphs!r}, not True, False or 'auto'")


class ModelRunner:
    """A causal LM with preallocated KV slots.  All calls come from one thread.

    On CUDA the passes queue their work and return without waiting for it.

    Attributes:
        config: how the model is run.
        device: where.
        dtype: of weights and KV slots.
        hidden_size: width of a hidden state.
        vocab_size: V.
        head_weight: of the LM head, shape (V, hidden); None when it is not a plain linear layer.
        head_bias: of the LM head, shape (V,); None without one.
        meter: of the passes run.
        pool: the KV slots.
        static: passes of fixed shapes; None where they are not used.  May be taken away and put
            back between passes, as benchmarks do.
    """

    def __init__(self, model: PreTrainedModel, config: RunnerConfig) -> None:
        """Take `model` (already of the right dtype) apart and allocate the slots.

        Raises:
            UnsupportedModelError: the engine does not run its kind.
            ContextTooShortError: it cannot see a whole prompt and an item at once.
        """
        self.config = config
        self.device = torch.device(config.device)
        self.dtype = DTYPES[config.dtype]
        parts = take_apart(model, self.device, config.max_prompt_tokens, config.max_item_tokens)
        self._decoder, self._head, self.vocab_size = parts.decoder, parts.head, parts.vocab_size
        self.meter = PassMeter(self._decoder)
        self.head_weight: torch.Tensor | None = None
        self.head_bias: torch.Tensor | None = None
        if type(self._head) is nn.Linear:
            self.head_weight, self.head_bias = self._head.weight, self._head.bias
        shape = self._decoder.shape
        self.hidden_size = shape.hidden
        positions = config.max_prompt_tokens + config.max_rows
        graphs = config.graphs is True or (config.graphs == "auto" and self._on_cuda)
        positions = slot_positions(positions) if graphs else positions
        geometry = KvGeometry(shape.layers, shape.kv_heads, shape.head_dim, positions)
        self.pool = KvPool(config.slots, geometry, self.dtype, self.device)
        self.static = self._static_decoder() if graphs else None
        self._every_position = torch.arange(config.max_prompt_tokens, device=self.device)

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def _static_decoder(self) -> StaticDecoder:
        start = GraphRecorder(self.device) if self._on_cuda else run_at_once
        static = StaticDecoder(self._decoder, self.pool.data, self.config.max_rows, start)
        self.meter.watch(static)
        return static

    @classmethod
    def load(cls, directory: Path, config: RunnerConfig) -> ModelRunner:
        """Load a checkpoint directory; a LoRA adapter in its `adapter/` is merged.

        Raises:
            UnsupportedModelError: the engine does not run its kind, or that of its adapter.
            MissingExtraError: it has an adapter and peft is not installed.
            ContextTooShortError: it cannot see a whole prompt and an item at once.
            OSError: the checkpoint is missing or damaged.
        """
        return cls(load_causal_lm(directory, DTYPES[config.dtype]), config)

    @torch.inference_mode()
    def prefill(self, slot: int, prompt: np.ndarray, held: int = 0) -> torch.Tensor:
        """Run a prompt, or what follows the part of it that the slot holds.

        Args:
            slot: leased slot.
            prompt: vocabulary ids.  Shape (P,), 1 <= P <= max_prompt_tokens.
            held: leading tokens whose keys and values are in the slot already, below P.

        Returns:
            Hidden state after the last token; see `logits`.  Shape (1, hidden).
        """
        rows = len(prompt)
        if held:
            return self._go_on(slot, prompt, held, _NO_ROWS, _NO_ROWS, _NO_SEES)[-1:]
        place = SlotRows(self.pool.view(slot), 0, rows, None, rows)
        tokens = upload(np.asarray(prompt, np.int64), self.device)
        hidden: torch.Tensor = self._decoder(tokens, self._every_position[:rows], place)
        return hidden[-1:]

    @torch.inference_mode()
    def prefill_with_rows(
        self,
        slot: int,
        prompt: np.ndarray,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
        held: int = 0,
    ) -> torch.Tensor:
        """Run a prompt, or what follows the held part, and tree rows behind it in one pass.

        Args:
            slot: leased slot, without tree rows.
            prompt: vocabulary ids.  Shape (P,), 1 <= P <= max_prompt_tokens.
            tokens: vocabulary ids of the tree rows, at least one.  Shape (R,).
            positions: their position ids, as for `forward_rows`.  Shape (R,).
            sees: which tree rows each of them sees beside the prompt, itself included.
                Shape (R, R), bool.
            held: as for `prefill`.

        Returns:
            Hidden states after the prompt's last token and of every tree row; see `logits`.
            Shape (1 + R, hidden).

        Raises:
            ValueError: a position is too large.
        """
        self._check_positions(positions)
        if held:
            hidden = self._go_on(slot, prompt, held, tokens, positions, sees)
            return hidden[len(prompt) - held - 1 :]
        before, end = len(prompt), len(prompt) + len(tokens)
        every = np.concatenate([prompt, tokens]), np.concatenate([np.arange(before), positions])
        ids = upload(np.stack(every).astype(np.int64, copy=False), self.device)
        place = SlotRows(self.pool.view(slot), 0, end, self._mask(sees, before), before)
        rows: torch.Tensor = self._decoder(ids[0], ids[1], place)
        return rows[before - 1 :]

    def _go_on(
        self,
        slot: int,
        prompt: np.ndarray,
        held: int,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
    ) -> torch.Tensor:
        """Run the prompt's tail as a chain behind the held tokens, and tree rows below its end.

        Shape (P - held + R, hidden).
        """
        tail = len(prompt) - held
        rows = tail + len(tokens)
        chain = np.zeros((rows, rows), bool)
        chain[:tail, :tail] = np.tri(tail, dtype=bool)
        chain[tail:, :tail] = True
        chain[tail:, tail:] = sees
        every = np.concatenate([np.arange(held, len(prompt)), positions])
        ids = np.concatenate([prompt[held:], tokens])
        return self.forward_rows(slot, held, ids, every, chain)

    @torch.inference_mode()
    def forward_rows(
        self,
        slot: int,
        prompt_tokens: int,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
    ) -> torch.Tensor:
        """Run tree rows behind the prompt and the T tree rows the slot holds already.

        Args:
            slot: leased slot.
            prompt_tokens: P; every row sees the whole prompt.
            tokens: vocabulary ids.  Shape (R,).
            positions: position ids (by depth), below max_prompt_tokens + max_item_tokens.
                Shape (R,).
            sees: which tree rows each row sees, itself included.  Shape (R, T + R), bool.

        Returns:
            Hidden states of every row; see `logits`.  Shape (R, hidden).

        Raises:
            ValueError: a position is too large.
        """
        self._check_positions(positions)
        end = prompt_tokens + sees.shape[1]
        if self.static is not None and self.static.holds(len(tokens), end):
            rows: torch.Tensor = self.static(slot, prompt_tokens, tokens, positions, sees)
            return rows
        ids = upload(np.stack([tokens, positions]).astype(np.int64, copy=False), self.device)
        mask = self._mask(sees, prompt_tokens)
        place = SlotRows(self.pool.view(slot), end - len(tokens), end, mask)
        hidden: torch.Tensor = self._decoder(ids[0], ids[1], place)
        return hidden

    def _check_positions(self, positions: np.ndarray) -> None:
        if positions.max() >= self._decoder.positions:
            raise ValueError(
                f"position {positions.max()} is beyond the {self._decoder.positions} of prompt and"
                " item"
            )

    def _mask(self, sees: np.ndarray, prompt_tokens: int) -> torch.Tensor:
        seen, shape = upload(sees, self.device), self._decoder.shape
        return tree_mask(seen, prompt_tokens, shape.heads_per_group, self.dtype)

    @torch.inference_mode()
    def embed(self, tokens: np.ndarray) -> torch.Tensor:
        """Return the model's input embeddings of vocabulary ids.  Shape (n, hidden)."""
        embedded: torch.Tensor = self._decoder.embed(
            upload(np.asarray(tokens, np.int64), self.device)
        )
        return embedded

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the LM head.

        Args:
            hidden: states after the last norm.  Shape (R, hidden).

        Returns:
            Shape (R, V), at least fp32.
        """
        logits: torch.Tensor = self._head(hidden)
        self.meter.finish()
        return logits if logits.dtype == torch.float64 else logits.float()
