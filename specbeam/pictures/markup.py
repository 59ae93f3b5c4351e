"""Elements of SVG and HTML as text; everything that is not markup is escaped."""

from html import escape

# Characters that XML 1.0 has not, not even escaped.
_CONTROLS = (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0xFFFE, 0xFFFF)
_FORBIDDEN = dict.fromkeys((*_CONTROLS, *range(0xD800, 0xE000)), "\ufffd")
# HTML closes these by their end tag alone.
_NEVER_EMPTY = ("td", "th", "tbody", "ul", "h1", "p", "div", "span", "b", "li", "footer", "title")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def text_of(value: object) -> Markup:
    """Return a value as markup: escaped, unless it is markup already."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(str(value).translate(_FORBIDDEN), quote=True))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: Tag.
        content: Markup, or text to escape.
        attributes: Values; None leaves one out, floats have two decimals. `_` in a name stands for
            `-`, a leading one is dropped (`_class`).
    """
    told = "".join(
        f' {key.lstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(map(text_of, content))
    return Markup(
        f"<{name}{told}>{inner}</{name}>" if inner or name in _NEVER_EMPTY else f"<{name}{told}/>"
    )


def join(parts: object) -> Markup:
    """Return parts one after the other."""
    return Markup("".join(map(text_of, parts)))  # type: ignore[call-overload]


def short(text: str, limit: int) -> str:
    """Return text of at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def number(value: float, decimals: int = 2) -> str:
    """Return a number with a real minus sign."""
    return f"{value:,.{decimals}f}".replace("-", "\u2212")


def _value(value: object) -> Markup:
    return text_of(f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value)
