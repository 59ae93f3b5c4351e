"""manifest.json: what a bundle holds and how to check it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FORMAT_VERSION = 2
SCORE_KINDS = ("VOCAB", "LEVEL", "TRIE")


class BundleError(ValueError):
    """A bundle cannot be written or loaded.

    Attributes:
        problems: every problem found, one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        """Keep all problems; the message lists them."""
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Separate digests, so that one part can change without invalidating the others.

    Attributes:
        model: hex digest of the target's weights and configuration.
        prompt: hex digest of the prompt template.
        catalog: hex digest of the catalogue.
    """

    model: str
    prompt: str
    catalog: str


@dataclass(frozen=True, slots=True)
class LevelTokens:
    """The codebook of one level: every token the level may hold, used by an item or not.

    Attributes:
        name: short name, such as "a".
        ranges: (first vocabulary id, size) of each run of ids, ascending and disjoint.
    """

    name: str
    ranges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Check the ranges."""
        end = 0
        for offset, size in self.ranges:
            if offset < end or size < 1:
                raise ValueError(f"level {self.name}: {list(self.ranges)} are not ascending ranges")
            end = offset + size
        if not self.ranges:
            raise ValueError(f"level {self.name} has no tokens")

    @classmethod
    def of_tokens(cls, name: str, tokens: Iterable[int]) -> LevelTokens:
        """Return the codebook of some vocabulary ids, in any order."""
        ids = np.unique(np.fromiter(tokens, np.int64))
        starts = np.flatnonzero(np.diff(ids, prepend=-2) != 1)
        sizes = np.diff(starts, append=len(ids))
        return cls(name, tuple(zip(ids[starts].tolist(), sizes.tolist(), strict=True)))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return sum(size for _, size in self.ranges)

    def token_ids(self) -> np.ndarray:
        """Return the vocabulary ids, ascending.  Shape (size,), int64."""
        return np.concatenate([np.arange(offset, offset + size) for offset, size in self.ranges])


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parsed manifest.

    Attributes:
        name: bundle name used in requests (A/B).
        fingerprints: of model, prompt and catalogue.
        score_kind: VOCAB, LEVEL or TRIE; never mixed within a bundle.
        item_length: most tokens of an item, L.
        vocab_size: vocabulary size of target and drafters.
        levels: codebooks, L of them; none where items are texts.
        default_beam_width: beams kept when a request does not say.
        exclude_history: default of the request's filter.
        drafters: names below drafters/.
        contents: file path to [size in bytes, hex BLAKE2b-128 digest].
        created_at: ISO 8601 time of writing.
    """

    name: str
    fingerprints: Fingerprints
    item_length: int
    vocab_size: int
    levels: tuple[LevelTokens, ...]
    score_kind: str = "VOCAB"
    default_beam_width: int = 20
    exclude_history: bool = True
    drafters: tuple[str, ...] = ()
    contents: dict[str, tuple[int, str]] = field(default_factory=dict)
    created_at: str = ""

    def codebooks(self) -> tuple[np.ndarray, ...] | None:
        """Return the vocabulary ids of each level, ascending; None where levels are not named."""
        return tuple(level.token_ids() for level in self.levels) or None

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        return (
            json.dumps({"format": FORMAT_VERSION, **asdict(self)}, indent=2, sort_keys=True) + "\n"
        )

    @classmethod
    def from_json(cls, text: str, directory: Path | None = None) -> Manifest:
        """Parse manifest.json.

        Args:
            text: its content.
            directory: the bundle, for advice in messages.

        Raises:
            BundleError: not a manifest of this format.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            version = document.pop("format")
            if version != FORMAT_VERSION:
                raise BundleError([_other_format(version, document, directory)])
            manifest = cls(**_parsed(document))
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise BundleError([f"manifest.json cannot be understood: {error}"]) from error
        problems = _problems(manifest)
        if problems:
            raise BundleError(problems)
        return manifest


def _parsed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest from those of its JSON object."""
    return {
        **document,
        "fingerprints": Fingerprints(**document["fingerprints"]),
        "levels": tuple(
            LevelTokens(str(level["name"]), tuple((int(o), int(s)) for o, s in level["ranges"]))
            for level in document["levels"]
        ),
        "drafters": tuple(document["drafters"]),
        "contents": {
            name: (int(entry[0]), str(entry[1])) for name, entry in document["contents"].items()
        },
    }


def _problems(manifest: Manifest) -> list[str]:
    problems = []
    if manifest.score_kind not in SCORE_KINDS:
        kinds = ", ".join(SCORE_KINDS)
        problems.append(f"score_kind is {manifest.score_kind!r}, not one of {kinds}")
    if len(manifest.levels) not in (0, manifest.item_length):
        problems.append(f"{len(manifest.levels)} levels for items of {manifest.item_length} tokens")
    if not manifest.name or manifest.default_beam_width < 1:
        problems.append("name and default_beam_width must not be empty or zero")
    return problems


def _other_format(version: object, document: dict[str, Any], directory: Path | None) -> str:
    """Say what can be done about a manifest of another format."""
    found = f"manifest.json has format {version}; this release reads {FORMAT_VERSION}"
    if version != 1:
        return found
    old = str(directory or "OLD")
    drafters = "".join(
        f" --drafter {name}={old}/drafters/{name}" for name in document.get("drafters", ())
    )
    return (
        f"{found}. Repack it: specbeam bundle pack NEW --target {old}/target{drafters} "
        f"--index {old}/catalog.parquet --items {old}/catalog.parquet --tag-field topic=topics"
    )
