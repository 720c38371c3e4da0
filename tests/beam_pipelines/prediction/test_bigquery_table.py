"""Loading a table: the stream of all files, and load jobs on an emulator."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.prediction.bigquery_table import FilesInTurn, check_table, load_table
from beam_pipelines.sources.bigquery import open_client
from beam_pipelines.sources.bigquery_sql import Table
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.bigquery_emulator import BigQueryEmulator

PROJECT = "museum-project"
TABLE = Table(PROJECT, "results", "predictions")
ROWS = [
    {"key": "a", "prediction": 1, "label": "hat", "score": 0.5, "labels": ["hat"], "scores": [0.5, 0.25]},
    {"key": "b 帽", "prediction": 0, "label": "shoe", "score": 1e-9, "labels": [], "scores": [1.0, 0.0]},
    {"key": "a", "prediction": 1, "label": "hat", "score": 1.0, "labels": ["x", "y"], "scores": [0.0, 1.0]},
]


class TestFilesInTurn:
    @given(
        contents=st.lists(st.binary(max_size=20), max_size=4),
        steps=st.lists(st.tuples(st.sampled_from(["read", "seek"]), st.integers(0, 60)), max_size=6),
    )
    def test_they_read_as_one_file(
        self, contents: list[bytes], steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("parts")
        for number, content in enumerate(contents):
            (folder / str(number)).write_bytes(content)
        whole = io.BytesIO(b"".join(contents))
        with FilesInTurn([str(folder / str(number)) for number in range(len(contents))]) as stream:
            assert stream.size == len(whole.getvalue())
            for step, number in steps:
                assert getattr(stream, step)(number) == getattr(whole, step)(number)
                assert stream.tell() == whole.tell()
            assert stream.read() == whole.read()
            assert stream.seek(-1, io.SEEK_END) == max(0, stream.size - 1)


@pytest.fixture(scope="module")
def emulator() -> Iterator[BigQueryEmulator]:
    """It has a data set; its WRITE_TRUNCATE replaces rows, and not columns, as BigQuery's does."""
    with BigQueryEmulator(PROJECT) as running:
        running.load("results.another", {"x": "INT64"}, [{"x": 1}])
        yield running


@pytest.fixture
def at_emulator(emulator: BigQueryEmulator, monkeypatch: pytest.MonkeyPatch) -> BigQueryEmulator:
    for name, value in emulator.variables.items():
        monkeypatch.setenv(name, value)
    return emulator


def write_files(folder: str, rows: list[dict[str, Any]]) -> list[str]:
    """Writes a row a file, and a file without any."""
    paths = [files.join(folder, f"predictions-{number}.jsonl") for number in range(len(rows) + 1)]
    for path, row in zip(paths, rows, strict=False):
        files.write_bytes(path, (json.dumps(row, ensure_ascii=False) + "\n").encode())
    files.write_bytes(paths[-1], b"")
    return paths


def rows_of(table: Table) -> list[dict[str, Any]]:
    found = open_client(PROJECT).query(f"SELECT * FROM `{table}`").result()
    return sorted((dict(row.items()) for row in found), key=lambda row: (row["key"], row["score"]))


@pytest.mark.slow
class TestLoading:
    def test_the_table_has_the_rows_however_often_it_is_loaded(
        self, at_emulator: BigQueryEmulator, tmp_path: Path
    ) -> None:
        paths = write_files(str(tmp_path), ROWS)
        check_table(TABLE, project="")
        for _ in range(2):
            load_table(TABLE, paths, rows=3, with_labels=True, all_scores=True, project="")
        assert rows_of(TABLE) == [ROWS[0], ROWS[2], ROWS[1]]

    def test_another_number_of_rows_is_told(self, at_emulator: BigQueryEmulator, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="has 3 rows instead of 4: give the same command again"):
            load_table(
                TABLE, write_files(str(tmp_path), ROWS), rows=4, with_labels=True, all_scores=True, project=PROJECT
            )

    def test_a_data_set_that_is_not_there_is_told_before_the_work(self, at_emulator: BigQueryEmulator) -> None:
        with pytest.raises(OptionError) as raised:
            check_table(Table(PROJECT, "nowhere", "predictions"), project=PROJECT)
        assert str(raised.value).startswith(f"BigQuery has no data set {PROJECT}.nowhere for --bigquery_table: make it")
        assert "\n" not in str(raised.value)


def test_without_credentials_it_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setattr("beam_pipelines.sources.bigquery.has_google_credentials", lambda: False)
    with pytest.raises(OptionError, match="BigQuery needs Google credentials"):
        check_table(TABLE, project="")


def test_files_in_cloud_storage_are_loaded_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Client:
        def get_dataset(self, dataset: Any, **_: Any) -> Any:
            return type("Dataset", (), {"location": "EU"})

        def load_table_from_uri(self, uri: str, table: Any, **how: Any) -> Any:
            asked.update(uri=uri, table=str(table), **how)
            return type("Job", (), {"result": lambda self: type("Done", (), {"output_rows": 3})})()

        def close(self) -> None:
            asked["closed"] = True

    monkeypatch.setattr("beam_pipelines.prediction.bigquery_table.open_client", lambda project: Client())
    with object_store():
        paths = write_files(f"{BUCKET}/out", ROWS)
        load_table(TABLE, paths, rows=3, with_labels=False, all_scores=False, project="")
    assert (asked["uri"], asked["table"], asked["location"]) == (f"{BUCKET}/out/predictions-*", str(TABLE), "EU")
    assert asked["job_config"].write_disposition == "WRITE_TRUNCATE"
    assert asked["closed"]
