import pytest

from specbeam.training.data.texts import plain_text, plain_values, read_unique_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("  two\n words ", "two words"),
        ("8.5&rdquo; &amp; more", "8.5\u201d & more"),
        ("less < more & 3 > 2", "less < more & 3 > 2"),
        ("<p>one</p><p>two<br/>three</p>", "one two three"),
        ("a<!-- hidden <b> -->b<script>var x = '<p>';</script>c", "a b c"),
        ("<b>open", "open"),
        (["one", None, ["two", "<i>three</i>"]], "one two three"),
        ("['one', 'two']", "one two"),
        ('["one", "two"]', "one two"),
        ("[not a list]", "[not a list]"),
        (12, "12"),
    ],
)
def test_markup_becomes_plain_text(value: object, text: str) -> None:
    assert plain_text(value) == text


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (None, ()),
        ("Office, Ink &amp; Toner,,Office", ("Office", "Ink & Toner")),
        ([["Office", "Ink, black"], ["Office"]], ("Office", "Ink, black")),
        ("[['Office', 'Ink']]", ("Office", "Ink")),
        ("[]", ()),
        (7, ("7",)),
    ],
)
def test_lists_are_read_however_they_are_written(value: object, values: tuple[str, ...]) -> None:
    assert plain_values(value) == values


def test_keys_that_appear_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="'b'"):
        read_unique_json('{"a": {"b": 1, "b": 2}}')
