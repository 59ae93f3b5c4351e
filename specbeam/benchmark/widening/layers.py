"""The tensors of a widened Llama, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from specbeam.benchmark.widening.noise import Noise
from specbeam.benchmark.widening.plan import FREE, GATE, LayerMap, WideningPlan

Named = tuple[str, torch.Tensor]


class WideTensors:
    """Makes tensors of the large model from those of the small one.

    At any time it holds the small model and a few tensors of the large one.
    """

    def __init__(
        self, plan: WideningPlan, weights: Mapping[str, torch.Tensor], gate: str, device: str
    ) -> None:
        """Bring the small model to the device.

        Args:
            plan: what goes where.
            weights: of the small model by name, all of one type.
            gate: kind of gates; see `Noise`.
            device: where the tensors are made.
        """
        self.plan = plan
        self.device = torch.device(device)
        self._weights = {name: tensor.to(self.device) for name, tensor in weights.items()}
        self.dtype = self._weights["model.embed_tokens.weight"].dtype
        self._gate = gate
        residual, fit = plan.residual, plan.fit
        self._used = self._index(residual.used)
        self._source = self._index(residual.source[residual.used])
        self._sign = self._values(residual.sign[residual.used])
        self._share = self._values(residual.share[residual.used])
        # The mean of squares runs over unused dims too.
        self._rho = math.sqrt(fit.copies * plan.small.hidden / plan.large.hidden)
        self._head_scale = math.sqrt(fit.head_factor)

    @property
    def tied(self) -> bool:
        """Whether the LM head is the embedding."""
        return "lm_head.weight" not in self._weights

    def count(self) -> int:
        """Return how many tensors there are."""
        return 9 * self.plan.large.layers + (2 if self.tied else 3)

    def __iter__(self) -> Iterator[Named]:
        """Yield every tensor with its name, layer by layer."""
        yield from self._ends()
        for place, source in enumerate(self.plan.layers):
            noise = self._noise(place + 1)
            tensors = self._dead(noise) if source == FREE else self._live(place, source, noise)
            for name, tensor in tensors:
                yield f"model.layers.{place}.{name}.weight", tensor

    def _noise(self, stream: int) -> Noise:
        return Noise(self._gate, self.plan.seed * 1000 + stream, self.device, self.dtype)

    def _ends(self) -> Iterator[Named]:
        noise = self._noise(0)
        embedding = self._weights["model.embed_tokens.weight"]
        every_token = np.arange(len(embedding))
        wide = self._write(embedding.T, every_token, noise).T.contiguous()
        yield "model.embed_tokens.weight", wide
        gain = self._weights["model.norm.weight"]
        # A tied head adds up n copies where an untied one reads shares that sum up to one.
        yield (
            "model.norm.weight",
            self._gain(gain / (self.plan.fit.copies if self.tied else 1), noise),
        )
        if not self.tied:
            head = self._weights["lm_head.weight"]
            yield "lm_head.weight", self._read(head, every_token, noise)

    def _live(self, place: int, source: int, noise: Noise) -> Iterator[Named]:
        """One layer that does what a small layer does."""
        rows, old = self.plan.layer_map(place), _Layer(self._weights, source)
        yield "input_layernorm", self._gain(old["input_layernorm"], noise)
        query = self._read(old["self_attn.q_proj"], rows.queries, noise)
        # Scores are divided by the root of a larger head dim.
        query[self._index(np.flatnonzero(rows.queries >= 0))] *= self._head_scale
        yield "self_attn.q_proj", query
        yield from self._rest_of_live(rows, old, noise)

    def _rest_of_live(self, rows: LayerMap, old: _Layer, noise: Noise) -> Iterator[Named]:
        yield "self_attn.k_proj", self._read(old["self_attn.k_proj"], rows.keys, noise)
        yield "self_attn.v_proj", self._read(old["self_attn.v_proj"], rows.values, noise)
        yield "self_attn.o_proj", self._write(old["self_attn.o_proj"], rows.attended, noise)
        yield "post_attention_layernorm", self._gain(old["post_attention_layernorm"], noise)
        yield "mlp.gate_proj", self._read(old["mlp.gate_proj"], rows.neurons, noise)
        yield "mlp.up_proj", self._read(old["mlp.up_proj"], rows.neurons, noise)
        yield "mlp.down_proj", self._write(old["mlp.down_proj"], rows.neurons, noise)

    def _dead(self, noise: Noise) -> Iterator[Named]:
        """One layer that adds nothing: noise everywhere, gates where it writes."""
        large, old = self.plan.large, _Layer(self._weights, 0)
        heads, kv_heads = large.heads * large.head_dim, large.kv_heads * large.head_dim
        for name, size in (
            ("self_attn.q_proj", heads),
            ("self_attn.k_proj", kv_heads),
            ("self_attn.v_proj", kv_heads),
            ("self_attn.o_proj", heads),
            ("mlp.gate_proj", large.intermediate),
            ("mlp.up_proj", large.intermediate),
            ("mlp.down_proj", large.intermediate),
        ):
            nothing = np.full(size, FREE)
            writes = name.endswith(("o_proj", "down_proj"))
            fill = self._write if writes else self._read
            yield name, fill(old[name], nothing, noise)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield name, noise.like(old[name], large.hidden)

    def _read(self, old: torch.Tensor, rows: np.ndarray, noise: Noise) -> torch.Tensor:
        """Widen a matrix that reads the residual stream.

        Args:
            old: shape (out, h).
            rows: what each new row carries.  Shape (out',).
            noise: for the rest.

        Returns:
            Shape (out', h').
        """
        plan, spread = self.plan, float(old.std())
        # So spread that what a free row gives is as large as what a live one gives.
        spread_of_rows = spread * math.sqrt(plan.small.hidden / plan.large.hidden)
        new = noise.free((len(rows), plan.large.hidden), spread_of_rows)
        shut = self._index(np.flatnonzero(rows == GATE))
        new[shut] = noise.gate((len(shut), plan.large.hidden), spread)
        live = np.flatnonzero(rows >= 0)
        carried = old[self._index(rows[live])][:, self._source] * (self._sign * self._share)
        new[self._index(live)[:, None], self._used] = carried
        return new

    def _write(self, old: torch.Tensor, columns: np.ndarray, noise: Noise) -> torch.Tensor:
        """Widen a matrix that writes to the residual stream: all but the live part is a gate.

        Args:
            old: shape (h, in).
            columns: what each new column carries.  Shape (in',).
            noise: for the rest.

        Returns:
            Shape (h', in').
        """
        new = noise.gate((self.plan.large.hidden, len(columns)), float(old.std()))
        live = np.flatnonzero(columns >= 0)
        carried = old[self._source][:, self._index(columns[live])] * self._sign[:, None]
        new[self._used[:, None], self._index(live)] = carried
        return new

    def _gain(self, old: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Widen the weight of a norm; unused dims hold (next to) nothing, so any value will do."""
        new = noise.like(old, self.plan.large.hidden)
        new[self._used] = old[self._source] * self._rho
        return new

    def _index(self, places: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(places)).to(self.device)

    def _values(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device, self.dtype)


class _Layer:
    """The weights of one small layer by their names in it."""

    def __init__(self, weights: Mapping[str, torch.Tensor], number: int) -> None:
        self._weights, self._prefix = weights, f"model.layers.{number}."

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[f"{self._prefix}{name}.weight"]
