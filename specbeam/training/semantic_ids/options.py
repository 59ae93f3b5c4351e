"""What to make semantic IDs from and how, and the defaults that follow from the dataset."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from specbeam.training.errors import TrainingError
from specbeam.training.semantic_ids.collisions import COLLISION_POLICIES, CollisionPolicy
from specbeam.training.semantic_ids.quantise import BALANCES, Balance

Method = Literal["text", "cooccurrence", "text+cooccurrence", "vectors"]
METHODS: tuple[Method, ...] = ("text", "cooccurrence", "text+cooccurrence", "vectors")

MAX_CODES = 256
MIN_CODES = 4
MIN_LEVELS = 2
MAX_LEVELS = 7
DEFAULT_MIN_LEVELS = 3
# A first code stands for this many items at least, else it tells nothing that the item does not.
ITEMS_PER_CODE = 8
# Paths per item that the levels before the last one should offer.
ROOM = 8


@dataclass(frozen=True, slots=True)
class SemanticIdOptions:
    """How to make semantic IDs; None means: decide by the dataset.

    Attributes:
        method: what embeddings are made from.
        vectors: file of method "vectors".
        levels: code levels, L (one more may be appended by the policy "level").
        codes: codes per level at most, C.
        dims: dimensions of text and co-occurrence embeddings.
        text_weight: share of the squared norm that text has in "text+cooccurrence".
        balance: the levels whose codes are used about equally often: none, all but the first, all.
        collisions: what happens to items with equal paths.
        seed: same seed and dataset, same IDs.
    """

    method: Method | None = None
    vectors: Path | None = None
    levels: int | None = None
    codes: int | None = None
    dims: int = 128
    text_weight: float = 0.5
    balance: Balance = "lower"
    collisions: CollisionPolicy = "reassign"
    seed: int = 0


def check_options(options: SemanticIdOptions) -> None:
    """Check what can be checked without the dataset.

    Raises:
        TrainingError: naming everything that is wrong.
    """
    wrong: list[str] = []
    if options.method is not None and options.method not in METHODS:
        wrong.append(f"method {options.method!r} is not one of {', '.join(METHODS)}")
    if options.collisions not in COLLISION_POLICIES:
        wrong.append(
            f"collisions {options.collisions!r} is not one of {', '.join(COLLISION_POLICIES)}"
        )
    if options.balance not in BALANCES:
        wrong.append(f"balance {options.balance!r} is not one of {', '.join(BALANCES)}")
    if (options.method == "vectors") != (options.vectors is not None) and (
        options.method is not None
    ):
        wrong.append("method vectors and a file of vectors go together")
    if options.levels is not None and not MIN_LEVELS <= options.levels <= MAX_LEVELS:
        wrong.append(f"levels {options.levels}: expected {MIN_LEVELS} to {MAX_LEVELS}")
    if options.codes is not None and not 2 <= options.codes <= MAX_CODES:
        wrong.append(f"codes {options.codes}: expected 2 to {MAX_CODES}")
    if options.dims < 2:
        wrong.append(f"dims {options.dims}: expected 2 or more")
    if not 0 < options.text_weight < 1:
        wrong.append(f"text weight {options.text_weight}: expected more than 0 and less than 1")
    if options.seed < 0:
        wrong.append(f"seed {options.seed}: expected 0 or more")
    if wrong:
        raise TrainingError("; ".join(wrong))


def with_defaults(
    options: SemanticIdOptions, num_items: int, *, has_text: bool, has_pairs: bool
) -> SemanticIdOptions:
    """Fill in what was left open.

    Args:
        options: checked options.
        num_items: N.
        has_text: whether any item says something about itself.
        has_pairs: whether any train history has two items.
    """
    method = options.method
    if method is None and options.vectors is not None:
        method = "vectors"
    if method is None and has_text and has_pairs:
        method = "text+cooccurrence"
    codes = options.codes or default_codes(num_items)
    return replace(
        options,
        method=method or ("text" if has_text else "cooccurrence"),
        codes=codes,
        levels=options.levels or default_levels(num_items, codes),
    )


def default_codes(num_items: int) -> int:
    """Return the largest power of two, 4 to 256, that leaves a first code 8 items or more."""
    codes = MAX_CODES
    while codes > MIN_CODES and codes * ITEMS_PER_CODE > num_items:
        codes //= 2
    return codes


def default_levels(num_items: int, codes: int) -> int:
    """Return the least L >= 3 for which L - 1 levels have eight paths for every item.

    The last level then has few items to tell apart under a prefix, and room to move those that
    collide.

    Args:
        num_items: N.
        codes: C.
    """
    levels = DEFAULT_MIN_LEVELS
    while levels < MAX_LEVELS and codes ** (levels - 1) < ROOM * num_items:
        levels += 1
    return levels
