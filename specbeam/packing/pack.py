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
from specbeam.catalog import CatalogError, ItemTrie, pad_paths
from specbeam.packing.codebooks import find_codebooks
from specbeam.packing.errors import PackError
from specbeam.packing.metadata import Metadata, no_metadata, read_metadata, write_items
from specbeam.packing.paths import (
    TOKENS_FIELD,
    ItemPaths,
    check_lengths,
    common_end,
    find_end_token,
    index_paths,
    title_paths,
    without_end,
)
from specbeam.packing.prompts import PromptText, Sample, codes_template, text_template
from specbeam.packing.request import PackRequest
from specbeam.packing.tables import read_rows, shift_ids
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


@dataclass(frozen=True, slots=True)
class _Catalogue:
    """Items with their paths, trie and metadata."""

    items: ItemPaths
    metadata: Metadata
    end_token: int | None
    trie: ItemTrie

    @property
    def whole_paths(self) -> list[tuple[int, ...]]:
        """Vocabulary ids of each item, end tokens included."""
        tail = () if self.end_token is None else (self.end_token,)
        return [(*path, *tail) for path in self.items.paths]


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
    catalogue = _read_catalogue(request, checkpoint, vocabulary)
    progress("prompt", 0.0, "tokenising")
    template, warnings = _make_template(request, checkpoint, vocabulary, catalogue)
    levels = _codebooks(request, vocabulary, catalogue)
    warnings += _warnings(request, checkpoint, template, catalogue)
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


def _read_catalogue(
    request: PackRequest, checkpoint: Checkpoint, vocabulary: Vocabulary | None
) -> _Catalogue:
    items, file = _read_paths(request, vocabulary)
    end_token = _end_token(request, checkpoint, vocabulary, items)
    items = without_end(items, end_token)
    check_lengths(items, end_token, file)
    metadata = _read_items(request, items)
    paths = pad_paths(items.paths, end_token)
    if int(paths.max()) >= checkpoint.vocab_size:
        raise PackError(str(file), _beyond(items, end_token, checkpoint))
    try:
        trie = ItemTrie.build(
            paths,
            items.item_ids,
            metadata.popularity,
            tags=metadata.tag_rows(),
            created_at_ms=metadata.created_at_ms(),
        )
    except CatalogError as error:
        raise PackError(str(file), error.problems) from error
    return _Catalogue(items, metadata, end_token, trie)


def _read_paths(request: PackRequest, vocabulary: Vocabulary | None) -> tuple[ItemPaths, Path]:
    fields = request.fields
    if request.index_file is not None:
        file = request.index_file
        rows = shift_ids(read_rows(file, fields.item_id, TOKENS_FIELD), request.id_offset, file)
        return index_paths(rows, vocabulary, file), file
    assert request.titles_file is not None
    file = request.titles_file
    if vocabulary is None:
        raise BundleError(["titles need a tokenizer: say where with --tokenizer"])
    rows = shift_ids(read_rows(file, fields.item_id, fields.title), request.id_offset, file)
    items = title_paths(
        rows,
        vocabulary,
        file,
        field=fields.title,
        pattern=request.title_format,
        max_tokens=request.max_title_tokens,
        context=PromptText.parse(request.prompt.text).after if request.prompt.text else "",
    )
    return items, file


def _end_token(
    request: PackRequest, checkpoint: Checkpoint, vocabulary: Vocabulary | None, items: ItemPaths
) -> int | None:
    if request.end_token is not None:
        return find_end_token(request.end_token, vocabulary)
    if request.titles_file is None:
        return common_end(items)
    found = vocabulary.eos if vocabulary else None
    found = checkpoint.token_id("eos_token_id") if found is None else found
    if found is None:
        raise BundleError(["the tokenizer names no end of sequence: titles need --end-token"])
    return found


def _read_items(request: PackRequest, items: ItemPaths) -> Metadata:
    fields = request.fields
    file = request.items_file or request.titles_file
    if file is None:
        return no_metadata(items.item_ids)
    rows = shift_ids(read_rows(file, fields.item_id, fields.title), request.id_offset, file)
    return read_metadata(items.item_ids, rows, fields, file)


def _beyond(items: ItemPaths, end_token: int | None, checkpoint: Checkpoint) -> list[str]:
    """Name tokens that the checkpoint has no embedding for."""
    size = checkpoint.vocab_size
    problems = [
        f"item {item_id!r} has token {max(path)}, the checkpoint's vocabulary ends at {size - 1}: "
        "were its embeddings resized before it was saved?"
        for item_id, path in zip(items.item_ids, items.paths, strict=True)
        if max(path) >= size
    ]
    if end_token is not None and end_token >= size:
        problems.append(f"the end token is {end_token}, the vocabulary ends at {size - 1}")
    return problems


def _make_template(
    request: PackRequest,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary | None,
    catalogue: _Catalogue,
) -> tuple[PromptTemplate, list[str]]:
    wanted, end = request.prompt, catalogue.end_token
    history = HistorySegment(
        wanted.window, end_token=end, keep_end_token=wanted.keep_end_token or end is None
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
        _samples(catalogue, vocabulary, wanted.keep_end_token),
        bos if begins else None,
        history,
    )


def _samples(catalogue: _Catalogue, vocabulary: Vocabulary, keep_end_token: bool) -> list[Sample]:
    """Return some items spread over the catalogue, as a history shows them."""
    items, end = catalogue.items, catalogue.end_token
    chosen = np.unique(np.linspace(0, len(items.item_ids) - 1, _SAMPLES).astype(int)).tolist()
    tail = (end,) if end is not None and keep_end_token else ()
    tail_text = vocabulary.text_of(tail) if tail else ""
    return [
        Sample(
            (items.texts[n] if items.texts else vocabulary.text_of(items.paths[n])) + tail_text,
            (*items.paths[n], *tail),
        )
        for n in chosen
    ]


def _codebooks(
    request: PackRequest, vocabulary: Vocabulary | None, catalogue: _Catalogue
) -> tuple[LevelTokens, ...]:
    if request.titles_file is not None:
        return ()
    ids = vocabulary.ids if vocabulary else None
    return find_codebooks(catalogue.trie, ids, catalogue.end_token)


def _warnings(
    request: PackRequest,
    checkpoint: Checkpoint,
    template: PromptTemplate,
    catalogue: _Catalogue,
) -> list[str]:
    found = []
    metadata, items = catalogue.metadata, catalogue.items
    longest = template.max_tokens(max(map(len, items.paths)) + (catalogue.end_token is not None))
    needed = longest + catalogue.trie.depth
    if checkpoint.max_positions is not None and needed > checkpoint.max_positions:
        found.append(
            f"a prompt and an item can reach {needed:,} tokens, the model was made for "
            f"{checkpoint.max_positions:,}: choose a smaller --window"
        )
    if items.cut:
        found.append(f"{items.cut:,} titles were cut after {request.max_title_tokens} tokens")
    if metadata.missing and request.items_file is not None:
        found.append(f"{metadata.missing:,} items have no row in {request.items_file.name}")
    if metadata.unused and request.items_file is not None:
        found.append(f"{metadata.unused:,} rows of {request.items_file.name} are about no item")
    return found


def _report(
    checkpoint: Checkpoint,
    catalogue: _Catalogue,
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
            "end_token": catalogue.end_token,
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
