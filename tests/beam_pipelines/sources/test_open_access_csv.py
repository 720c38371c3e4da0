import csv
import io
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.sources import ReadOptions, SourceOptions, make_source, open_access_csv
from tests.beam_pipelines.builders import outcome, run_rows
from tests.met_api_server import MetApiServer, met_object

# The headers as the Met published them.
_HEADER_2017 = (
    "Object Number,Is Highlight,Is Public Domain,Object ID,Department,Object Name,Title,Culture,Period,Dynasty,Reign,"
    "Portfolio,Artist Role,Artist Prefix,Artist Display Name,Artist Display Bio,Artist Suffix,Artist Alpha Sort,"
    "Artist Nationality,Artist Begin Date,Artist End Date,Object Date,Object Begin Date,Object End Date,Medium,"
    "Dimensions,Credit Line,Geography Type,City,State,County,Country,Region,Subregion,Locale,Locus,Excavation,River,"
    "Classification,Rights and Reproduction,Link Resource,Metadata Date,Repository"
)
_HEADER_2023 = (
    "Object Number,Is Highlight,Is Timeline Work,Is Public Domain,Object ID,Gallery Number,Department,AccessionYear,"
    "Object Name,Title,Culture,Period,Dynasty,Reign,Portfolio,Constituent ID,Artist Role,Artist Prefix,"
    "Artist Display Name,Artist Display Bio,Artist Suffix,Artist Alpha Sort,Artist Nationality,Artist Begin Date,"
    "Artist End Date,Artist Gender,Artist ULAN URL,Artist Wikidata URL,Object Date,Object Begin Date,Object End Date,"
    "Medium,Dimensions,Credit Line,Geography Type,City,State,County,Country,Region,Subregion,Locale,Locus,Excavation,"
    "River,Classification,Rights and Reproduction,Link Resource,Object Wikidata URL,Metadata Date,Repository,Tags,"
    "Tags AAT URL,Tags Wikidata URL"
)
HEADER_2017, HEADER_2023 = _HEADER_2017.split(","), _HEADER_2023.split(",")


def table(header: list[str], *rows: dict[str, str]) -> str:
    """Returns a catalogue with CRLF line ends; what a row does not give is empty, and its work in the public domain."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({"Is Public Domain": "True", **row})
    return text.getvalue()


def works(*rows: dict[str, str]) -> str:
    return table(HEADER_2023, *rows)


def read(
    folder: Path, catalogue: str, *, images: str = "", attribute: str = "culture", split_values: str = ""
) -> tuple[list[Artwork], list[Dropped]]:
    """Reads a catalogue as ingest does."""
    (folder / "MetObjects.csv").write_text(catalogue, encoding="utf-8-sig", newline="")
    if images:
        (folder / "images.csv").write_text(images)
    options = SourceOptions(
        input=str(folder / "MetObjects.csv"),
        attribute=attribute,
        split_values=split_values,
        images_input=str(folder / "images.csv") if images else "",
    )
    source = make_source("open_access_csv", options)
    source.check()
    return run_rows(source, folder / "run")


def refuses(path: Path, **options: object) -> str:
    """Returns what the check of a catalogue says is wrong."""
    values = {"attribute": "culture", **options}
    with pytest.raises(OptionError) as caught:
        make_source("open_access_csv", SourceOptions(input=str(path), **values)).check()  # type: ignore[arg-type]
    return str(caught.value)


def test_headers_have_the_columns_that_the_met_published() -> None:
    assert (len(HEADER_2017), len(HEADER_2023)) == (43, 54)


WORK = {
    "Object ID": " 45434",
    "Title": "Under the Wave\r\noff Kanagawa  ",
    "Culture": "Japan     ",
    "Artist Display Name": "Katsushika Hokusai",
    "Object Date": "1525      ",
    "Credit Line": "H. O. Havemeyer Collection",
    "Department": "Asian Art",
    "Tags": "Waves|Boats|Waves",
}


@pytest.mark.parametrize("header", [HEADER_2017, HEADER_2023], ids=["2017", "2023"])
def test_a_work_in_either_form_of_the_catalogue(header: list[str], tmp_path: Path) -> None:
    row = {name: value for name, value in WORK.items() if name in header}
    kept, dropped = read(tmp_path, table(header, row))
    assert dropped == []
    assert kept == [
        Artwork(
            key="45434/0",
            group="45434",
            image_uri="gs://gcs-public-data--met/45434/0.jpg",
            labels=("Japan",),
            attributes={
                "title": "Under the Wave off Kanagawa",
                "artist": "Katsushika Hokusai",
                "date": "1525",
                "credit_line": "H. O. Havemeyer Collection",
                "department": "Asian Art",
            },
        )
    ]


def read_alone(path: Path, **options: object) -> tuple[list[Artwork], list[Dropped]]:
    """Reads a catalogue without a pipeline around it."""
    return outcome(list(open_access_csv._read_objects(str(path), options=SourceOptions(input=str(path), **options))))  # type: ignore[arg-type]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue with a good work and rows of every other kind."""
    path = tmp_path / "MetObjects.csv"
    text = works(
        WORK,
        {"Object ID": "2", "Culture": "Iran", "Is Public Domain": "False"},
        {"Object ID": "3", "Is Public Domain": " TRUE "},
        {"Object ID": "4", "Culture": "Iran", "Is Public Domain": ""},
        {"Object ID": "x5", "Culture": "Iran"},
        {"Object ID": "", "Culture": "Iran"},
    )
    path.write_text(f"{text}\r\n1,2,3\r\n", newline="")
    return path


