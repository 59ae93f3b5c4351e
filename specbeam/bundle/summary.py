"""What a bundle holds, for people and scripts; no weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from specbeam.bundle.checkpoint import Checkpoint, read_checkpoint
from specbeam.bundle.drafters import MODEL, read_description
from specbeam.bundle.files import Bundle
from specbeam.bundle.manifest import FORMAT_VERSION
from specbeam.bundle.prompt import FixedSegment, PromptTemplate
from specbeam.catalog import ItemTrie
from specbeam.decoding.shape import mean_fan_outs


def summarise(bundle: Bundle) -> dict[str, Any]:
    """Return a summary of a bundle as plain values.

    Raises:
        BundleError: a checkpoint in it cannot be read.
    """
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "format": FORMAT_VERSION,
        "created_at": manifest.created_at,
        "bytes": sum(size for size, _ in manifest.contents.values()),
        "target": _model(bundle, "target/", read_checkpoint(bundle.target_dir)),
        "adapter": bundle.adapter_dir is not None,
        "tokenizer": bundle.tokenizer_dir is not None,
        "drafters": {name: _drafter(bundle, name) for name in manifest.drafters},
        "catalogue": _catalogue(bundle),
        "prompt": {
            "text": describe_prompt(bundle.template),
            "fixed_tokens": len(bundle.template.prefix) + len(bundle.template.suffix),
            "max_tokens": bundle.max_prompt_tokens,
            "window": bundle.template.window.max_items,
            "stride": bundle.template.window.stride,
        },
        "score_kind": manifest.score_kind,
        "default_beam_width": manifest.default_beam_width,
        "exclude_history": manifest.exclude_history,
        "fingerprints": {
            "model": manifest.fingerprints.model,
            "prompt": manifest.fingerprints.prompt,
            "catalog": manifest.fingerprints.catalog,
        },
    }


def describe_prompt(template: PromptTemplate) -> str:
    """Return a prompt template on one line: ids in brackets, texts in quotes."""
    history = template.history
    window = f"the last {history.window.max_items} items"
    if history.separator_text is not None:
        window += f" with {json.dumps(history.separator_text, ensure_ascii=False)} between"
    elif history.separator:
        window += f" with {list(history.separator)} between"
    if history.end_tokens:
        name = "end token" if len(history.end_tokens) == 1 else "end tokens"
        window += f", {name} {'shown' if history.keep_end_tokens else 'left out'}"
    before = [_describe(segment) for segment in template.before]
    return " ".join([*before, f"{{history: {window}}}", *map(_describe, template.after)])


def _describe(segment: FixedSegment) -> str:
    if segment.text is None:
        return str(list(segment.ids))
    return json.dumps(segment.text, ensure_ascii=False)


def _drafter(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return a drafter's kind, with what is known of a model or what another kind says itself."""
    folder, directory = f"drafters/{name}/", bundle.drafter_dir(name)
    description = read_description(directory)
    if description["kind"] != MODEL:
        return {**description, "bytes": _bytes(bundle, folder)}
    return {"kind": MODEL, **_model(bundle, folder, read_checkpoint(directory))}


def _model(bundle: Bundle, folder: str, checkpoint: Checkpoint) -> dict[str, Any]:
    config: Mapping[str, Any] = checkpoint.config
    return {
        "model_type": checkpoint.model_type,
        "parameters": checkpoint.num_parameters,
        "stored_as": checkpoint.dtypes,
        "layers": config.get("num_hidden_layers"),
        "hidden_size": config.get("hidden_size"),
        "vocab_size": checkpoint.vocab_size,
        "max_positions": checkpoint.max_positions,
        "bytes": _bytes(bundle, folder),
    }


def _bytes(bundle: Bundle, folder: str) -> int:
    contents = bundle.manifest.contents.items()
    return sum(size for name, (size, _) in contents if name.startswith(folder))


def _catalogue(bundle: Bundle) -> dict[str, Any]:
    trie, codebooks = bundle.trie, bundle.manifest.levels
    fan_outs = mean_fan_outs(trie)
    levels = [
        {
            "name": codebooks[level].name if codebooks else str(level + 1),
            "codes": codebooks[level].size if codebooks else None,
            "used": len(trie.level_tokens(level + 1)),
            "mean_children_above": round(float(fan_outs[level]), 3),
        }
        for level in range(trie.depth)
    ]
    return {
        "items": trie.num_items,
        "paths": trie.num_leaves,
        "item_length": trie.depth,
        "lengths_differ": trie.has_padding,
        "levels": levels,
        "tags": {name: len(trie.tagged_items(name)) for name in trie.tag_names},
        "with_creation_time": _with_time(trie),
        "interactions": int(trie.popularity.sum(dtype=np.int64)),
    }


def _with_time(trie: ItemTrie) -> int:
    return int((trie.created_ms(np.arange(trie.num_items)) >= 0).sum())
