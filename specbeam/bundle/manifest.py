"""manifest.json: what a bundle holds and how to check it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT_VERSION = 1
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
    """Vocabulary ids of one code level.

    Attributes:
        name: short name, such as "a".
        token_offset: vocabulary id of code 0.
        size: number of codes.
    """

    name: str
    token_offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parsed manifest.

    Attributes:
        name: bundle name used in requests (A/B).
        fingerprints: of model, prompt and catalogue.
        score_kind: VOCAB, LEVEL or TRIE; never mixed within a bundle.
        item_length: tokens per item, L.
        vocab_size: vocabulary size of target and drafters.
        levels: code levels, L of them.
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

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        return (
            json.dumps({"format": FORMAT_VERSION, **asdict(self)}, indent=2, sort_keys=True) + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse manifest.json.

        Raises:
            BundleError: not a manifest of this format.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            version = document.pop("format")
            if version != FORMAT_VERSION:
                raise BundleError(
                    [f"manifest.json has format {version}; this release reads {FORMAT_VERSION}"]
                )
            document["fingerprints"] = Fingerprints(**document["fingerprints"])
            document["levels"] = tuple(LevelTokens(**level) for level in document["levels"])
            document["drafters"] = tuple(document["drafters"])
            document["contents"] = {
                k: (int(v[0]), str(v[1])) for k, v in document["contents"].items()
            }
            manifest = cls(**document)
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise BundleError([f"manifest.json cannot be understood: {error}"]) from error
        if manifest.score_kind not in SCORE_KINDS:
            raise BundleError(
                [f"score_kind is {manifest.score_kind!r}, not one of {', '.join(SCORE_KINDS)}"]
            )
        return manifest
