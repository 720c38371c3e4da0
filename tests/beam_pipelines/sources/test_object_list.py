import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.rejects import Dropped
from beam_pipelines.sources import ReadOptions, SourceOptions, make_source
from beam_pipelines.sources.object_list import describe, parse_object_id, read_objects
from tests.beam_pipelines.builders import hostile_text, outcome, run_rows
from tests.met_api_server import MetApiServer, met_object

PAGE = "https://www.metmuseum.org/art/collection/search"


@pytest.fixture
def server() -> Iterator[MetApiServer]:
    with MetApiServer({number: met_object(number) for number in (1, 2, 3)}) as running:
        yield running


def options(path: Path, **changes: Any) -> SourceOptions:
    fetch = FetchLimits(max_retries=0, allow_private_addresses=True, requests_per_second=())
    reading = ReadOptions(fetch=fetch, answers=str(path.parent / "answers"))
    return SourceOptions(**{"input": str(path), "attribute": "culture", "reading": reading, **changes})


def read(path: Path, **changes: Any) -> tuple[list[Artwork], list[Dropped]]:
    """Reads a list as ingest does."""
    source = make_source("object_list", options(path, **changes))
    source.check()
    return run_rows(source, path.parent / "run")


@pytest.mark.parametrize(
    "text",
    [
        "45434",
        " 45434 ",
        "045434",
        f"{PAGE}/45434",
        f"{PAGE}/45434/",
        f"{PAGE}/45434?ft=hokusai&pos=1",
        f"{PAGE}/45434/?ft=hokusai#reviews",
        "http://metmuseum.org/art/collection/search/45434",
        "HTTP://WWW.METMUSEUM.ORG/art/collection/search/45434",
    ],
)
def test_an_object_by_its_id_or_its_page(text: str) -> None:
    assert parse_object_id(text) == "45434"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x45434",
        "-1",
        "4.5",
        "45434?pos=1",
        "٤٥",
        "9" * 19,
        f"{PAGE}/",
        f"{PAGE}/45434x",
        f"{PAGE}/45434/6",
        "www.metmuseum.org/art/collection/search/45434",
        "https://metmuseum.org.example/art/collection/search/45434",
        "https://example.org/art/collection/search/45434",
    ],
)
def test_what_is_no_object(text: str) -> None:
    assert parse_object_id(text) == ""


