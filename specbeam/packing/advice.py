"""Warnings: what a person should look at before serving a packed bundle."""

from __future__ import annotations

from specbeam.bundle import PromptTemplate
from specbeam.bundle.checkpoint import Checkpoint
from specbeam.packing.catalogue import Catalogue
from specbeam.packing.request import PackRequest

# Families whose searches are tested for equality with transformers.
COMPARED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def find_warnings(
    request: PackRequest,
    checkpoint: Checkpoint,
    template: PromptTemplate,
    catalogue: Catalogue,
) -> list[str]:
    """Return what is no error and may still not be what was meant.

    Args:
        request: what is packed.
        checkpoint: the target.
        template: its prompts.
        catalogue: its items.
    """
    metadata, items = catalogue.metadata, catalogue.items
    longest = template.max_tokens(max(map(len, items.paths)) + len(catalogue.ending))
    found = _model_warnings(checkpoint, longest + catalogue.trie.depth)
    values = {tag.partition(":")[0] for tag in catalogue.trie.tag_names}
    found += [
        f"no item has a value in {field!r}, so there are no tags {prefix + ':...'!r}"
        for prefix, field in request.fields.named_tags
        if prefix not in values
    ]
    if items.cut:
        found.append(f"{items.cut:,} titles were cut after {request.max_title_tokens} tokens")
    if metadata.missing and request.items_file is not None:
        found.append(f"{metadata.missing:,} items have no row in {request.items_file.name}")
    if metadata.unused and request.items_file is not None:
        found.append(f"{metadata.unused:,} rows of {request.items_file.name} are about no item")
    return found


def _model_warnings(checkpoint: Checkpoint, longest: int) -> list[str]:
    """Say what about the model may make answers differ from its training.

    Args:
        checkpoint: the target.
        longest: most tokens of a prompt and an item.
    """
    found = []
    if checkpoint.model_type not in COMPARED_FAMILIES:
        found.append(
            f"models of family {checkpoint.model_type!r} have not been compared with transformers, "
            f"only {', '.join(COMPARED_FAMILIES)}"
        )
    if checkpoint.max_positions is not None and longest > checkpoint.max_positions:
        found.append(
            f"a prompt and an item can reach {longest:,} tokens, the model was made for "
            f"{checkpoint.max_positions:,}: choose a smaller --window"
        )
    sliding = checkpoint.sliding_window
    if sliding is not None and longest > sliding:
        found.append(
            f"a prompt and an item can reach {longest:,} tokens, the model's attention slides over "
            f"{sliding:,} and is served in full: choose a smaller --window"
        )
    return found
