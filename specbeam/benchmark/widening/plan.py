"""Where every part of the small model goes in the large one: index maps, drawn once from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specbeam.benchmark.shapes import ModelShape
from specbeam.benchmark.widening.fit import Fit, fit_shape

# In a map from large rows or columns to small ones.
FREE, GATE = -1, -2


@dataclass(frozen=True, slots=True)
class ResidualMap:
    """What each dim of the large residual stream carries.

    Attributes:
        source: small dim of each large one, or FREE.  Shape (h',).
        sign: +1 or -1: a large dim holds its source times this.  Shape (h',).
        share: what a reader multiplies it by so that the copies of a dim sum up to it; powers of
            two, so that nothing is rounded.  Shape (h',).
    """

    source: np.ndarray
    sign: np.ndarray
    share: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Large dims that carry something, ascending."""
        return np.flatnonzero(self.source >= 0)


@dataclass(frozen=True, slots=True)
class LayerMap:
    """What the rows of one live layer carry; FREE, GATE or a row of the small layer.

    Attributes:
        queries: rows of q_proj.  Shape (H' D',).
        keys: rows of k_proj.  Shape (G' D',).
        values: rows of v_proj.  Shape (G' D',).
        attended: columns of o_proj.  Shape (H' D',).
        neurons: rows of gate_proj and up_proj, columns of down_proj.  Shape (m',).
    """

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    attended: np.ndarray
    neurons: np.ndarray


@dataclass(frozen=True, slots=True)
class WideningPlan:
    """A small model's place in a large shape.

    Attributes:
        small: its shape.
        large: the other.
        fit: the numbers of the two.
        residual: map of the residual stream.
        layers: small layer of each large one, or FREE.  Shape (L',).
        seed: of all choices.
    """

    small: ModelShape
    large: ModelShape
    fit: Fit
    residual: ResidualMap
    layers: np.ndarray
    seed: int

    @classmethod
    def draw(cls, small: ModelShape, large: ModelShape, seed: int) -> WideningPlan:
        """Draw the residual map; small layers are spread evenly over the large ones.

        Raises:
            WideningError: the model does not fit the shape.
        """
        fit = fit_shape(small, large)
        rng = np.random.default_rng([seed, 0])
        layers = np.full(large.layers, FREE)
        layers[np.arange(small.layers) * large.layers // small.layers] = np.arange(small.layers)
        return cls(small, large, fit, _residual_map(small, large, fit, rng), layers, seed)

    def layer_map(self, place: int) -> LayerMap:
        """Draw the map of the large layer at `place`."""
        rng = np.random.default_rng([self.seed, 1, place])
        heads = _HeadMap(self.small, self.large, self.fit, rng)
        neurons = np.full(self.large.intermediate, FREE)
        chosen = rng.choice(self.large.intermediate, self.small.intermediate, replace=False)
        neurons[chosen] = np.arange(self.small.intermediate)
        return LayerMap(heads.queries(), heads.keys(), heads.values(), heads.attended(), neurons)


def powers_of_two(count: int) -> np.ndarray:
    """Return powers of two that sum up to 1.  Shape (count,)."""
    parts = [1.0]
    while len(parts) < count:
        largest = parts.index(max(parts))
        parts[largest] /= 2
        parts.append(parts[largest])
    return np.array(parts)


def _residual_map(
    small: ModelShape, large: ModelShape, fit: Fit, rng: np.random.Generator
) -> ResidualMap:
    source, share = np.full(large.hidden, FREE), np.zeros(large.hidden)
    places = rng.permutation(large.hidden)[: fit.copies * small.hidden]
    source[places] = np.tile(np.arange(small.hidden), fit.copies)
    share[places] = np.repeat(powers_of_two(fit.copies), small.hidden)
    return ResidualMap(source, rng.choice([-1.0, 1.0], large.hidden), share)


class _HeadMap:
    """Which heads, and which dims of them, carry the small ones."""

    def __init__(
        self, small: ModelShape, large: ModelShape, fit: Fit, rng: np.random.Generator
    ) -> None:
        self._small, self._large = small, large
        self._rotary = _stride_dims(small.head_dim, large.head_dim)
        per_small, slots = small.heads // small.kv_heads, large.heads // large.kv_heads
        self._kv_source = np.full(large.kv_heads, FREE)
        self._query_source = np.full(large.heads, FREE)
        groups = rng.permutation(large.kv_heads)[: fit.kv_heads_needed]
        for number, group in enumerate(groups):
            kv_head, part = divmod(number, fit.kv_copies)
            self._kv_source[group] = kv_head
            queries = np.arange(per_small)[part * slots : (part + 1) * slots] + kv_head * per_small
            places = rng.permutation(slots)[: len(queries)] + group * slots
            self._query_source[places] = queries
        # Values have no rotation: any dims will do.
        dims = [rng.permutation(large.head_dim)[: small.head_dim] for _ in range(large.kv_heads)]
        self._value_dims = np.stack(dims)

    def queries(self) -> np.ndarray:
        # Of a pair that is not live one side must be shut: keys are noise, queries are not.
        return self._rotated(self._query_source, GATE)

    def keys(self) -> np.ndarray:
        return self._rotated(self._kv_source, FREE)

    def values(self) -> np.ndarray:
        rows = np.full((self._large.kv_heads, self._large.head_dim), FREE)
        for group, source in enumerate(self._kv_source):
            if source >= 0:
                rows[group, self._value_dims[group]] = self._rows_of(source)
        return rows.reshape(-1)

    def attended(self) -> np.ndarray:
        columns = np.full((self._large.heads, self._large.head_dim), GATE)
        slots = self._large.heads // self._large.kv_heads
        for head, source in enumerate(self._query_source):
            if source >= 0:
                columns[head, self._value_dims[head // slots]] = self._rows_of(source)
        return columns.reshape(-1)

    def _rotated(self, sources: np.ndarray, rest_of_live: int) -> np.ndarray:
        rows = np.full((len(sources), self._large.head_dim), FREE)
        for head, source in enumerate(sources):
            if source >= 0:
                rows[head] = rest_of_live
                rows[head, self._rotary] = self._rows_of(source)
        return rows.reshape(-1)

    def _rows_of(self, head: int) -> np.ndarray:
        return head * self._small.head_dim + np.arange(self._small.head_dim)


def _stride_dims(small: int, large: int) -> np.ndarray:
    """Dims of a large head that turn with the same frequencies as those of a small one.

    transformers pairs dim i with dim i + D / 2 and gives pair i the frequency theta^(-2 i / D), so
    pair i of the small head is pair r i of one r times as large.
    """
    pairs = np.arange(small // 2) * (large // small)
    return np.concatenate([pairs, pairs + large // 2])
