"""Filters and padded paths on the wire of a session."""

import numpy as np
import pytest

from specbeam.catalog import PAD, LeafSpec
from specbeam.runtime.session_search import from_leaf_spec, to_leaf_spec
from specbeam.runtime.session_tokens import WIRE_PAD, decode_tokens, encode_tokens
from specbeam.target.v1alpha1 import session_pb2

SPECS = [
    LeafSpec(),
    LeafSpec(excluded_leaves=np.array([1, 5])),
    LeafSpec(allowed_leaves=np.zeros(0, np.int64)),
    LeafSpec(allowed_leaves=np.array([0, 7]), created_after_ms=0),
    LeafSpec(required_tags=(("a", "b"), ("c",)), created_after_ms=3_600_000),
]


@pytest.mark.parametrize("leaves", SPECS)
def test_a_filter_survives_the_wire(leaves):
    sent = from_leaf_spec(leaves, beam_width=7, max_rows=9)
    received = session_pb2.SearchSpec.FromString(sent.SerializeToString())
    assert (received.beam_width, received.max_rows) == (7, 9)
    found = to_leaf_spec(received)
    np.testing.assert_array_equal(found.excluded_leaves, leaves.excluded_leaves)
    assert (found.allowed_leaves is None) == (leaves.allowed_leaves is None)
    if leaves.allowed_leaves is not None:
        np.testing.assert_array_equal(found.allowed_leaves, leaves.allowed_leaves)
    assert found.required_tags == leaves.required_tags
    assert found.created_after_ms == leaves.created_after_ms


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_padding_has_a_number_of_its_own(dtype):
    paths = np.array([[3, 7, PAD], [2**31 - 2, PAD, PAD]], dtype)
    sent = encode_tokens(paths)
    assert sent == [3, 7, WIRE_PAD, 2**31 - 2, WIRE_PAD, WIRE_PAD]
    message = session_pb2.Beams.FromString(session_pb2.Beams(tokens=sent).SerializeToString())
    np.testing.assert_array_equal(decode_tokens(message.tokens).reshape(2, 3), paths)
    assert decode_tokens([]).tolist() == []
