"""What the tests of the orchestrator share."""

import numpy as np
import pytest

from orchestrator.ports import SessionLost, SessionSpec
from specbeam.bundle import Fingerprints
from specbeam.catalog import LeafSpec
from tests.orchestrator_fakes import LENGTH


@pytest.fixture
def spec() -> SessionSpec:
    return SessionSpec(
        request_id="r",
        tenant="default",
        bundle="b",
        fingerprints=Fingerprints("m", "p", "c"),
        score_kind="VOCAB",
        prompt=np.arange(3),
        beam_width=2,
        leaves=LeafSpec(),
        max_rows=64,
        item_length=LENGTH,
        vocab_size=100,
    )


@pytest.fixture
def lost() -> SessionLost:
    return SessionLost("UNAVAILABLE: gone")