@given(hostile_text)
def test_any_text_is_an_id_or_none(text: str) -> None:
    object_id = parse_object_id(text)
    assert object_id == "" or (object_id.isascii() and object_id.isdecimal())


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (f"2\r\n\r\n{PAGE}/1,a note\r\n2\r\n", ["2", "1", "2"]),
        ("Title,Object ID\nhat,1\nshoe,2\n", ["1", "2"]),
        (f"objectID,link_resource\n1,{PAGE}/9\n", ["1"]),
        (f"note,Link Resource\nx,{PAGE}/2\n", ["2"]),
        (f"url\n{PAGE}/3\n", ["3"]),
        (f"isHighlight,objectURL\nTrue,{PAGE}/3\n", ["3"]),
    ],
)
def test_lists_of_objects(text: str, ids: list[str], tmp_path: Path) -> None:
    for name, data in (("list.txt", text.encode("utf-8-sig")), ("list.csv.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(data)
        kept, dropped = outcome(list(read_objects(str(tmp_path / name))))
        assert ([row.key for row in kept], dropped) == (ids, [])


def test_lines_that_name_no_object_are_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("note,object_id\nx,1\nx,one\nx\n")
    kept, dropped = outcome(list(read_objects(str(path))))
    assert [row.key for row in kept] == ["1"]
    assert [(row.key, row.reason.value, row.detail) for row in dropped] == [
        ("list.csv:3", "bad_row", "'one' is neither an object's id nor its page"),
        ("list.csv:4", "bad_row", "'' is neither an object's id nor its page"),
    ]


def test_objects_come_with_what_the_api_tells_of_them(server: MetApiServer, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"1\n{PAGE}/2\nnonsense\n1\n404\n")
    server.objects[2] = met_object(2, culture="", primaryImageSmall="", department=7)
    kept, dropped = read(path, api_address=server.address, split="train")
    carried = {
        "title": "Under the Wave off Kanagawa",
        "artist": "Katsushika Hokusai",
        "date": "ca. 1830–32",
        "credit_line": "H. O. Havemeyer Collection",
    }
    first = Artwork(
        key="1/0",
        group="1",
        image_uri="https://images.metmuseum.example/CRDImages/as/web-large/DP 1.jpg",
        labels=("Japan",),
        attributes={**carried, "department": "Asian Art"},
        split="train",
    )
    second = Artwork(
        key="2/0",
        group="2",
        image_uri="https://images.metmuseum.example/CRDImages/as/original/DP 2.jpg",
        labels=(),
        attributes={**carried, "department": "7"},
        split="train",
    )
    assert kept == [first, first, second]
    assert [(row.key, row.reason.value) for row in dropped] == [("404", "no_object"), ("list.txt:3", "bad_row")]
    assert server.take_asked() == ["1", "2", "404"]


def test_labels_filters_and_bins_go_by_the_answer(server: MetApiServer, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1\n2\n3\n")
    server.objects[2] = met_object(2, tags=None, objectBeginDate=1799, isHighlight=True)
    server.objects[3] = met_object(3, tags=[{"term": "Boats"}, "x", {"term": None}], objectBeginDate="about 1800")
    tags, _ = read(path, api_address=server.address, attribute="tags", split_values="|")
    assert [row.labels for row in tags] == [("Boats", "Waves"), (), ("Boats",)]
    years, no_years = read(path, api_address=server.address, attribute="object_begin_date", bin=100)
    assert [row.labels for row in years] == [("1800 to 1899",), ("1700 to 1799",)]
    assert [(row.key, row.reason.value) for row in no_years] == [("3", "not_a_number")]
    highlights, others = read(path, api_address=server.address, filter=("is_highlight=true",))
    assert [row.key for row in highlights] == ["2/0"]
    assert [(row.key, row.reason.value) for row in others] == [("1", "not_matching"), ("3", "not_matching")]


def test_every_attribute_or_none() -> None:
    row = Artwork(key="1", group="1", image_uri="")
    every = describe(row, met_object(1), options=SourceOptions(input="", all_attributes=True))
    assert isinstance(every, Artwork)
    assert every.labels == ()
    assert (every.attributes["object_id"], every.attributes["tags"]) == ("1", "Waves|Boats")
    none = describe(row, met_object(1), options=SourceOptions(input="", attribute="culture", carry_attributes=False))
    assert none == Artwork(key="1", group="1", image_uri="", labels=("Japan",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "/nowhere/list.txt"}, "there is no such file"),
        ({"attribute": "label"}, "unknown attribute 'label'"),
        ({"filter": ("tag=Waves",)}, "unknown attribute 'tag'"),
        ({"images_from": "museum"}, "--images_from museum: a list of objects has its pictures from the collection API"),
        ({"images_input": "images.csv"}, "leave it out"),
        ({"api_address": "http://m/"}, "lacks the text {object_id}"),
        ({"reading": ReadOptions()}, "--cache_dir"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1\n")
    with pytest.raises(OptionError) as caught:
        make_source("object_list", options(path, **changes)).check()
    assert message in str(caught.value)
    make_source("object_list", options(path, images_from="api")).check()


def test_an_empty_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n")
    with pytest.raises(OptionError, match="is empty"):
        make_source("object_list", options(path)).check()


def test_names_of_attributes_are_the_apis() -> None:
    source = make_source("object_list", SourceOptions(input=""))
    assert {"object_id", "culture", "tags", "artist_ulan_url", "gallery_number"} < set(source.attribute_names())
    assert source.class_names() == ()
