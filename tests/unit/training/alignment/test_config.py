from typing import Any

import pytest

from specbeam.training.alignment.config import BEAM_LOSSES, LOSSES, make_config
from specbeam.training.alignment.settings import alignment_phase
from specbeam.training.errors import TrainingError
from specbeam.training.presets import get_preset


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_defaults(name: str) -> None:
    config = make_config(name)
    assert config.needs_beams == (name in BEAM_LOSSES)
    assert config.needs_sequences
    assert (config.temperature is not None) == (
        name in ("atspeed-s", "atspeed-r", "tvd-kd", "beam-kl")
    )


def test_what_is_given_replaces_the_defaults() -> None:
    assert make_config("atspeed-s").base == "distillation"
    assert make_config("seq-kd").base == "ce"
    assert make_config("atspeed-s", base="ce", alpha=0.9).base == "ce"
    assert make_config("atspeed-s", temperature=0.3).temperature == 0.3
    assert make_config("atspeed-s", plain=True).temperature is None
    assert make_config("distillation").alpha == 1.0
    assert not make_config("row-kl", alpha=1.0).needs_sequences
    assert not make_config("row-kl", alpha=0.0).needs_beams


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("kl", {}, "no loss 'kl'; there are distillation"),
        ("row-kl", {"base": "word-kd"}, "no base 'word-kd'"),
        ("row-kl", {"temperature": 1.0}, "row-kl has no temperature"),
        ("atspeed-r", {"temperature": 0.0}, "not above 0"),
        ("atspeed-r", {"plain": True}, "only atspeed-s"),
        ("atspeed-s", {"plain": True, "temperature": 1.0}, "no temperature"),
        ("atspeed-r", {"top_k": 5}, "no top-k"),
        ("atspeed-s", {"top_k": 0}, "must be positive"),
        ("atspeed-s", {"alpha": 1.5}, "within 0"),
        ("atspeed-s", {"on_policy": -0.1}, "within 0"),
        ("seq-kd", {"on_policy": 0.5}, "no on-policy rows"),
        ("word-kd", {"on_policy": 0.5}, "no on-policy rows"),
        ("ce", {"alpha": 0.5}, "has no alpha"),
        ("ce", {"base": "distillation"}, "the base alone"),
    ],
)
def test_what_a_loss_has_not_got_is_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make_config(name, **given)


def test_a_trained_start_goes_on_more_carefully() -> None:
    preset = get_preset("small")
    scratch = alignment_phase(preset, trained_start=False, epochs=2.5)
    trained = alignment_phase(preset, trained_start=True, steps=9, minutes=3.0)
    assert scratch.learning_rate == preset.draft_phase.learning_rate > trained.learning_rate
    assert (scratch.max_epochs, scratch.min_steps) == (2.5, 0)
    assert (trained.max_steps, trained.minutes) == (9, 3.0)
    with pytest.raises(TrainingError, match="must be positive"):
        alignment_phase(preset, trained_start=False, steps=0)
