import os
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.dataset import Feature
from beam_pipelines.image_files import safe_name, write_image
from tests.beam_pipelines.builders import hostile_text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Japan", "Japan"),
        ("French, Sèvres", "French, Sèvres"),
        ("雪舟", "雪舟"),
        ("123/0", "123%2F0"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("a.", "a%2E"),
        (" a ", "%20a%20"),
        ("C:\\x", "C%3A%5Cx"),
        ("100%", "100%25"),
        ("", "%"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert safe_name(text) == name


@given(text=hostile_text)
def test_any_text_is_one_name_that_can_be_read_back(text: str) -> None:
    name = safe_name(text)
    assert os.path.basename(name) == name
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\:*?"<>|\0\n')
    if text and len(name.encode()) < 200:
        assert urllib.parse.unquote(name, errors="surrogatepass") == text


@given(texts=st.lists(hostile_text | st.text(min_size=150, max_size=400), min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_names(texts: list[str]) -> None:
    names = [safe_name(text) for text in texts]
    assert names[0] != names[1]
    assert all(len(name.encode()) <= 200 for name in names)


def test_long_texts_are_cut_between_letters() -> None:
    name = safe_name("é" * 300)
    assert len(name.encode()) <= 200
    assert name != safe_name("é" * 301)


def test_a_picture_lies_in_the_folder_of_each_of_its_labels(tmp_path: Path) -> None:
    example: dict[str, list[bytes]] = {
        Feature.KEY: [b"1/0"],
        Feature.TEXT: ["Sèvres".encode(), b"../x"],
        Feature.ENCODED: [b"a jpeg"],
    }
    write_image(str(tmp_path / "images"), example)
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"images/Sèvres/1%2F0.jpg": b"a jpeg", "images/%2E.%2Fx/1%2F0.jpg": b"a jpeg"}
