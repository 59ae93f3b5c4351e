"""The artefact that is served: manifest, target, drafters, prompt and catalogue."""

from specbeam.bundle.files import Bundle, load_bundle
from specbeam.bundle.manifest import BundleError, Fingerprints, LevelTokens, Manifest
from specbeam.bundle.prompt import FixedSegment, HistorySegment, PromptTemplate, Window
from specbeam.bundle.writing import BundleParts, check_destination, write_bundle

__all__ = [
    "Bundle",
    "BundleError",
    "BundleParts",
    "Fingerprints",
    "FixedSegment",
    "HistorySegment",
    "LevelTokens",
    "Manifest",
    "PromptTemplate",
    "Window",
    "check_destination",
    "load_bundle",
    "write_bundle",
]
