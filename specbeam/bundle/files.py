"""Loading bundle directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specbeam.bundle.checks import consistency_problems, file_problems
from specbeam.bundle.drafters import MODEL, read_description
from specbeam.bundle.manifest import BundleError, Manifest
from specbeam.bundle.prompt import PromptTemplate
from specbeam.catalog import CatalogError, ItemTrie


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle; model weights stay on disk until an engine opens them.

    Attributes:
        path: the directory.
        manifest: parsed manifest.
        template: prompt template.
        trie: catalogue.
    """

    path: Path
    manifest: Manifest
    template: PromptTemplate
    trie: ItemTrie

    @property
    def target_dir(self) -> Path:
        """Hugging Face checkpoint of the target."""
        return self.path / "target"

    @property
    def adapter_dir(self) -> Path | None:
        """LoRA adapter of the target in peft's layout, if there is one."""
        return self._folder("target/adapter")

    @property
    def tokenizer_dir(self) -> Path | None:
        """Tokenizer files, if there are any; serving needs none."""
        return self._folder("tokenizer")

    @property
    def items_file(self) -> Path:
        """Titles and topics; may be absent."""
        return self.path / "catalog.parquet"

    def drafter_dir(self, name: str) -> Path:
        """Directory of a drafter."""
        return self.path / "drafters" / name

    def drafters_of(self, kind: str) -> tuple[str, ...]:
        """Return the names of the drafters of a kind, in the manifest's order.

        Raises:
            BundleError: a drafter does not say of what kind it is.
        """
        names = self.manifest.drafters
        return tuple(n for n in names if read_description(self.drafter_dir(n))["kind"] == kind)

    def model_drafters(self) -> tuple[str, ...]:
        """Return the names of the drafters that are models, which the draft service can run.

        Raises:
            BundleError: a drafter does not say of what kind it is.
        """
        return self.drafters_of(MODEL)

    @property
    def max_prompt_tokens(self) -> int:
        """Length of the longest prompt the template renders."""
        return self.template.max_tokens(self._longest_item_shown)

    @property
    def _longest_item_shown(self) -> int:
        history, depth = self.template.history, self.trie.depth
        ending = len(history.end_tokens)
        if history.keep_end_tokens or ending > depth:
            return depth
        last = range(depth - ending + 1, depth + 1)
        ended = all(
            set(self.trie.level_tokens(level).tolist()) <= set(history.end_tokens) for level in last
        )
        return depth - ending if ended else depth

    def _folder(self, name: str) -> Path | None:
        listed = any(file.startswith(f"{name}/") for file in self.manifest.contents)
        return self.path / name if listed else None


def load_bundle(directory: Path | str, *, verify: bool = True, checkpoints: bool = True) -> Bundle:
    """Load a bundle.

    Args:
        directory: the bundle directory.
        verify: compare every file with the digest in the manifest.
        checkpoints: verify those of the models too; not needed where no model is opened.

    Raises:
        BundleError: naming every problem found.
    """
    path = Path(directory)
    manifest = Manifest.from_json(_read_text(path, "manifest.json"), path)
    problems = file_problems(path, manifest, verify=verify, checkpoints=checkpoints)
    if problems:
        raise BundleError(problems)
    try:
        template = PromptTemplate.from_json(_read_text(path, "prompt.json"))
        trie = ItemTrie.load(path / "catalog.idx", verify=verify)
    except (CatalogError, ValueError) as error:
        raise BundleError([str(error)]) from error
    problems = consistency_problems(manifest, template, trie)
    if problems:
        raise BundleError(problems)
    return Bundle(path, manifest, template, trie)


def _read_text(path: Path, name: str) -> str:
    try:
        return (path / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BundleError([f"{path} is not a bundle: {name} is missing"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError([f"{path / name} cannot be read: {error}"]) from error
