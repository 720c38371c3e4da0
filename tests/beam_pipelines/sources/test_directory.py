import os
from pathlib import Path

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.sources import SourceOptions, make_source
from beam_pipelines.sources.directory import ReadDirectory, list_artworks
from tests.beam_pipelines.builders import artwork, run_rows


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"a picture")


def found(folder: Path) -> dict[str, tuple[str, ...]]:
    return {row.key: row.labels for row in list_artworks(str(folder))}


def test_the_first_folder_is_the_label_however_deep_the_picture(tmp_path: Path) -> None:
    put(tmp_path, "Japan/1.jpg", "Japan/Edo/late/2.png", "China/1.jpg")
    assert found(tmp_path) == {
        "China/1.jpg": ("China",),
        "Japan/1.jpg": ("Japan",),
        "Japan/Edo/late/2.png": ("Japan",),
    }


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, ".DS_Store", "Japan/._1.jpg", "Japan/.thumbnails/1.jpg", ".git/config", "Japan/1.jpg")
    assert list(found(tmp_path)) == ["Japan/1.jpg"]


def test_a_file_at_the_top_has_no_label(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    assert found(tmp_path) == {"1.jpg": ()}


def test_odd_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = ["French, Sèvres/a b [1].jpg", "French, Sèvres/雪.jpg", "*/new\nline.jpg", "…/up.jpg"]
    put(tmp_path, *names)
    rows = list(list_artworks(str(tmp_path)))
    assert sorted(row.key for row in rows) == sorted(names)
    assert all(Path(row.image_uri).read_bytes() == b"a picture" for row in rows)


def test_a_label_is_clean_though_its_folder_is_not(tmp_path: Path) -> None:
    put(tmp_path, "two\nlines  and spaces /1.jpg")
    assert list(found(tmp_path).values()) == [("two lines and spaces",)]


def test_pictures_given_for_validation_have_keys_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "Japan/1.jpg")
    (row,) = list_artworks(f"{tmp_path}/", split="validation")
    assert row == artwork("validation/Japan/1.jpg", uri=str(tmp_path / "Japan/1.jpg"), split="validation")
    (row,) = list_artworks(str(tmp_path), split="train")
    assert row.key == "Japan/1.jpg"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"cannot read .*/no: there is no such directory"):
        ReadDirectory(SourceOptions(input=str(tmp_path / "no"))).check()


def test_only_the_label_can_be_the_attribute(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"unknown attribute 'culture'.*choose one of label"):
        ReadDirectory(SourceOptions(input=str(tmp_path), attribute="culture")).check()


def test_a_folder_as_a_source(tmp_path: Path) -> None:
    not_utf8 = os.fsdecode(b"Japan/\xff.jpg")
    put(tmp_path / "pictures", "Japan/new\nline.jpg", "top.jpg", not_utf8)
    source = make_source("directory", SourceOptions(input=str(tmp_path / "pictures")))
    source.check()
    kept, dropped = run_rows(source, tmp_path / "run")
    assert [row.key for row in kept] == ["Japan/new\nline.jpg", not_utf8, "top.jpg"]
    assert dropped == []
