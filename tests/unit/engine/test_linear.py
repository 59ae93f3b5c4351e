"""Packed products are the plain ones; few different numbers of rows occur."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from specbeam.engine.linear import can_pack, linear_of, padded_rows, worth_packing


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 33, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [False, True])
def test_packed_product_is_the_plain_one(rows: int, dtype: torch.dtype, with_bias: bool) -> None:
    if not can_pack(dtype):
        pytest.skip(f"this CPU or build packs no {dtype} weights")
    torch.manual_seed(rows)
    weight, x = torch.randn(70, 48).to(dtype), torch.randn(rows, 96).to(dtype)[:, ::2]
    # A bias that is a view with gaps: the operator would read what lies between.
    bias = torch.randn(70, 3).to(dtype)[:, 1] if with_bias else None
    got = linear_of(weight, bias, packed=True)(x).double()
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    # Products of up to 48 terms of about 1, summed in the type's accumulator and rounded once.
    tolerance = 2e-5 if dtype == torch.float32 else 2**-8 * float(exact.abs().max())
    assert (got - exact).abs().max() <= tolerance


def test_fp64_and_small_fp32_weights_stay_plain() -> None:
    assert not can_pack(torch.float64)
    assert not worth_packing(torch.zeros(8, 8, dtype=torch.float64))
    assert not worth_packing(torch.zeros(8, 8))
    assert worth_packing(torch.zeros(1024, 512)) == can_pack(torch.float32)


def test_padding_is_small_and_gives_few_numbers_of_rows() -> None:
    padded = [padded_rows(rows) for rows in range(1, 1001)]
    assert padded == sorted(padded)
    for rows, filled in enumerate(padded, start=1):
        assert rows <= filled < rows + max(4, rows / 8 + 1)
    assert padded[0] == 1
    assert len(set(padded[:256])) <= 34
