"""What to read of an interaction log, and how to make a dataset of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from specbeam.training.data.cleaning import Cleaning
from specbeam.training.data.splits import SplitRule

UnknownItems = Literal["error", "drop", "keep"]
UNKNOWN_ITEMS: tuple[UnknownItems, ...] = ("error", "drop", "keep")
TEXT_FIELDS = ("description", "text", "brand", "categories", "features")
TOPICS_FIELDS = ("topics", "categories", "category")


@dataclass(frozen=True, slots=True)
class LogFields:
    """Columns of the interactions, None for the usual names.

    Attributes:
        user: user ids.
        item: item ids.
        time: times.
        rating: ratings; read only when interactions are dropped by rating.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None


@dataclass(frozen=True, slots=True)
class ItemFields:
    """Columns of the items, None for the usual names.

    Attributes:
        item: item ids.
        title: titles.
        texts: joined to an item's text; those of `TEXT_FIELDS` that are there by default.
        topics: subjects; the first of `TOPICS_FIELDS` that is there by default.
        created_at: creation times.
        tags: tag prefix and column: ("brand", "brand") makes tags such as "brand:HP".
    """

    item: str | None = None
    title: str | None = None
    texts: tuple[str, ...] = ()
    topics: str | None = None
    created_at: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TableImport:
    """Everything that decides what dataset is made.

    Attributes:
        interactions: file of interactions.
        items: file of item metadata.
        index: JSON object of item id -> code tokens.
        log_fields: columns of the interactions.
        item_fields: columns of the items.
        unknown_items: what to do with interactions with items that the items file lacks.
        only_seen_items: drop items without interactions.
        keep_rare_items: keep items that lost all their interactions to the minimum numbers.
        cleaning: which interactions are kept.
        split: which of them are train, valid and test.
        name: dataset name; the interactions file's by default.
    """

    interactions: Path
    items: Path | None = None
    index: Path | None = None
    log_fields: LogFields = field(default_factory=LogFields)
    item_fields: ItemFields = field(default_factory=ItemFields)
    unknown_items: UnknownItems = "error"
    only_seen_items: bool = False
    keep_rare_items: bool = False
    cleaning: Cleaning = field(default_factory=Cleaning)
    split: SplitRule = field(default_factory=SplitRule)
    name: str | None = None

    def described(self) -> dict[str, Any]:
        """Return the options that decide the outcome, for the dataset's provenance."""
        options: dict[str, Any] = {
            "min_rating": self.cleaning.min_rating,
            "repeats": self.cleaning.repeats,
            "min_user_interactions": self.cleaning.min_user_interactions,
            "min_item_interactions": self.cleaning.min_item_interactions,
            "unknown_items": self.unknown_items,
            "only_seen_items": self.only_seen_items,
            "keep_rare_items": self.keep_rare_items,
            "split": self.split.method,
        }
        if self.split.method == "global-time":
            shares = {"valid_share": self.split.valid_share, "test_share": self.split.test_share}
            cuts = self.split.cuts
            options |= {"valid_from_ms": cuts[0], "test_from_ms": cuts[1]} if cuts else shares
        return options
