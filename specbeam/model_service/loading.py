"""Opening the checkpoints of a bundle."""

from pathlib import Path

from safetensors import SafetensorError

from specbeam.bundle import Bundle, BundleError, load_bundle
from specbeam.decoding.scoring import Scoring
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.devices import device_problem


def open_bundle(directory: Path, device: str) -> Bundle:
    """Return a bundle whose model is to run on `device`.

    Raises:
        BundleError: The bundle is damaged, or the device is not there.
    """
    if (problem := device_problem(device)) is not None:
        raise BundleError([problem])
    return load_bundle(directory)


def load_runner(bundle: Bundle, checkpoint: Path, config: RunnerConfig) -> ModelRunner:
    """Return the model of one of a bundle's checkpoint directories.

    Raises:
        BundleError: It cannot be loaded.
    """
    try:
        return ModelRunner.load(checkpoint, config)
    except (OSError, ValueError, SafetensorError) as error:
        where = checkpoint.relative_to(bundle.path)
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError([f"{where}/ cannot be loaded: {line}"]) from error


def open_search(bundle: Bundle, runner: ModelRunner) -> SearchModel:
    """Join a loaded model with the bundle's catalogue and score convention.

    Raises:
        BundleError: the catalogue does not fit the model.
    """
    try:
        return SearchModel.of(runner, bundle.trie, Scoring(bundle.manifest.score_kind))
    except ValueError as error:
        raise BundleError([str(error)]) from error
