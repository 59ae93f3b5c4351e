"""Checks that the target and the draft session have in common."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specbeam.runtime.errors import InvalidRequest, UnknownBundle, Violation
from specbeam.runtime.session_tokens import decode_tokens
from specbeam.target.v1alpha1 import session_pb2

_MAX_ID_BYTES = 64


def header_violations(header: session_pb2.SessionHeader) -> list[Violation]:
    """Return the rules a session header breaks by itself."""
    found = [
        Violation(f"open.header.{name}", f"must have 1 to {_MAX_ID_BYTES} bytes")
        for name, value in (("request_id", header.request_id), ("tenant", header.tenant))
        if not 1 <= len(value.encode()) <= _MAX_ID_BYTES
    ]
    if not header.bundle:
        found.append(Violation("open.header.bundle", "is required"))
    prints = header.fingerprints
    for name in ("model", "prompt", "catalog"):
        if not getattr(prints, name):
            found.append(Violation(f"open.header.fingerprints.{name}", "is required"))
    if header.score_kind == session_pb2.SCORE_KIND_UNSPECIFIED:
        found.append(Violation("open.header.score_kind", "is required"))
    return found


def check_bundle_name(name: str, served: str) -> None:
    """Check that a session asks for the bundle that is served.

    Raises:
        UnknownBundle: It asks for another one.
    """
    if name != served:
        raise UnknownBundle(f"bundle {name[:64]!r} is not served here")


def to_array(values: Sequence[int]) -> NDArray[np.int64]:
    """Return a repeated integer field as an array.  Shape (n,), int64."""
    return np.fromiter(values, np.int64, len(values))


def prompt_violations(
    tokens: NDArray[np.int64], *, max_tokens: int, vocab_size: int
) -> list[Violation]:
    """Return the rules a prompt breaks.

    Args:
        tokens: Vocabulary ids.  Shape (P,).
        max_tokens: Longest prompt that fits a slot.
        vocab_size: Size of the model's vocabulary.
    """
    field = "open.prompt_tokens"
    if not len(tokens):
        return [Violation(field, "must hold at least one token")]
    found = []
    if len(tokens) > max_tokens:
        found.append(Violation(field, f"has {len(tokens)} tokens; at most {max_tokens} fit"))
    outside = np.flatnonzero(tokens >= vocab_size)
    if len(outside):
        place = int(outside[0])
        text = f"is {tokens[place]}; the vocabulary has {vocab_size} ({len(outside)} such tokens)"
        found.append(Violation(f"{field}[{place}]", text))
    return found


def beam_violations(beams: session_pb2.Beams, *, depth: int, field: str) -> list[Violation]:
    """Return the rules that the shape of `beams` breaks.

    Args:
        beams: As received.
        depth: Tokens per item, L.
        field: Path of the message in the request.
    """
    found = []
    if beams.level > depth:
        found.append(Violation(f"{field}.level", f"is {beams.level}; items have {depth} tokens"))
    count = len(beams.scores)
    if not count:
        found.append(Violation(f"{field}.scores", "must hold at least one beam"))
    elif len(beams.tokens) != beams.level * count:
        text = f"has {len(beams.tokens)} tokens; level {beams.level} x {count} beams are expected"
        found.append(Violation(f"{field}.tokens", text))
    if not np.isfinite(np.fromiter(beams.scores, np.float64, count)).all():
        found.append(Violation(f"{field}.scores", "must be finite"))
    ranks = beam_ranks(beams)
    if ranks is not None and len(ranks) != count:
        text = f"has {len(ranks)} values; there are {count} beams"
        found.append(Violation(f"{field}.rank_values", text))
    elif ranks is not None and not np.isfinite(ranks).all():
        found.append(Violation(f"{field}.rank_values", "must be finite"))
    return found


def beam_paths(beams: session_pb2.Beams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return padded paths (W', level) and scores (W',) of beams whose shape was checked."""
    scores = np.fromiter(beams.scores, np.float64, len(beams.scores))
    return decode_tokens(beams.tokens).reshape(len(scores), beams.level), scores


def beam_ranks(beams: session_pb2.Beams) -> NDArray[np.float64] | None:
    """Return the values beams are ordered by; None where these are the scores.  Shape (W',)."""
    if not beams.rank_values:
        return None
    return np.fromiter(beams.rank_values, np.float64, len(beams.rank_values))


def out_of_turn(field: str, description: str) -> InvalidRequest:
    """Return the error of a message that breaks the order of turns."""
    return InvalidRequest([Violation(field, description)])


def raise_if_any(violations: list[Violation]) -> None:
    """Raise all violations found.

    Raises:
        InvalidRequest: There is at least one.
    """
    if violations:
        raise InvalidRequest(violations)
