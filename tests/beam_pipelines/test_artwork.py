import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.artwork import MAX_ATTRIBUTE_CHARACTERS, MAX_LABEL_CHARACTERS, clean_labels, clean_text, stable_hash
from tests.beam_pipelines.builders import hostile_text


@pytest.mark.parametrize(
    ("text", "salt", "expected"),
    [
        ("", "", 8238016292129134938),
        ("435868/0", "", 131612886073365967),
        ("435868", "split", 3545289485814940567),
        ("gs://gcs-public-data--met/1/0.jpg", "shard", 8362695033514837092),
        ("Sèvres \udcff\n", "rank", 8848269540488466713),
    ],
)
def test_hashes_stay_the_same_in_every_version(text: str, salt: str, expected: int) -> None:
    assert stable_hash(text, salt=salt) == expected


@given(hostile_text, st.sampled_from(["", "split", "shard", "rank", "a salt that is too long for it"]))
def test_hash_of_any_text_is_in_its_range(text: str, salt: str) -> None:
    assert 0 <= stable_hash(text, salt=salt) < 1 << 63


def test_hashes_of_other_salts_are_others() -> None:
    assert len({stable_hash("1", salt=salt) for salt in ("", "split", "shard", "rank")}) == 4


def test_hashes_are_spread_evenly() -> None:
    low = sum(stable_hash(str(number)) < 1 << 62 for number in range(10_000))
    assert 4_700 < low < 5_300


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  Bamboo  in the\tWind\r\n ", "Bamboo in the Wind"),
        ("1525      ", "1525"),
        ("bell\x07 and\x00 escape\x1b[31m", "bell and escape [31m"),
        ("line\u2028separator\x85and more", "line separator and more"),
        ("a file name \udcff", "a file name"),
        ("Vénus de Milo 雪舟", "Vénus de Milo 雪舟"),
        (" \n\t", ""),
        ("", ""),
    ],
)
def test_clean_text(value: str, expected: str) -> None:
    assert clean_text(value) == expected


def test_clean_text_cuts_what_is_too_long_and_shows_it() -> None:
    assert clean_text("x" * 200) == "x" * 200
    assert clean_text("x" * 201) == "x" * 199 + "…"
    assert clean_text("x" * 10, max_characters=4) == "xxx…"


@given(hostile_text)
def test_clean_text_is_one_clean_line_whatever_comes(value: str) -> None:
    text = clean_text(value * 20)
    assert len(text) <= MAX_ATTRIBUTE_CHARACTERS
    assert text.isprintable()
    assert text == " ".join(text.split())
    assert text.encode().splitlines() in ([text.encode()], [])
    assert clean_text(text) == text


def test_clean_labels_are_distinct_and_sorted() -> None:
    assert clean_labels(["Japan", " China ", "", "Japan", "\t"]) == ("China", "Japan")


def test_clean_labels_are_cut_only_where_asked() -> None:
    assert clean_labels(["Japan|China| |Japan"]) == ("Japan|China| |Japan",)
    assert clean_labels(["Japan|China| |Japan", "Iran"], separator="|") == ("China", "Iran", "Japan")
    assert clean_labels(["French, Paris"], separator="|") == ("French, Paris",)


def test_clean_labels_cut_what_is_too_long() -> None:
    (label,) = clean_labels(["x" * 1000])
    assert len(label) == MAX_LABEL_CHARACTERS


def test_no_label_is_made_of_nothing() -> None:
    assert clean_labels([]) == ()
    assert clean_labels(["", " \n"], separator="|") == ()
