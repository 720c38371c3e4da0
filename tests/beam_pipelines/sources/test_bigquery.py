"""The BigQuery source, on an emulator with the real columns of the Met's tables."""

import collections
import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam import pvalue
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from beam_pipelines.artwork import Artwork
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import DROPPED
from beam_pipelines.sources import AttributeSummary, CountingSource, ReadOptions, SourceOptions
from beam_pipelines.sources.bigquery import ReadBigQuery, check_bytes, readable_size, to_artwork
from tests.beam_pipelines.builders import outcome, run_rows
from tests.beam_pipelines.ingest_command import QUICK, ended, information, keys_of, start_ingest
from tests.bigquery_emulator import BigQueryEmulator
from tests.bigquery_emulator.beam_address import lead_beam_to
from tests.bigquery_emulator.the_met import IMAGES, OBJECTS, image_row, object_row
from tests.hostile_server import HostileServer

pytestmark = pytest.mark.slow

_PROJECT = "museum-project"
_MET = f"{_PROJECT}.the_met"
_MIRROR = "gs://gcs-public-data--met"

_WORKS = [
    object_row(1, culture="French", title="A  bridge\n by night", artist_display_name="Nobody", object_begin_date=1894),
    object_row(2, culture=" french\u00a0", department="Drawings", object_begin_date=-50),
    object_row(3, culture="Japan", is_public_domain=False),
    object_row(4, culture=None, title="Nameless", object_begin_date=0),
    object_row(5, culture="France|Italy", department="Drawings", credit_line="Gift", object_begin_date=1901),
    object_row(6, culture="Japan", object_begin_date=1700),
    object_row(7, culture="Japan", department="Arms", object_begin_date=1701),
    object_row(8, culture="Italy", rights_and_reproduction="© its maker", object_date="1850s"),
    object_row(9, culture="Japan"),
    object_row(10, culture="Japan", is_public_domain=None),
    *(object_row(100 + number, culture="Roman", object_begin_date=100 + number) for number in range(12)),
]
_SHARED = f"{_MIRROR}/7/shared.jpg"
_VIEWS = [
    *(image_row(1, number) for number in (10, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 3)),
    image_row(2, 0, url="http://images.example/2/CP x-ray.jpg"),
    image_row(3, 0),
    {**image_row(4, 0), "gcs_url": f"{_MIRROR}/4/a view.jpg"},
    image_row(5, 0),
    {**image_row(7, 0), "gcs_url": _SHARED},
    {**image_row(8, 0), "gcs_url": _SHARED},
    {**image_row(9, 0), "gcs_url": None},
    {**image_row(9, 1), "gcs_url": " "},
    image_row(99, 0),
    *(image_row(100 + number, 0) for number in range(12)),
]


@pytest.fixture(scope="module")
def emulator() -> Iterator[BigQueryEmulator]:
    with BigQueryEmulator(_PROJECT) as running:
        running.load("the_met.objects", OBJECTS, _WORKS)
        running.load("the_met.images", IMAGES, _VIEWS)
        yield running


@pytest.fixture(autouse=True)
def _at_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "emulator" in request.fixturenames:
        variables = request.getfixturevalue("emulator").variables
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        lead_beam_to(variables, monkeypatch.setattr)


class _Paid(beam.PTransform):
    """A source, in a pipeline whose options name the project that pays."""

    def __init__(self, source: ReadBigQuery) -> None:
        super().__init__()
        self._source = source

    def expand(self, begin: pvalue.PBegin) -> Any:
        begin.pipeline.options.view_as(GoogleCloudOptions).project = _PROJECT
        return begin | self._source


def _source(*, input_: str = _MET, reading: ReadOptions | None = None, **options: Any) -> ReadBigQuery:
    given = {"attribute": "culture", "reading": reading or ReadOptions(project=_PROJECT), **options}
    return ReadBigQuery(SourceOptions(input=input_, **given))


def _read(folder: Path, **options: Any) -> tuple[list[Artwork], list[Dropped]]:
    source = _source(**options)
    source.check()
    return run_rows(_Paid(source), folder)


def _counted(rows: Sequence[Artwork]) -> dict[str, int]:
    pictures = {(label, row.image_uri) for row in rows for label in row.labels}
    return dict(sorted(collections.Counter(label for label, _ in pictures).items()))


