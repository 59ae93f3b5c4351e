"""Plain texts, lists of values and JSON from what item files hold."""

import ast
import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

_SPACES = re.compile(r"\s+")
_TAG = re.compile(r"<[A-Za-z/!?]")
_HIDDEN = ("style", "script")


def plain_text(value: Any) -> str:
    """Return one line of text without markup.

    Tags, comments and style sheets are dropped, entities become characters, the parts of a list
    (or of a text that is one, as in `"['a', 'b']"`) are joined with spaces.

    Args:
        value: a text, a list of texts, a number, or None for nothing.
    """
    return " ".join(text for part in _parts(value) if (text := _one_line(part)))


def plain_values(value: Any) -> tuple[str, ...]:
    """Return the values of a list, of a text that is one, or of a comma-separated text; none twice.

    Args:
        value: a text, a list (of lists) of texts, a number, or None for nothing.
    """
    whole = isinstance(value, str) and not _is_list(value)
    parts = value.split(",") if whole else _parts(value)
    return tuple(dict.fromkeys(text for part in parts if (text := _one_line(part))))


def read_unique_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is none, or an object has a key twice.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"keys appear twice: {', '.join(map(repr, twice[:5]))}")
    return found


def _parts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, however deep its lists are."""
    if isinstance(value, str) and _is_list(value):
        value = _parsed(value)
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part) if isinstance(part, (list, tuple)) else _parts_of_plain(part)
    else:
        yield from _parts_of_plain(value)


def _parts_of_plain(value: Any) -> Iterator[str]:
    if value is not None:
        yield str(value)


def _is_list(text: str) -> bool:
    stripped = text.strip()
    return stripped.startswith("[") and stripped.endswith("]")


def _parsed(text: str) -> Any:
    """Return the list that a text shows as JSON or Python, or the text if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _one_line(text: str) -> str:
    if _TAG.search(text):
        parser = _TextParser()
        parser.feed(text)
        parser.close()
        text = " ".join(parser.texts)
    elif "&" in text:
        text = html.unescape(text)
    return _SPACES.sub(" ", text).strip()


class _TextParser(HTMLParser):
    """Collects the texts between tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in _HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)
