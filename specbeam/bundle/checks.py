"""What must hold between the parts of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from specbeam.bundle.digests import Progress, digest_file, no_progress
from specbeam.bundle.manifest import LevelTokens, Manifest
from specbeam.bundle.prompt import PromptTemplate
from specbeam.catalog import ItemTrie

_CHECKPOINTS = ("target/", "drafters/")
_REQUIRED = ("catalog.idx", "prompt.json", "target/config.json")
_SHOWN_TOKENS = 5


def file_problems(
    path: Path,
    manifest: Manifest,
    *,
    verify: bool,
    checkpoints: bool,
    progress: Progress = no_progress,
) -> list[str]:
    """Compare the files with the manifest.

    Args:
        path: the bundle directory.
        manifest: its manifest.
        verify: compare digests, not only sizes.
        checkpoints: compare those of the models too.
        progress: told about every chunk digested.
    """
    problems: list[str] = []
    total, done = sum(size for size, _ in manifest.contents.values()), 0
    for name, (size, digest) in sorted(manifest.contents.items()):
        file = path / name

        def advance(chunk: int, name: str = name) -> None:
            nonlocal done
            done += chunk
            progress(f"reading {name}", done, total)

        digested = verify and (checkpoints or not name.startswith(_CHECKPOINTS))
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != size:
            problems.append(f"{name} has {file.stat().st_size} bytes, the manifest says {size}")
        elif digested and digest_file(file, advance) != digest:
            problems.append(f"{name} does not match its digest (damaged or edited)")
    problems += [
        f"{name} is not listed in the manifest"
        for name in _REQUIRED
        if name not in manifest.contents
    ]
    return problems


def consistency_problems(manifest: Manifest, template: PromptTemplate, trie: ItemTrie) -> list[str]:
    """Compare manifest, prompt template and catalogue with each other."""
    problems = []
    if trie.fingerprint != manifest.fingerprints.catalog:
        problems.append("catalog.idx is not the catalogue the manifest names")
    if template.fingerprint != manifest.fingerprints.prompt:
        problems.append("prompt.json is not the template the manifest names")
    if trie.depth != manifest.item_length:
        problems.append(f"items have {trie.depth} tokens, the manifest says {manifest.item_length}")
        return problems
    levels = [trie.level_tokens(level) for level in range(1, trie.depth + 1)]
    users = {
        "tokens of items": max(int(tokens[-1]) for tokens in levels),
        "tokens of the prompt": template.largest_token,
        **{f"tokens of level {lv.name}": int(lv.token_ids()[-1]) for lv in manifest.levels},
    }
    problems += [
        f"{what} reach {largest}, the vocabulary has {manifest.vocab_size}"
        for what, largest in users.items()
        if largest >= manifest.vocab_size
    ]
    for level, tokens in zip(manifest.levels, levels, strict=False):
        problems += _codebook_problems(level, tokens)
    return problems


def _codebook_problems(level: LevelTokens, used: np.ndarray) -> list[str]:
    """Name tokens that items use on a level and its codebook has not got."""
    strange = np.setdiff1d(used, level.token_ids())
    if not len(strange):
        return []
    shown = ", ".join(map(str, strange[:_SHOWN_TOKENS].tolist()))
    more = " ..." if len(strange) > _SHOWN_TOKENS else ""
    return [f"level {level.name}: items use tokens that its codebook has not got: {shown}{more}"]
