"""From a history to prompt tokens with a stable prefix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from specbeam.catalog import PAD

VERSION = 3


@dataclass(frozen=True, slots=True)
class Window:
    """The anchored window over a history.

    The first item shown moves only once per `stride` events, so the token prefix of a growing
    history stays the same between moves and its KV state can be reused.

    Attributes:
        max_items: most items shown.
        stride: items by which the start moves.
    """

    max_items: int = 50
    stride: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.stride <= self.max_items:
            raise ValueError(f"window needs 1 <= stride <= max_items, got {self}")

    def start(self, length: int) -> int:
        """Return the index of the first item shown of a history of `length` items."""
        excess = max(0, length - self.max_items)
        return -(-excess // self.stride) * self.stride


@dataclass(frozen=True, slots=True)
class FixedSegment:
    """Tokens that are the same in every prompt.

    Attributes:
        ids: vocabulary ids; what is served.
        text: what they spell, for people and checks; None where there never was a text.
    """

    ids: tuple[int, ...]
    text: str | None = None

    def __post_init__(self) -> None:
        """Check that the ids are ids."""
        _check_ids(self.ids)

    def to_document(self) -> dict[str, Any]:
        """Return the segment as it stands in prompt.json."""
        if self.text is None:
            return {"type": "tokens", "ids": list(self.ids)}
        return {"type": "text", "text": self.text, "ids": list(self.ids)}


@dataclass(frozen=True, slots=True)
class HistorySegment:
    """Where the items of the history stand, oldest first.

    Attributes:
        window: which part of the history is shown.
        separator: vocabulary ids between two items.
        separator_text: what the separator spells; None where there never was a text.
        end_tokens: the tokens that end an item's path, in turn; none if the catalogue has none.
        keep_end_tokens: whether items are shown with their end tokens.
    """

    window: Window = field(default_factory=Window)
    separator: tuple[int, ...] = ()
    separator_text: str | None = None
    end_tokens: tuple[int, ...] = ()
    keep_end_tokens: bool = True

    def __post_init__(self) -> None:
        """Check that the ids are ids."""
        _check_ids(self.separator)
        _check_ids(self.end_tokens)

    def render(self, history_paths: np.ndarray) -> np.ndarray:
        """Return the tokens of the items shown.

        Args:
            history_paths: token paths of the items, oldest first, PADs at their ends.
                Shape (n, L).

        Returns:
            Vocabulary ids, one after another.  Shape (t,), int32.
        """
        paths = np.asarray(history_paths)
        paths = paths[self.window.start(len(paths)) :]
        kept = paths != PAD
        if self.end_tokens and not self.keep_end_tokens:
            kept &= ~self._is_ending(paths, kept.sum(axis=1))
        separators = np.broadcast_to(
            np.asarray(self.separator, paths.dtype), (len(paths), len(self.separator))
        )
        follows = np.broadcast_to((np.arange(len(paths)) > 0)[:, None], separators.shape)
        tokens = np.concatenate([separators, paths], axis=1)
        shown = np.concatenate([follows, kept], axis=1)
        kept_tokens: np.ndarray = tokens[shown].astype(np.int32)
        return kept_tokens

    def _is_ending(self, paths: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Say which tokens are the end tokens of their item.  Shape (n, L)."""
        places = (lengths - len(self.end_tokens))[:, None] + np.arange(len(self.end_tokens))
        last = np.take_along_axis(paths, places.clip(min=0), axis=1)
        ended = (places[:, :1] >= 0) & (last == self.end_tokens).all(axis=1, keepdims=True)
        ending: np.ndarray = ended & (np.arange(paths.shape[1]) >= places[:, :1])
        return ending

    def max_tokens(self, item_tokens: int) -> int:
        """Return the most tokens shown when no item shows more than `item_tokens`."""
        items = self.window.max_items
        return items * item_tokens + (items - 1) * len(self.separator)

    def to_document(self) -> dict[str, Any]:
        """Return the segment as it stands in prompt.json."""
        return {"type": "history", **asdict(self)}


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Fixed segments, the history, fixed segments.

    All ids are frozen: rendering needs no tokenizer.

    Attributes:
        before: segments before the history; the same for every request, so that their KV state
            is shared.
        history: the history.
        after: segments behind it (the cue).
    """

    before: tuple[FixedSegment, ...]
    history: HistorySegment = field(default_factory=HistorySegment)
    after: tuple[FixedSegment, ...] = ()

    def __post_init__(self) -> None:
        """Check that a prompt without any history still has a token."""
        if not (*self.prefix, *self.suffix):
            raise ValueError("a prompt needs at least one token beside the history")

    @classmethod
    def of_codes(
        cls, prefix: Sequence[int] = (1,), suffix: Sequence[int] = (), window: Window | None = None
    ) -> PromptTemplate:
        """Return a template without any text: ids, the codes of the history, ids.

        Args:
            prefix: vocabulary ids before the history, usually BOS.
            suffix: vocabulary ids behind it.
            window: which part of the history is shown.
        """
        after = (FixedSegment(tuple(suffix)),) if suffix else ()
        return cls((FixedSegment(tuple(prefix)),), HistorySegment(window or Window()), after)

    @property
    def prefix(self) -> tuple[int, ...]:
        """Vocabulary ids before the history."""
        return tuple(token for segment in self.before for token in segment.ids)

    @property
    def suffix(self) -> tuple[int, ...]:
        """Vocabulary ids behind the history."""
        return tuple(token for segment in self.after for token in segment.ids)

    @property
    def window(self) -> Window:
        """Which part of the history is shown."""
        return self.history.window

    @property
    def largest_token(self) -> int:
        """Largest vocabulary id that the template itself puts into a prompt."""
        return max((*self.prefix, *self.suffix, *self.history.separator))

    def render(self, history_paths: np.ndarray) -> np.ndarray:
        """Return the prompt of a history.

        Args:
            history_paths: token paths of the items, oldest first, PADs at their ends.
                Shape (n, L).

        Returns:
            Vocabulary ids.  Shape (T,), int32; never empty.
        """
        shown = self.history.render(history_paths)
        prefix, suffix = np.asarray(self.prefix, np.int32), np.asarray(self.suffix, np.int32)
        return np.concatenate([prefix, shown, suffix])

    def max_tokens(self, item_tokens: int) -> int:
        """Return the length of the longest prompt.

        Args:
            item_tokens: most tokens that an item shows, see `HistorySegment.render`.
        """
        return len(self.prefix) + self.history.max_tokens(item_tokens) + len(self.suffix)

    def to_json(self) -> str:
        """Return the canonical text of prompt.json."""
        segments: list[FixedSegment | HistorySegment] = [*self.before, self.history, *self.after]
        document = {"version": VERSION, "segments": [part.to_document() for part in segments]}
        return json.dumps(document, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PromptTemplate:
        """Parse prompt.json.

        Raises:
            ValueError: not a template of version 3 with exactly one history.
        """
        try:
            document = json.loads(text)
            if document["version"] != VERSION:
                found = document["version"]
                raise ValueError(f"it has version {found}; make it anew with specbeam bundle pack")
            segments = [_parse(segment) for segment in document["segments"]]
            histories = [part for part in segments if isinstance(part, HistorySegment)]
            if len(histories) != 1:
                raise ValueError(f"it has {len(histories)} history segments, not one")
            place = segments.index(histories[0])
            return cls(_fixed(segments[:place]), histories[0], _fixed(segments[place + 1 :]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"prompt.json is not a prompt template of version {VERSION}: {error}"
            ) from error

    @property
    def fingerprint(self) -> str:
        """Hex BLAKE2b-128 digest of the canonical text."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()


def _fixed(segments: Sequence[FixedSegment | HistorySegment]) -> tuple[FixedSegment, ...]:
    return tuple(segment for segment in segments if isinstance(segment, FixedSegment))


def _parse(document: Any) -> FixedSegment | HistorySegment:
    fields = {name: value for name, value in document.items() if name != "type"}
    match document["type"]:
        case "tokens" | "text":
            return FixedSegment(**fields | {"ids": tuple(fields["ids"])})
        case "history":
            return HistorySegment(
                **fields
                | {
                    "separator": tuple(fields["separator"]),
                    "end_tokens": tuple(fields["end_tokens"]),
                    "window": Window(**fields["window"]),
                }
            )
        case other:
            raise ValueError(f"unknown segment type {other!r}")


def _check_ids(ids: Sequence[object]) -> None:
    if not all(isinstance(token, int) and token >= 0 for token in ids):
        raise ValueError(f"{list(ids)} are not vocabulary ids")
