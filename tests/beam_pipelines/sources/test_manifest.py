import gzip
from pathlib import Path

import pytest

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.sources import SourceOptions, make_source
from beam_pipelines.sources.manifest import Columns, ReadManifest, find_columns, to_artwork
from tests.beam_pipelines.builders import BUCKET, artwork, object_store, outcome, run_rows

OPTIONS = SourceOptions(input="list.csv")


def parse(row: list[str], header: list[str], *, options: SourceOptions = OPTIONS, folder: str = "/lists") -> object:
    return to_artwork(row, find_columns(header, options), folder=folder, where="list.csv:2", options=options)


@pytest.mark.parametrize(
    "first_row",
    [
        ["http://museum.example/1.jpg", "Japan"],
        ["gs://bucket/1.jpg"],
        ["1.jpg", "image"],
        ["http://museum.example/1", "File", "Path"],
        ["./image", "Japan"],
    ],
)
def test_a_list_without_a_header(first_row: list[str]) -> None:
    assert find_columns(first_row, OPTIONS) == Columns()


@pytest.mark.parametrize(
    "name", ["uri", "image_uri", "URL", "Image URL", "gs_uri", "image", "Path", "file", "filename"]
)
def test_a_header_by_its_column_of_addresses(name: str) -> None:
    columns = find_columns(["Obj. No.", "Label", name], OPTIONS)
    assert (columns.uri, columns.label, columns.has_header) == (2, 1, True)


def test_addresses_first_and_then_labels_without_a_header() -> None:
    row = ["gs://bucket/the cat.jpg ", " Japan", "", "China", "Japan "]
    assert parse(row, row) == artwork(
        "gs://bucket/the cat.jpg", uri="gs://bucket/the cat.jpg", labels=["China", "Japan"]
    )


def test_columns_of_a_header_in_any_order() -> None:
    header = ["Title", "group", "culture", "uri", "Credit Line", "key", "date"]
    row = [" The\nWave ", "45434", "Japan", "http://museum.example/1.jpg", "", "45434/0", "1830"]
    found = parse(row, header, options=SourceOptions(input="list.csv", attribute="culture"))
    assert found == artwork(
        "45434/0",
        group="45434",
        uri="http://museum.example/1.jpg",
        attributes={"title": "The Wave", "date": "1830"},
    )


def test_further_labels_after_a_header_whose_last_column_is_the_label() -> None:
    assert parse(["u://1", "a", "b"], ["uri", "label"]) == artwork("u://1", uri="u://1", labels=["a", "b"])
    assert parse(["a", "u://1", "b"], ["label", "uri"]) == artwork("u://1", uri="u://1", labels=["a"])


def test_a_value_is_cut_only_if_asked_for() -> None:
    options = SourceOptions(input="list.csv", split_values="|")
    row = ["u://1", "Japan|China", "x"]
    assert parse(row, row, options=options) == artwork("u://1", uri="u://1", labels=["China", "Japan", "x"])
    assert parse(row[:2], row) == artwork("u://1", uri="u://1", labels=["Japan|China"])


def test_a_row_that_is_short() -> None:
    header = ["uri", "key", "label"]
    assert parse(["u://1"], header) == artwork("u://1", uri="u://1", labels=[])
    (dropped,) = outcome([parse(["", "k", "Japan"], header)])[1]
    assert dropped == Dropped(key="list.csv:2", uri="", reason=Reason.BAD_ROW, detail="the line has no address")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pictures/1.jpg", "/lists/pictures/1.jpg"),
        ("/pictures/1.jpg", "/pictures/1.jpg"),
        ("http://museum.example/1.jpg", "http://museum.example/1.jpg"),
        ("gs://bucket/1.jpg", "gs://bucket/1.jpg"),
    ],
)
def test_relative_paths_start_where_the_list_lies(uri: str, expected: str) -> None:
    assert parse([uri, "Japan"], [uri, "Japan"]) == artwork(expected, uri=expected)


def test_a_given_split_marks_every_row() -> None:
    options = SourceOptions(input="list.csv", split="validation")
    assert parse(["u://1", "a"], ["uri", "label"], options=options) == artwork(
        "u://1", uri="u://1", labels=["a"], split="validation"
    )


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("", ""),
        ("train", "train"),
        (" Training ", "train"),
        ("validation", "validation"),
        ("VALID", "validation"),
        ("val", "validation"),
        ("eval", "validation"),
        ("dev", "validation"),
        ("test", "validation"),
    ],
)
def test_a_column_may_say_the_split(text: str, split: str) -> None:
    found = parse(["u://1", text, "a"], ["uri", "split", "label"])
    assert found == artwork("u://1", uri="u://1", labels=["a"], split=split)


def test_the_split_of_a_whole_list_wins_over_that_of_a_row() -> None:
    options = SourceOptions(input="list.csv", split="train")
    found = parse(["u://1", "test", "a"], ["uri", "split", "label"], options=options)
    assert found == artwork("u://1", uri="u://1", labels=["a"], split="train")


@pytest.mark.parametrize("text", ["holdout", "0", "train,validation", "tr\nain"])
def test_a_row_of_an_unknown_split_is_rejected_where_it_stands(text: str) -> None:
    (dropped,) = outcome([parse(["u://1", text, "a"], ["uri", "split", "label"])])[1]
    assert (dropped.key, dropped.uri, dropped.reason) == ("list.csv:2", "u://1", Reason.BAD_ROW)
    assert dropped.detail.startswith(f"split {' '.join(text.split())!r} is none of train, training, validation,")


