"""Devices that are not there are named before anything is loaded."""

import pytest
import torch

from specbeam.bundle import BundleError
from specbeam.engine.devices import device_problem
from target_service.model import load_target
from tests.bundles import tiny_bundle


def test_cpu_is_there() -> None:
    assert device_problem("cpu") is None


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta:x"])
def test_absent_device_is_named_in_one_line(name: str) -> None:
    problem = device_problem(name)
    assert problem is not None
    assert repr(name) in problem
    assert "\n" not in problem


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_target_for_an_absent_device_is_refused() -> None:
    with pytest.raises(BundleError, match="device 'cuda' cannot be used here"):
        load_target(
            tiny_bundle().path, device="cuda", dtype="fp32", slots=1, max_rows=8, max_beam_width=8
        )
