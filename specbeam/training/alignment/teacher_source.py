"""What teacher data are made from: the same source gives the same shards."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from specbeam.training.choices import TrainedScoreKind


@dataclass(frozen=True, slots=True)
class TeacherSource:
    """Everything a shard depends on, beside its number.

    Attributes:
        target: fingerprint of the model.
        catalog: fingerprint of the catalogue.
        prompt: fingerprint of the prompt template.
        histories: digest of the histories that prompts are cut from.
        score_kind: convention of the scores.
        width: beams kept per level.
        shard_prompts: prompts per shard.
        drop: share of histories from which items are dropped.
        jitter: share of histories whose order is disturbed.
        substitute: share of items replaced by samples of the target.
        seed: of prompts and samples.
    """

    target: str
    catalog: str
    prompt: str
    histories: str
    score_kind: TrainedScoreKind
    width: int
    shard_prompts: int
    drop: float
    jitter: float
    substitute: float
    seed: int

    def to_json(self) -> str:
        """Return the canonical text."""
        return json.dumps(asdict(self), sort_keys=True)


def different_fields(source: TeacherSource, found: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields in which a description differs from a source."""
    return [name for name, value in asdict(source).items() if found.get(name) != value]