@pytest.mark.parametrize("name", ["split", "key", "group", "uri"])
def test_identity_and_split_are_no_labels_and_no_filters(name: str) -> None:
    header = ["uri", "key", "group", "split", "label"]
    expected = f"unknown attribute '{name}'.*choose one of label$"
    with pytest.raises(OptionError, match=expected):
        find_columns(header, SourceOptions(input="list.csv", attribute=name))
    with pytest.raises(OptionError, match=expected):
        find_columns(header, SourceOptions(input="list.csv", filter=(f"{name}=x",)))


def test_any_other_column_can_be_a_filter() -> None:
    header = ["uri", "label", "Medium"]
    options = SourceOptions(input="list.csv", filter=("medium=silk",))
    assert parse(["u://1", "a", "Silk "], header, options=options) == artwork("u://1", uri="u://1", labels=["a"])
    for row in (["u://1", "a", "Wood"], ["u://1", "a"]):
        (dropped,) = outcome([parse(row, header, options=options)])[1]
        assert (dropped.reason, dropped.detail) == (Reason.NOT_MATCHING, "medium")


def test_a_list_without_a_header_can_be_filtered_by_its_label() -> None:
    options = SourceOptions(input="list.csv", filter=("label=japan",))
    assert parse(["u://1", "Japan"], ["u://1"], options=options) == artwork("u://1", uri="u://1", labels=["Japan"])
    (dropped,) = outcome([parse(["u://1", "Iran"], ["u://1"], options=options)])[1]
    assert dropped.reason is Reason.NOT_MATCHING


def test_rows_carry_every_attribute_if_asked_and_need_no_label(tmp_path: Path) -> None:
    options = SourceOptions(input="list.csv", all_attributes=True)
    header = ["uri", "key", "Medium", "title", "split"]
    assert parse(["u://1", "k", " Silk\n", "", "test"], header, options=options) == artwork(
        "k", uri="u://1", labels=[], split="validation", attributes={"medium": "Silk"}
    )
    assert parse(["u://1", "Japan"], ["u://1"], options=options) == artwork(
        "u://1", uri="u://1", labels=["Japan"], attributes={"label": "Japan"}
    )
    (tmp_path / "list.csv").write_text("uri,key,Medium,title\nu://1,1,Silk,\n")
    source = ReadManifest(SourceOptions(input=str(tmp_path / "list.csv")))
    assert source.attribute_names() == ["medium", "title"]


def test_unknown_attribute_names_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("uri,key,culture,period\nu://1,1,Japan,Edo\n")
    with pytest.raises(OptionError, match=r"unknown attribute 'label' in .*list.csv: choose one of culture, period"):
        ReadManifest(SourceOptions(input=str(path))).check()
    ReadManifest(SourceOptions(input=str(path), attribute="period")).check()


def test_unknown_attribute_of_a_list_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("u://1,Japan\n")
    with pytest.raises(OptionError, match=r"unknown attribute 'culture'.*choose one of label"):
        ReadManifest(SourceOptions(input=str(path), attribute="culture")).check()


def test_missing_and_empty_lists(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"cannot read .*no\.csv: there is no such file"):
        ReadManifest(SourceOptions(input=str(tmp_path / "no.csv"))).check()
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(OptionError, match=r"empty\.csv is empty"):
        ReadManifest(SourceOptions(input=str(tmp_path / "empty.csv"))).check()


def test_several_lists_each_in_a_form_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes('\ufeffuri,label\r\n"u://a, b",French\r\n\r\n,Japan\r\n'.encode())
    (tmp_path / "2.csv").write_text('u://2,"French, Paris"\nu://3\n')
    (tmp_path / "3.csv.gz").write_bytes(gzip.compress(b"label,url\nIran,u://4\n"))
    source = make_source("manifest", SourceOptions(input=str(tmp_path / "*.csv*")))
    source.check()
    kept, dropped = run_rows(source, tmp_path / "run")
    assert kept == [
        artwork("u://2", uri="u://2", labels=["French, Paris"]),
        artwork("u://3", uri="u://3", labels=[]),
        artwork("u://4", uri="u://4", labels=["Iran"]),
        artwork("u://a, b", uri="u://a, b", labels=["French"]),
    ]
    assert [(row.key, row.reason, row.detail) for row in dropped] == [
        ("1.csv:4", Reason.BAD_ROW, "the line has no address")
    ]


def test_a_list_in_an_object_store(tmp_path: Path) -> None:
    with object_store():
        files.write_bytes(f"{BUCKET}/lists/a.csv", b"uri,label\n1.jpg,Japan\n")
        files.write_bytes(f"{BUCKET}/lists/b.csv.gz", gzip.compress(b"gs://other/2.jpg,Iran\n"))
        source = ReadManifest(SourceOptions(input=f"{BUCKET}/lists/*.csv*"))
        source.check()
        kept, dropped = run_rows(source, tmp_path)
        with pytest.raises(OptionError, match=r"cannot read gs://a-bucket/no/\*"):
            ReadManifest(SourceOptions(input=f"{BUCKET}/no/*")).check()
    assert kept == [
        artwork(f"{BUCKET}/lists/1.jpg", uri=f"{BUCKET}/lists/1.jpg"),
        artwork("gs://other/2.jpg", uri="gs://other/2.jpg", labels=["Iran"]),
    ]
    assert dropped == []
