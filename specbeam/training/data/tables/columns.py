"""Which column of a file holds what."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """Something that a column can hold.

    Attributes:
        name: what it is, for messages.
        option: the option that names its column.
        default: its usual name.
        synonyms: other names it is often found under.
    """

    name: str
    option: str
    default: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The column that was chosen for a role.

    Attributes:
        column: its name.
        guessed: it has neither the usual name nor was it asked for.
    """

    column: str
    guessed: bool = False


USER = Role(
    "users", "--user-field", "user_id", ("user", "uid", "reviewer_id", "customer_id", "visitor_id")
)
ITEM = Role(
    "items",
    "--item-field",
    "item_id",
    ("item", "iid", "asin", "parent_asin", "product_id", "movie_id", "article_id"),
)
TIME = Role(
    "times",
    "--time-field",
    "timestamp",
    ("time", "unix_review_time", "ts", "event_time", "date", "datetime"),
)
RATING = Role("ratings", "--rating-field", "rating", ("overall", "stars", "score"))
ITEM_KEY = Role("item ids", "--items-id-field", ITEM.default, ("id", *ITEM.synonyms))
TITLE = Role("titles", "--title-field", "title", ("name", "item_title", "product_title"))
TOPICS = Role("topics", "--topics-field", "topics")
CREATED_AT = Role("creation times", "--created-field", "created_at")


def find_column(
    role: Role, asked: str | None, names: Sequence[str], problems: list[str], *, needed: bool
) -> Found | None:
    """Choose the column of a role.

    A name that was asked for must be there.  Otherwise the usual name is taken, else the only
    synonym, compared without regard to case and underscores.

    Args:
        role: what the column must hold.
        asked: its name, if the caller gave one.
        names: the columns there are.
        problems: receives why there is none.
        needed: a missing column is a problem.
    """
    if asked is not None or role.default in names:
        column = role.default if asked is None else asked
        if names.count(column) == 1:
            return Found(column)
        known = "appears twice" if column in names else f"is not there; there are {_list(names)}"
        problems.append(f"column {column!r} ({role.option}) {known}")
        return None
    wanted = {_plain(name) for name in (role.default, *role.synonyms)}
    candidates = [name for name in names if _plain(name) in wanted]
    if len(candidates) == 1:
        return Found(candidates[0], guessed=True)
    if candidates:
        problems.append(
            f"{_list(candidates)} may all hold the {role.name}; choose with {role.option}"
        )
    elif needed:
        problems.append(
            f"no column {role.default!r} for the {role.name}; there are {_list(names)}: choose "
            f"with {role.option}"
        )
    return None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "no columns"
