import pytest

from tauten.structure.cells import LONGEST, missing, short, some, text_problem, whole_text


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *(
            (None, True),
            (float("nan"), True),
            ("", True),
            (" \n", True),
            ("nan", False),
            (0, False),
        ),
        *(("\ufeff", True), ("\0 \u200b\u2060", True), ("a\u200b", False)),
    ],
)
def test_missing(value, wanted):
    assert missing(value) is wanted


def test_texts_that_cannot_be_used():
    assert text_problem("ein Hünd \U0001f600") is None
    assert text_problem("half \ud83d") == (
        "half a character: \\ud83d at position 5, as of an emoji cut in two"
    )
    assert str(text_problem("x" * (LONGEST + 1))).startswith("caption too long: 20,001 characters")
    assert text_problem("x" * (LONGEST + 1), longest=None) is None
    assert whole_text("half \ud83d, whole \U0001f600") == "half \ufffd, whole \U0001f600"


def test_lists_and_texts_made_short():
    assert some("abcdefg", 3) == "a, b, c and 4 more"
    assert some("ab", 3) == "a, b"
    assert short("x" * 60_000, 10) == "x" * 10 + "… (60,000 characters)"
