"""Which loss aligns a draft, and with what it is mixed."""

from dataclasses import dataclass
from typing import Literal, get_args

from specbeam.training.errors import TrainingError

LossName = Literal[
    "distillation",
    "atspeed-s",
    "atspeed-r",
    "beam-kl",
    "row-kl",
    "word-kd",
    "tvd-kd",
    "seq-kd",
    "ce",
]
BaseName = Literal["distillation", "ce"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
BASES: tuple[BaseName, ...] = get_args(BaseName)

# Losses over the target's beams need teacher data; the others look at whole sequences.
BEAM_LOSSES: tuple[LossName, ...] = ("atspeed-s", "atspeed-r", "beam-kl", "row-kl", "seq-kd")
# Published baselines are mixed with cross-entropy; what is ours, or AtSpeed's, with distillation,
# which served better here than cross-entropy.
_BASE_OF: dict[LossName, BaseName] = {
    "atspeed-s": "distillation",
    "atspeed-r": "distillation",
    "beam-kl": "distillation",
    "row-kl": "distillation",
}
_ALPHA_OF: dict[LossName, float] = {"distillation": 1.0, "ce": 0.0}
DEFAULT_ALPHA = 0.5
_TEMPERATURE_OF: dict[LossName, float] = {
    "atspeed-s": 0.1,
    "atspeed-r": 1.0,
    "tvd-kd": 1.0,
    "beam-kl": 1.0,
}
DEFAULT_TOP_K = 20


@dataclass(frozen=True, slots=True)
class AlignmentConfig:
    """(1 - alpha) * base + alpha * loss.

    Attributes:
        loss: what aligns the draft.
        base: what it is mixed with.
        alpha: share of the loss, 0 .. 1.
        temperature: of the loss; None where it has none.
        top_k: the draft's candidates that count (atspeed-s only).
        on_policy: share of prompts whose beams below level 1 are the draft's own (losses over
            beams only).
    """

    loss: LossName
    base: BaseName
    alpha: float
    temperature: float | None = None
    top_k: int = DEFAULT_TOP_K
    on_policy: float = 0.0

    @property
    def needs_beams(self) -> bool:
        """Whether teacher data are needed."""
        return self.loss in BEAM_LOSSES and self.alpha > 0.0

    @property
    def needs_sequences(self) -> bool:
        """Whether every item of a history has to be an answer to those before it."""
        return self.loss not in BEAM_LOSSES or self.alpha < 1.0


def make_config(
    loss: str,
    *,
    base: str | None = None,
    alpha: float | None = None,
    temperature: float | None = None,
    plain: bool = False,
    top_k: int | None = None,
    on_policy: float = 0.0,
) -> AlignmentConfig:
    """Return a configuration, with the loss's own defaults where nothing is given.

    Args:
        loss: name of the loss.
        base: name of what it is mixed with.
        alpha: share of the loss.
        temperature: of the loss.
        plain: the loss without its temperature (atspeed-s only).
        top_k: see `AlignmentConfig`.
        on_policy: see `AlignmentConfig`.

    Raises:
        TrainingError: there is no such loss, or it does not have what was given for it.
    """
    names, bases = {name: name for name in LOSSES}, {name: name for name in BASES}
    if loss not in names:
        raise TrainingError(f"no loss {loss!r}; there are {', '.join(LOSSES)}")
    if base is not None and base not in bases:
        raise TrainingError(f"no base {base!r}; there are {', '.join(BASES)}")
    name = names[loss]
    config = AlignmentConfig(
        loss=name,
        base=_BASE_OF.get(name, "ce") if base is None else bases[base],
        alpha=_ALPHA_OF.get(name, DEFAULT_ALPHA) if alpha is None else alpha,
        temperature=_temperature(name, temperature, plain),
        top_k=DEFAULT_TOP_K if top_k is None else top_k,
        on_policy=on_policy,
    )
    _check(config, top_k_given=top_k is not None)
    return config


def _temperature(name: LossName, given: float | None, plain: bool) -> float | None:
    """Return the temperature of a loss.

    Raises:
        TrainingError: it has none, or is asked both for one and for none.
    """
    if plain and name != "atspeed-s":
        raise TrainingError("only atspeed-s has a plain variant")
    if plain and given is not None:
        raise TrainingError("the plain variant of atspeed-s has no temperature")
    if given is not None and name not in _TEMPERATURE_OF:
        raise TrainingError(f"{name} has no temperature; {', '.join(_TEMPERATURE_OF)} have one")
    if given is not None and not given > 0.0:
        raise TrainingError(f"the temperature is {given}, not above 0")
    return None if plain else given if given is not None else _TEMPERATURE_OF.get(name)


def _check(config: AlignmentConfig, *, top_k_given: bool) -> None:
    """Check what belongs together.

    Raises:
        TrainingError: something does not.
    """
    if not 0.0 <= config.alpha <= 1.0 or not 0.0 <= config.on_policy <= 1.0:
        raise TrainingError("alpha and the on-policy share must be within 0 .. 1")
    if config.loss == "ce" and config.alpha != 0.0:
        raise TrainingError("ce is the base alone; it has no alpha")
    if config.loss == "ce" and config.base != "ce":
        raise TrainingError("ce is the base alone; choose no other")
    if top_k_given and config.loss != "atspeed-s":
        raise TrainingError(f"{config.loss} has no top-k; atspeed-s has one")
    if config.top_k < 1:
        raise TrainingError("top-k must be positive")
    if config.on_policy > 0.0 and not (config.needs_beams and config.loss != "seq-kd"):
        raise TrainingError(f"{config.loss} has no on-policy rows: it does not look at beams' rows")
