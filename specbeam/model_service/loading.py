"""Opening a bundle's models."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from specbeam.bundle import Bundle, BundleError, Manifest, load_bundle
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


def drafter_kind(bundle: Bundle, drafter: str) -> str:
    """Return the kind of one of a bundle's drafters.

    Raises:
        BundleError: Its description cannot be read.
    """
    try:
        text = (bundle.drafter_dir(drafter) / "drafter.json").read_text(encoding="utf-8")
        return str(json.loads(text)["kind"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError([f"drafters/{drafter}/drafter.json cannot be read: {error}"]) from error


def scoring_of(manifest: Manifest) -> Scoring:
    """Return the score convention of a bundle, with its codebooks if it has any."""
    return Scoring(manifest.score_kind, manifest.codebooks())


def open_search(bundle: Bundle, runner: ModelRunner) -> SearchModel:
    """Join a model and its bundle's catalogue under the bundle's score convention.

    Raises:
        BundleError: They do not fit each other.
    """
    try:
        return SearchModel.of(runner, bundle.trie, scoring_of(bundle.manifest))
    except ValueError as error:
        raise BundleError([str(error)]) from error


def empty_prompt(bundle: Bundle) -> np.ndarray:
    """Return the prompt of a user without a history, vocabulary ids.  Shape (P,), int64."""
    nothing = np.zeros((0, bundle.trie.depth), np.int32)
    return bundle.template.render(nothing).astype(np.int64)