def test_every_picture_of_every_work_in_the_public_domain_is_read(emulator: BigQueryEmulator, tmp_path: Path) -> None:
    rows, dropped = _read(tmp_path)
    by_key = {row.key: row for row in rows}
    assert len(by_key) == len(rows) == 11 + 5 + 12
    assert [by_key[f"1/{number}"].image_uri for number in range(11)] == [
        f"{_MIRROR}/1/{number}.jpg" for number in range(11)
    ]
    assert by_key["1/7"] == Artwork(
        key="1/7",
        group="1",
        image_uri=f"{_MIRROR}/1/7.jpg",
        labels=("French",),
        attributes={"title": "A bridge by night", "artist": "Nobody"},
    )
    assert by_key["2/0"].labels == ("french",)
    assert by_key["4/0"].labels == ()
    assert by_key["4/0"].image_uri == f"{_MIRROR}/4/a view.jpg"
    assert by_key["5/0"].labels == ("France|Italy",)
    assert by_key["8/0"].attributes == {"date": "1850s", "rights": "© its maker"}
    assert [by_key[key].image_uri for key in ("7/0", "8/0")] == [_SHARED, _SHARED]
    assert [(row.key, row.reason) for row in dropped] == [("6", Reason.NO_IMAGE), ("9", Reason.NO_IMAGE)]
    assert _source().count_values() == _counted(rows)


def test_rows_are_filtered_cut_and_taken_from_the_museum(emulator: BigQueryEmulator, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "filter": ("culture=FRENCH", "culture=italy"),
        "split_values": "|",
        "images_from": "museum",
        "include_restricted": True,
    }
    rows, dropped = _read(tmp_path, **options)
    assert {row.key: row.labels for row in rows if row.group != "1"} == {
        "2/0": ("french",),
        "5/0": ("France", "Italy"),
        "8/0": ("Italy",),
    }
    assert {row.image_uri for row in rows if row.group == "2"} == {"http://images.example/2/CP x-ray.jpg"}
    assert dropped == []
    assert _source(**options).count_values() == _counted(rows) == {"France": 1, "French": 11, "Italy": 2, "french": 1}


def test_a_label_is_not_needed_where_all_attributes_are_read(emulator: BigQueryEmulator, tmp_path: Path) -> None:
    rows, _ = _read(tmp_path, attribute="label", all_attributes=True, filter=("object_id=7",))
    assert [(row.key, row.labels) for row in rows] == [("7/0", ())]


def test_no_data_set_comes_or_goes(emulator: BigQueryEmulator, tmp_path: Path) -> None:
    before = emulator.datasets()
    _read(tmp_path, filter=("culture=Italy",))
    assert emulator.datasets() == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"France|Italy": 1, "French": 11, "Italy": 1, "Japan": 1, "Roman": 12, "french": 1}),
        ({"include_restricted": True, "filter": ("culture=japan",)}, {"Japan": 2}),
        ({"filter": ("culture=France",)}, {}),
        ({"filter": ("culture=France",), "split_values": "|"}, {"France": 1, "Italy": 1}),
        ({"filter": ("culture=",), "attribute": "title"}, {"Nameless": 1}),
        ({"filter": ("department=Arms", "culture=Roman")}, {}),
        (
            {"attribute": "object_begin_date", "bin": 100},
            {"-100 to -1": 1, "0 to 99": 1, "100 to 199": 12, "1700 to 1799": 1, "1800 to 1899": 11, "1900 to 1999": 1},
        ),
        ({"attribute": "is_public_domain", "filter": ("culture=Roman",)}, {"true": 12}),
        ({"attribute": "culture", "bin": 100}, {}),
    ],
)
def test_pictures_are_counted_where_they_lie(
    emulator: BigQueryEmulator, options: dict[str, Any], expected: dict[str, int]
) -> None:
    assert _source(**options).count_values() == expected


