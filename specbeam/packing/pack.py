"""Packing: every input read and checked, then a bundle written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from specbeam.bundle import (
    Bundle,
    BundleError,
    BundleParts,
    HistorySegment,
    LevelTokens,
    PromptTemplate,
    write_bundle,
)
from specbeam.bundle.checkpoint import Checkpoint, read_checkpoint, tokenizer_files
from specbeam.packing.advice import find_warnings
from specbeam.packing.catalogue import Catalogue, read_catalogue
from specbeam.packing.codebooks import find_codebooks
from specbeam.packing.errors import PackError
from specbeam.packing.metadata import write_items
from specbeam.packing.prompts import PromptText, Sample, codes_template, text_template
from specbeam.packing.request import PackRequest
from specbeam.packing.vocabulary import Vocabulary

_SAMPLES = 5

# What is being done, share done in 0 .. 1, remark.
Progress = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Packed:
    """The outcome.

    Attributes:
        bundle: the written bundle.
        report: figures; also in the bundle's report.json.
        warnings: what a person should look at.
    """

    bundle: Bundle
    report: dict[str, Any]
    warnings: tuple[str, ...]


def pack_bundle(request: PackRequest, progress: Progress) -> Packed:
    """Pack a checkpoint with its tokenizer and item index; nothing is trained.

    Args:
        request: what to pack.
        progress: told about each step and about bytes copied.

    Raises:
        BundleError: an input is wrong or does not fit the others; nothing is written.
    """
    if (request.index_file is None) == (request.titles_file is None):
        raise BundleError(["items come from an index or from titles: give one of both"])
    if (request.bundle_dir / "manifest.json").exists() and not request.overwrite:
        raise BundleError([f"{request.bundle_dir} already exists; pass --overwrite to replace it"])
    progress("checkpoint", 0.0, "reading headers")
    checkpoint = _read_checkpoints(request)
    vocabulary = _open_vocabulary(request, checkpoint)
    progress("catalogue", 0.0, "reading items")
    catalogue = read_catalogue(request, checkpoint, vocabulary)
    progress("prompt", 0.0, "tokenising")
    template, warnings = _make_template(request, checkpoint, vocabulary, catalogue)
    levels = _codebooks(request, vocabulary, catalogue)
    warnings += find_warnings(request, checkpoint, template, catalogue)
    report = _report(checkpoint, catalogue, levels, warnings)
    with tempfile.TemporaryDirectory(prefix="specbeam-pack-") as scratch:
        items_file = Path(scratch) / "catalog.parquet"
        write_items(items_file, catalogue.items.item_ids, catalogue.whole_paths, catalogue.metadata)
        parts = BundleParts(
            name=request.name or request.bundle_dir.resolve().name.removesuffix(".bundle"),
            trie=catalogue.trie,
            template=template,
            vocab_size=checkpoint.vocab_size,
            target_dir=request.target_dir,
            levels=levels,
            drafters=request.drafters,
            adapter_dir=request.adapter_dir,
            tokenizer_dir=vocabulary.directory if vocabulary else None,
            items_file=items_file,
            report=report,
            default_beam_width=request.beam_width,
            exclude_history=request.exclude_history,
            score_kind=request.score_kind,
        )
        bundle = write_bundle(request.bundle_dir, parts, _in_bytes(progress))
    return Packed(bundle, report, tuple(warnings))


def _read_checkpoints(request: PackRequest) -> Checkpoint:
    """Read the target's headers and compare the drafters' vocabularies with it."""
    problems: list[str] = []
    found: dict[str, Checkpoint] = {}
    places = {"target": request.target_dir, **request.drafters}
    for name, directory in places.items():
        try:
            found[name] = read_checkpoint(directory)
        except BundleError as error:
            problems += error.problems
    if "target" in found:
        problems += [
            f"drafter {name!r} has a vocabulary of {other.vocab_size:,} tokens, the target one of "
            f"{found['target'].vocab_size:,}"
            for name, other in found.items()
            if other.vocab_size != found["target"].vocab_size
        ]
    if problems:
        raise PackError("models", problems)
    return found["target"]


def _open_vocabulary(request: PackRequest, checkpoint: Checkpoint) -> Vocabulary | None:
    """Load the tokenizer, if there is one."""
    directory = request.tokenizer_dir or request.target_dir
    if request.tokenizer_dir is None and not tokenizer_files(directory):
        return None
    return Vocabulary.load(directory)


def _make_template(
    request: PackRequest,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary | None,
    catalogue: Catalogue,
) -> tuple[PromptTemplate, list[str]]:
    wanted, ending = request.prompt, catalogue.ending
    history = HistorySegment(
        wanted.window, end_tokens=ending, keep_end_tokens=wanted.keep_end_tokens or not ending
    )
    bos = vocabulary.bos if vocabulary else None
    bos = checkpoint.token_id("bos_token_id") if bos is None else bos
    if wanted.bos and bos is None:
        raise BundleError(["neither tokenizer nor checkpoint names a BOS token"])
    if wanted.text is None:
        if wanted.separator and vocabulary is None:
            raise BundleError(["a separator needs a tokenizer: say where with --tokenizer"])
        separator = vocabulary.encode(wanted.separator) if vocabulary else ()
        return codes_template(None if wanted.bos is False else bos, separator, history), []
    if vocabulary is None:
        raise BundleError(["a prompt text needs a tokenizer: say where with --tokenizer"])
    begins = vocabulary.adds_bos if wanted.bos is None else wanted.bos
    return text_template(
        PromptText.parse(wanted.text, wanted.separator),
        vocabulary,
        _samples(catalogue, vocabulary, wanted.keep_end_tokens),
        bos if begins else None,
        history,
    )


def _samples(catalogue: Catalogue, vocabulary: Vocabulary, keep_end_tokens: bool) -> list[Sample]:
    """Return some items spread over the catalogue, as a history shows them."""
    items = catalogue.items
    chosen = np.unique(np.linspace(0, len(items.item_ids) - 1, _SAMPLES).astype(int)).tolist()
    tail = catalogue.ending if keep_end_tokens else ()
    tail_text = vocabulary.text_of(tail) if tail else ""
    return [
        Sample(
            (items.texts[n] if items.texts else vocabulary.text_of(items.paths[n])) + tail_text,
            (*items.paths[n], *tail),
        )
        for n in chosen
    ]


def _codebooks(
    request: PackRequest, vocabulary: Vocabulary | None, catalogue: Catalogue
) -> tuple[LevelTokens, ...]:
    if request.titles_file is not None:
        return ()
    ids = vocabulary.ids if vocabulary else None
    return find_codebooks(catalogue.trie, ids, catalogue.ending)


def _report(
    checkpoint: Checkpoint,
    catalogue: Catalogue,
    levels: tuple[LevelTokens, ...],
    warnings: list[str],
) -> dict[str, Any]:
    trie = catalogue.trie
    sharing = np.bincount(trie.leaves_of(np.arange(trie.num_items)), minlength=trie.num_leaves)
    return {
        "packed": {
            "model_type": checkpoint.model_type,
            "parameters": checkpoint.num_parameters,
            "vocab_size": checkpoint.vocab_size,
            "items": trie.num_items,
            "paths": trie.num_leaves,
            "items_sharing_a_path": int(sharing[sharing > 1].sum()),
            "item_length": trie.depth,
            "end_tokens": list(catalogue.ending),
            "titles_cut": catalogue.items.cut,
            "levels": [{"name": level.name, "codes": level.size} for level in levels],
            "tags": len(trie.tag_names),
            "warnings": warnings,
        }
    }


def _in_bytes(progress: Progress) -> Callable[[str, int, int], None]:
    def tell(what: str, done: int, total: int) -> None:
        progress(
            "copying", done / max(1, total), f"{what}, {done / 1e9:.2f} of {total / 1e9:.2f} GB"
        )

    return tell