def test_every_row_of_the_catalogue_is_accounted_for(catalogue: Path) -> None:
    kept, dropped = read_alone(catalogue, attribute="culture")
    assert [(row.key, row.labels) for row in kept] == [("45434", ("Japan",)), ("3", ())]
    assert [(row.key, row.reason, row.detail) for row in dropped] == [
        ("2", Reason.NOT_PUBLIC_DOMAIN, ""),
        ("4", Reason.NOT_PUBLIC_DOMAIN, ""),
        ("MetObjects.csv:7", Reason.BAD_ROW, "object id 'x5' is no number"),
        ("MetObjects.csv:8", Reason.BAD_ROW, "object id '' is no number"),
        ("MetObjects.csv:10", Reason.BAD_ROW, "3 columns instead of 54"),
    ]


def test_works_under_copyright_can_be_asked_for(catalogue: Path) -> None:
    kept, dropped = read_alone(catalogue, attribute="culture", include_restricted=True)
    assert [row.key for row in kept] == ["45434", "2", "3", "4"]
    assert {row.reason for row in dropped} == {Reason.BAD_ROW}


def test_values_of_several_are_cut_where_asked(catalogue: Path) -> None:
    assert read_alone(catalogue, attribute="tags")[0][0].labels == ("Waves|Boats|Waves",)
    assert read_alone(catalogue, attribute="tags", split_values="|")[0][0].labels == ("Boats", "Waves")


def test_pictures_come_from_an_image_list_in_its_order(tmp_path: Path) -> None:
    images = (
        "image_uri,note,Object ID\n"
        "http://m/b.jpg,,1\n"
        "http://m/a.jpg,, 1 \n"
        "http://m/of nobody.jpg,,9\n"
        ",,2\n"
        "http://m/hidden.jpg,,3\n"
        "http://m/twice.jpg,,4\n"
        "http://m/short.jpg\n"
    )
    catalogue = works(
        {"Object ID": "1", "Culture": "Japan"},
        {"Object ID": "2", "Culture": "Japan"},
        {"Object ID": "3", "Culture": "Japan", "Is Public Domain": "False"},
        {"Object ID": "4", "Culture": "Japan"},
        {"Object ID": "4", "Culture": "China"},
        {"Object ID": "5", "Culture": "Japan"},
    )
    kept, dropped = read(tmp_path, catalogue, images=images)
    assert [(row.key, row.group, row.image_uri) for row in kept] == [
        ("1/0", "1", "http://m/b.jpg"),
        ("1/1", "1", "http://m/a.jpg"),
        ("4/0", "4", "http://m/twice.jpg"),
    ]
    assert [(row.key, row.uri, row.reason.value) for row in dropped] == [
        ("", "http://m/short.jpg", "no_object"),
        ("2", "", "no_image"),
        ("3", "", "not_public_domain"),
        ("3", "http://m/hidden.jpg", "no_object"),
        ("4", "", "bad_row"),
        ("5", "", "no_image"),
        ("9", "http://m/of nobody.jpg", "no_object"),
        ("images.csv:5", "", "bad_row"),
    ]


def test_an_object_listed_twice_is_the_same_one_whatever_comes_first(tmp_path: Path) -> None:
    found = []
    for number, cultures in enumerate((("Japan", "China"), ("China", "Japan"))):
        rows = [{"Object ID": "4", "Culture": culture} for culture in cultures]
        (tmp_path / str(number)).mkdir()
        kept, _ = read(tmp_path / str(number), works(*rows), images="object_id,image_uri\n4,http://m/4.jpg\n")
        found.append([(row.key, row.labels) for row in kept])
    assert found[0] == found[1]