def test_a_picture_of_two_works_counts_once_a_label(emulator: BigQueryEmulator) -> None:
    emulator.load("shared.objects", OBJECTS, [object_row(1, culture="Roman"), object_row(2, culture=" Roman")])
    emulator.load("shared.images", IMAGES, [{**image_row(number, 0), "gcs_url": "gs://b/it.jpg"} for number in (1, 2)])
    assert _source(input_=f"{_PROJECT}.shared").count_values() == {"Roman": 1}


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        ("strasse", {"Straße", "STRASSE"}),
        ("Straße", {"Straße", "STRASSE"}),
        ("new york", {"New\u00a0\tYork", "new york"}),
        ("o'neill \\ co", {"O'Neill \\ Co"}),
        ("caf\u00e9", {"Caf\u00e9"}),
        ("100%", {"100%"}),
        ("'; DROP TABLE objects; --", {"'; drop table objects; --"}),
    ],
)
def test_filters_mean_in_sql_what_they_mean_in_lists(
    emulator: BigQueryEmulator, wanted: str, passing: set[str]
) -> None:
    values = ["Straße", "STRASSE", "New\u00a0\tYork", "new york", "O'Neill \\ Co", "Caf\u00e9", "Cafe\u0301", "100%"]
    values += ["'; drop table objects; --", "100 percent", "newyork"]
    if "hostile" not in emulator.datasets():
        emulator.load("hostile.objects", OBJECTS, [object_row(n, title=text) for n, text in enumerate(values)])
        emulator.load("hostile.images", IMAGES, [image_row(n, 0) for n in range(len(values))])
    source = _source(input_=f"{_PROJECT}.hostile", attribute="object_id", filter=(f"title={wanted}",))
    assert {values[int(number)] for number in source.count_values()} == passing


def test_every_attribute_is_summarized(emulator: BigQueryEmulator) -> None:
    source = _source(split_values="|")
    assert isinstance(source, CountingSource)
    summaries = {summary.name: summary for summary in source.summarize_attributes()}
    assert list(summaries) == list(OBJECTS) == source.attribute_names()
    assert summaries["culture"] == AttributeSummary(name="culture", filled=26, distinct=6, frequent=2)
    assert summaries["object_begin_date"].filled == 27
    assert summaries["is_public_domain"] == AttributeSummary(name="is_public_domain", filled=27, distinct=1, frequent=1)
    assert summaries["reign"] == AttributeSummary(name="reign", filled=0, distinct=0, frequent=0)


