"""Settings of a root head and its training."""

from dataclasses import dataclass, field

from specbeam.training.errors import TrainingError
from specbeam.training.presets import PhaseConfig

# Peaks of 4e-3 and 8e-3 gave the same coverage after 640 steps on Beauty, 2e-3 gave less.  More
# steps on small batches are better than the same paths in fewer steps.
_PHASE = PhaseConfig(
    max_epochs=4,
    min_steps=1000,
    batch_tokens=512,
    learning_rate=5e-3,
    weight_decay=0.01,
    num_validations=8,
    patience=3,
    validation_users=300,
)


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What is trained, and how.

    Attributes:
        bottleneck: inner width of a block.
        max_levels: deepest level that is drafted at most; long items are no use to a drafter at
            their ends, where hardly a choice is left.
        branches: other items tried at the place of each item of a history, below different first
            codes that the target finds likely there.
        seed: of weights, batches and samples.
        phase: hyperparameters and limits of the training.
    """

    bottleneck: int = 256
    max_levels: int = 6
    branches: int = 2
    seed: int = 0
    phase: PhaseConfig = field(default_factory=lambda: _PHASE)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            TrainingError: a number is too small.
        """
        if self.bottleneck < 1 or self.max_levels < 2 or self.branches < 0:
            raise TrainingError(
                "a head needs a bottleneck of 1 or more, 2 levels or more, and no negative branches"
            )
