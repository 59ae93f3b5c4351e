"""The artefact that is served: manifest, target, drafters, prompt and catalogue."""

from specbeam.bundle.files import Bundle, load_bundle, write_bundle
from specbeam.bundle.manifest import BundleError, Fingerprints, LevelTokens, Manifest
from specbeam.bundle.prompt import PromptTemplate, Window

__all__ = [
    "Bundle",
    "BundleError",
    "Fingerprints",
    "LevelTokens",
    "Manifest",
    "PromptTemplate",
    "Window",
    "load_bundle",
    "write_bundle",
]
