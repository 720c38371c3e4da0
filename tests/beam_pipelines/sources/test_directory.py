import dataclasses
import os
from pathlib import Path

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Reason
from beam_pipelines.sources import SourceOptions, make_source
from beam_pipelines.sources.directory import ReadDirectory, list_artworks
from tests.beam_pipelines.builders import artwork, outcome, run_rows

OPTIONS = SourceOptions(input="pictures")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"a picture")


def found(folder: Path) -> dict[str, tuple[str, ...]]:
    rows, _ = outcome(list(list_artworks(str(folder), options=OPTIONS)))
    return {row.key: row.labels for row in rows}


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
    rows, _ = outcome(list(list_artworks(str(tmp_path), options=OPTIONS)))
    assert sorted(row.key for row in rows) == sorted(names)
    assert all(Path(row.image_uri).read_bytes() == b"a picture" for row in rows)


def test_a_label_is_clean_though_its_folder_is_not(tmp_path: Path) -> None:
    put(tmp_path, "two\nlines  and spaces /1.jpg")
    assert list(found(tmp_path).values()) == [("two lines and spaces",)]


def test_pictures_given_for_validation_have_keys_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "Japan/1.jpg")
    (row,) = list_artworks(f"{tmp_path}/", options=dataclasses.replace(OPTIONS, split="validation"))
    assert row == artwork("validation/Japan/1.jpg", uri=str(tmp_path / "Japan/1.jpg"), split="validation")
    (row,) = list_artworks(str(tmp_path), options=dataclasses.replace(OPTIONS, split="train"))
    assert row == artwork("Japan/1.jpg", uri=str(tmp_path / "Japan/1.jpg"), split="train")


def test_labels_can_be_filtered_and_put_in_bins(tmp_path: Path) -> None:
    put(tmp_path, "1894/1.jpg", "c. 1900/1.jpg", "1780/1.jpg", "top.jpg")
    options = dataclasses.replace(OPTIONS, bin=100, filter=("label=1894", "label=C. 1900", "label="))
    kept, dropped = outcome(list(list_artworks(str(tmp_path), options=options)))
    assert [(row.key, row.labels) for row in kept] == [("1894/1.jpg", ("1800 to 1899",)), ("top.jpg", ())]
    assert [(row.key, row.reason) for row in dropped] == [
        ("1780/1.jpg", Reason.NOT_MATCHING),
        ("c. 1900/1.jpg", Reason.NOT_A_NUMBER),
    ]


def test_rows_carry_the_label_as_an_attribute_if_asked(tmp_path: Path) -> None:
    put(tmp_path, "Japan/1.jpg")
    options = SourceOptions(input=str(tmp_path), attribute="culture", all_attributes=True)
    ReadDirectory(options).check()
    (row,), _ = outcome(list(list_artworks(str(tmp_path), options=options)))
    assert (row.labels, row.attributes) == (("Japan",), {"label": "Japan"})


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