def test_the_query_is_weighed_before_it_is_run(emulator: BigQueryEmulator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="beam_pipelines"):
        _source().count_values()
        beam.Pipeline(options=PipelineOptions(project=_PROJECT)) | _source()
    assert [record.message for record in caplog.records if "scan" in record.message] == [
        "the query will scan 0 bytes"  # the emulator does not weigh
    ] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"attribute": "colour"},
            r"unknown attribute 'colour' in .*: did you mean 'culture'\? choose one of object_number, .*repos",
        ),
        ({"filter": ("colour=red",)}, "unknown attribute 'colour'"),
        ({"input_": f"{_PROJECT}.the_met.works"}, r"BigQuery has no table museum-project\.the_met\.works"),
        ({"input_": f"{_PROJECT}.nowhere"}, r"BigQuery has no table museum-project\.nowhere\.objects"),
        ({"images_input": f"{_MET}.pictures"}, r"BigQuery has no table museum-project\.the_met\.pictures"),
        ({"images_input": f"{_MET}.objects"}, r"the table museum-project\.the_met\.objects has no column 'gcs_url'"),
        ({"input_": f"{_MET}.images"}, r"the table museum-project\.the_met\.images has no column 'is_public_domain'"),
        ({"reading": ReadOptions()}, "give --project"),
        ({"images_from": "api"}, "--images_from api is not for bigquery: choose one of mirror, museum"),
    ],
)
def test_what_cannot_be_read_is_said_before_any_work(
    emulator: BigQueryEmulator, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        _source(**options).check()


@pytest.mark.parametrize("failure", [OptionError, RunError])
def test_a_query_that_fails_is_one_line(
    emulator: BigQueryEmulator, failure: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_pipelines.sources.bigquery.counts_query", lambda *_: "SELECT ERROR('no more') AS cells")
    if failure is RunError:
        monkeypatch.setattr("beam_pipelines.sources.bigquery._check_scan", lambda *_: None)
    with pytest.raises(failure, match=r"^BigQuery refuses: Query execution failed: .*no more") as raised:
        _source().count_values()
    assert "\n" not in str(raised.value)


def test_export_needs_a_bucket(emulator: BigQueryEmulator) -> None:
    exporting = ReadOptions(project=_PROJECT, bigquery_method="export")
    with pytest.raises(OptionError, match="give gs://BUCKET/FOLDER"):
        beam.Pipeline(options=PipelineOptions(project=_PROJECT)) | _source(reading=exporting)
    pipeline = beam.Pipeline(options=PipelineOptions(project=_PROJECT, temp_location="gs://a-bucket/temp"))
    outputs = pipeline | _source(reading=exporting)  # the emulator cannot export
    assert outputs[DROPPED].pipeline is pipeline


def test_without_credentials_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setattr("beam_pipelines.fetch.cloud_storage._GOOGLE_MACHINE", tmp_path / "none")
    with pytest.raises(OptionError, match="needs Google credentials"):
        _source().check()


def test_a_query_may_scan_what_is_allowed() -> None:
    check_bytes(5_000_000, allowed=0)
    check_bytes(5_000_000, allowed=5_000_000)
    with pytest.raises(OptionError, match="scan 5000001 bytes, more than --max_bytes_billed 5000000"):
        check_bytes(5_000_001, allowed=5_000_000)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (41_234_567, "41.2 MB"), (2_500_000_000_000, "2.5 TB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert readable_size(count) == text


def test_an_object_without_an_id_is_a_bad_row() -> None:
    row = {"object_id": None, "image_uri": None, "number": None, "cell_0": "French"}
    kept, dropped = outcome([to_artwork(row, columns=["culture"], options=SourceOptions(input="p.d"))])
    assert kept == []
    assert [row.reason for row in dropped] == [Reason.BAD_ROW]


def test_rows_carry_all_attributes_on_request() -> None:
    row = {
        "object_id": "7",
        "image_uri": "gs://b/7.jpg",
        "number": 3,
        "cell_0": "Japan",
        "cell_1": None,
        "cell_2": "true",
    }
    columns = ["culture", "reign", "is_highlight"]
    options = SourceOptions(input="p.d", all_attributes=True)
    assert to_artwork(row, columns=columns, options=options) == Artwork(
        key="7/3",
        group="7",
        image_uri="gs://b/7.jpg",
        attributes={"culture": "Japan", "is_highlight": "true"},
    )


def test_the_whole_command(emulator: BigQueryEmulator, tmp_path: Path) -> None:
    with HostileServer() as museum:
        urls = [museum.url(f"/picture/{seed}.jpg?width=90&height=70") for seed in range(8)]
        emulator.load(
            "small.objects",
            OBJECTS,
            [object_row(n, culture="Roman" if n % 2 else "French") for n in range(1, 8)] + [object_row(9)],
        )
        emulator.load(
            "small.images", IMAGES, [*(image_row(n, 0, url=urls[n]) for n in range(1, 8)), image_row(9, 0, url=urls[0])]
        )
        arguments = ["--source", "bigquery", "--input", f"{_PROJECT}.small", "--attribute", "culture", *QUICK]
        arguments += ["--images_from", "museum", "--allow_private_addresses", "--min_images_per_label", "3"]
        output = tmp_path / "dataset"
        arguments += ["--output", str(output), "--project", _PROJECT, "--direct_num_workers", "1"]
        code, said = ended(start_ingest(*arguments))
    assert code == 0, said
    assert "the query will scan 0 bytes" in said
    assert keys_of(output) == {f"{n}/0" for n in range(1, 8)}
    assert information(output)["rejected"] == {"no_label": 1}


def _labels(*arguments: object) -> str:
    command = [sys.executable, "-m", "beam_pipelines.labels", "--source", "bigquery", "--input", _MET]
    ended = subprocess.run(
        [*command, *map(str, arguments), "--project", _PROJECT], capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_labels_command(emulator: BigQueryEmulator, tmp_path: Path) -> None:
    counts, works = tmp_path / "cultures.csv", tmp_path / "works.csv"
    arguments = ["--attribute", "culture", "--split_values", "|", "--output", counts, "--works_output", works]
    printed = _labels(
        *arguments, "--min_images_per_label", 12, "--filter", "culture=roman", "--filter", "culture=italy"
    )
    assert counts.read_text() == "value,count\nRoman,12\nItaly,2\nFrance,1\n"
    assert counts.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "1 values have 12 pictures or more, 12 pictures" in printed
    with works.open(newline="") as file:
        listed = {row["key"]: (row["group"], row["label"]) for row in csv.DictReader(file)}
    assert listed == {
        "5/0": ("5", "France|Italy"),
        "8/0": ("8", "Italy"),
        **{f"{number}/0": (str(number), "Roman") for number in range(100, 112)},
    }


def test_the_labels_command_lists_attributes(emulator: BigQueryEmulator) -> None:
    header, *rows, empty = _labels("--list_attributes").splitlines()
    assert header.split() == ["attribute", "pictures", "values", "values_of_ten"]
    assert ["culture", "26", "6", "2"] in [row.split() for row in rows]
    assert empty.startswith("without any value: ")
    assert len(rows) + len(empty.split(", ")) == len(OBJECTS)