def test_an_address_by_another_rule(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(works({"Object ID": "7", "Culture": "Japan"}))
    rule = "http://mirror.example/{object_id}/{n}/{object_id}.jpg"
    source = make_source(
        "open_access_csv", SourceOptions(input=str(path), attribute="culture", image_uri_template=rule)
    )
    source.check()
    ((row,), _) = run_rows(source, tmp_path / "run")
    assert row.image_uri == "http://mirror.example/7/{n}/7.jpg"
    assert refuses(path, image_uri_template="http://m/1.jpg") == (
        "--image_uri_template 'http://m/1.jpg' lacks the text {object_id}"
    )


def test_what_is_wrong_with_a_catalogue_is_said_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    assert "there is no such file" in refuses(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 317650992\n")
    assert "is a Git-LFS pointer" in refuses(path)
    path.write_text("uri,label\nu://1,Japan\n")
    assert "is not the Open Access catalogue: it has no column 'object_id'" in refuses(path)
    path.write_text("Object ID,Culture\n1,Japan\n")
    assert "it has no column 'is_public_domain'" in refuses(path)
    make_source("open_access_csv", SourceOptions(input=str(path), attribute="culture", include_restricted=True)).check()


def test_an_unknown_attribute_lists_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(works())
    message = refuses(path, attribute="label")
    assert message.startswith("unknown attribute 'label'")
    assert "object_name, title, culture, period" in message


def test_an_image_list_without_its_header(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(works())
    (tmp_path / "images.csv").write_text("1,http://m/1.jpg\n")
    message = refuses(path, images_input=str(tmp_path / "images.csv"))
    assert message.endswith("images.csv lacks the header of an image list: object_id,image_uri")
    assert "cannot read" in refuses(path, images_input=str(tmp_path / "no.csv"))


def from_api(path: Path, server: MetApiServer, **changes: Any) -> SourceOptions:
    fetch = FetchLimits(max_retries=0, allow_private_addresses=True, requests_per_second=())
    values = {
        "input": str(path),
        "attribute": "culture",
        "images_from": "api",
        "api_address": server.address,
        "reading": ReadOptions(fetch=fetch, answers=str(path.parent / "answers")),
        **changes,
    }
    return SourceOptions(**values)


def test_pictures_come_from_the_collection_api(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(
        works(
            {"Object ID": "1", "Culture": "Iran", "Title": "As catalogued"},
            {"Object ID": "2", "Culture": "Iran", "Is Public Domain": "False"},
            {"Object ID": "3", "Culture": "China"},
            {"Object ID": "4", "Culture": "Iran"},
            {"Object ID": "5", "Culture": "Iran"},
        )
    )
    with MetApiServer({1: met_object(1), 4: met_object(4, isPublicDomain=False)}) as server:
        source = make_source(
            "open_access_csv", from_api(path, server, api_images="primary", filter=("culture=Iran",), split="train")
        )
        source.check()
        kept, dropped = run_rows(source, tmp_path / "run")
    assert kept == [
        Artwork(
            key="1/0",
            group="1",
            image_uri="https://images.metmuseum.example/CRDImages/as/original/DP 1.jpg",
            labels=("Iran",),
            attributes={"title": "As catalogued"},
            split="train",
        )
    ]
    assert [(row.key, row.reason.value) for row in dropped] == [
        ("2", "not_public_domain"),
        ("3", "not_matching"),
        ("4", "not_public_domain"),
        ("5", "no_object"),
    ]
    assert server.take_asked() == ["1", "4", "5"]


@pytest.mark.parametrize("counting", [{"all_attributes": True}, {"carry_attributes": False}], ids=str)
def test_who_only_counts_does_not_ask_the_api(counting: dict[str, bool], tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(works(*({"Object ID": str(number), "Culture": "Iran"} for number in range(5))))
    with MetApiServer() as server:
        counted = from_api(path, server, reading=ReadOptions(), image_uri_template="u://mirror", **counting)
        source = make_source("open_access_csv", counted)
        source.check()
        kept, dropped = run_rows(source, tmp_path / "run")
    assert (len({row.image_uri for row in kept}), dropped, server.asked) == (5, [], [])


def test_where_pictures_cannot_come_from(tmp_path: Path) -> None:
    path = tmp_path / "MetObjects.csv"
    path.write_text(works())
    assert refuses(path, images_from="museum").startswith("--images_from museum: the catalogue has no addresses")
    assert "leave it out" in refuses(path, images_from="api", images_input="images.csv")
    assert "name a directory with --cache_dir" in refuses(path, images_from="api")
