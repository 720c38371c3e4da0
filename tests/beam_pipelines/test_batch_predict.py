"""The command on pictures of every kind, from a misbehaving server and from files, stopped and given again."""

import collections
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.dataset import Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.prediction.options import parse_arguments
from beam_pipelines.prediction.phases import predict_phases
from beam_pipelines.rejects import Reason
from beam_pipelines.sources.bigquery import open_client
from serving.model import load_model
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import drawn, write_data_set
from tests.beam_pipelines.ingest_command import (
    QUICK,
    information,
    keys_of,
    rejected_reasons,
    run_ingest,
    run_predict,
    start_predict,
    write_manifest,
)
from tests.beam_pipelines.json_pictures import image_record, json_line, write_lines, write_records
from tests.beam_pipelines.test_ingest_killed import kill_when
from tests.bigquery_emulator import BigQueryEmulator
from tests.bigquery_emulator.the_met import IMAGES, OBJECTS, image_row, object_row
from tests.hostile_server import CASES, WRITTEN, HostileServer
from tests.serving.tiny_model import tiny_model

pytestmark = pytest.mark.slow

LABELS = ("dark", "bright")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), labels=LABELS).parent


def predictions(output: Path) -> list[dict[str, Any]]:
    """Returns the lines of all shards."""
    return [json.loads(line) for path in sorted(output.glob("predictions-*.jsonl")) for line in path.open()]


def predict_here(*arguments: object) -> str:
    """Runs the command in this process, which has TensorFlow already; returns what it would print in the end."""
    return predict_phases(*parse_arguments(list(map(str, arguments))))


def content(output: Path) -> dict[str, bytes]:
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def assert_says_what_the_model_says(output: Path, model: Path, images: dict[str, bytes]) -> None:
    """Compares classes and scores with one call of the model, on pictures by the keys of their rows."""
    found = {line["key"]: line for line in predictions(output)}
    assert set(images) <= set(found)
    said = load_model(str(model)).predict(list(images), list(images.values()))
    for place, key in enumerate(images):
        assert found[key]["prediction"] == said.class_ids[place]
        assert found[key]["label"] == said.labels[place]
        assert found[key]["score"] == pytest.approx(float(said.top_scores[place]), abs=1e-4)
        assert found[key].get("scores", said.scores[place].tolist()) == pytest.approx(
            said.scores[place].tolist(), abs=1e-4
        )


class Collection:
    """Every case of the server, and drawn pictures from it; what becomes of them."""

    def __init__(self, server: HostileServer, model: Path, folder: Path) -> None:
        self.model = model
        self.expected = {
            server.url(case.path): case.outcome for case in CASES.values() if not case.needs_private_refused
        }
        self.expected[server.url(CASES["one_pixel"].path)] = WRITTEN
        drawn_ones = [server.url(f"/picture/{seed}.jpg?width=60&height=40") for seed in range(60)]
        self.expected |= dict.fromkeys(drawn_ones, WRITTEN)
        labels = ["dark", "bright", "grey", ""]
        rows = [(uri, labels[number % 4]) for number, uri in enumerate(self.expected)]
        self.twice = drawn_ones[0]
        self.rows = [*rows, (self.twice, "dark"), (self.twice, "dark")]
        self.arguments = [
            "--model", model, "--source", "manifest", "--input", write_manifest(folder / "list.csv", self.rows),
            "--allow_private_addresses", *QUICK, "--max_image_bytes", 4 << 20, "--num_shards", 6, "--batch_size", 8,
        ]  # fmt: skip
        self.output = folder / "out"
        code, self.printed = run_predict(*self.arguments, "--output", self.output, "--all_scores")
        assert code == 0, self.printed


@pytest.fixture(scope="module")
def collection(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with HostileServer() as server:
        yield Collection(server, model, tmp_path_factory.mktemp("predict"))


class TestHostilePictures:
    def test_every_row_is_in_one_of_both_files_for_the_reason_that_it_has(self, collection: Collection) -> None:
        rejected = rejected_reasons(collection.output)
        assert rejected == {key: outcome for key, outcome in collection.expected.items() if outcome != WRITTEN}
        counted = collections.Counter(line["key"] for line in predictions(collection.output))
        expected = collections.Counter(uri for uri, _ in collection.rows if uri not in rejected)
        assert counted == expected
        assert counted[collection.twice] == 3

    def test_the_summary_adds_up(self, collection: Collection) -> None:
        summary = information(collection.output, "summary.json")
        rejected = rejected_reasons(collection.output)
        assert summary["read"] == len(collection.rows)
        assert summary["predicted"] == len(collection.rows) - len(rejected)
        assert summary["rejected"] == dict(sorted(collections.Counter(rejected.values()).items()))
        assert sum(summary["labels"].values()) == summary["predicted"]
        assert summary["model"]["path"] == str(collection.model / "1")

    def test_accuracy_is_of_the_rows_whose_label_the_model_knows(self, collection: Collection) -> None:
        known = [line for line in predictions(collection.output) if line["labels"] in (["dark"], ["bright"])]
        right = sum(line["label"] in line["labels"] for line in known)
        accuracy = information(collection.output, "summary.json")["accuracy"]
        assert (accuracy["rows"], accuracy["right"]) == (len(known), right)
        assert set(accuracy["labels"]) == {"dark", "bright"}
        assert f"accuracy {right / len(known):.4f} of {len(known)} rows" in collection.printed

    def test_people_are_told(self, collection: Collection) -> None:
        lines = collection.printed.splitlines()
        summary = information(collection.output, "summary.json")
        assert f"{summary['read']} rows read: {summary['predicted']} predicted, " in collection.printed
        assert "  rejected: timed_out 2" in lines
        assert any(line.split()[:2] == ["label", "predicted"] for line in lines)

    def test_a_second_time_there_is_nothing_to_do(self, collection: Collection) -> None:
        before = content(collection.output)
        code, printed = run_predict(*collection.arguments, "--output", collection.output, "--all_scores")
        assert code == 0, printed
        assert printed.startswith(f"{collection.output} is complete, there is nothing to do\n")
        assert content(collection.output) == before

    def test_other_options_do_not_go_there(self, collection: Collection) -> None:
        before = content(collection.output)
        code, printed = run_predict(*collection.arguments, "--output", collection.output)
        assert (code, len(printed.splitlines())) == (2, 1)
        assert printed.startswith(f"error: {collection.output} holds other predictions")
        assert content(collection.output) == before


class TestFiles:
    """Pictures in a folder, in JSON lines and in TFRecords: the same bytes, the same answers."""

    @pytest.fixture(scope="class")
    def images(self) -> dict[str, bytes]:
        return {f"{number:02d}.jpg": drawn(number, width=90, height=60) for number in range(30)}

    def test_a_flat_folder(self, model: Path, images: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name, image in images.items():
            (tmp_path / "in" / name).write_bytes(image)
        (tmp_path / "in" / "note.txt").write_text("no picture")
        predict_here(
            "--model", model / "1", "--source", "directory", "--input", tmp_path / "in", "--output", tmp_path / "out",
            "--output_format", "csv",
        )  # fmt: skip
        assert rejected_reasons(tmp_path / "out") == {"note.txt": Reason.NOT_AN_IMAGE}
        header, *rows = [
            line.split(",")
            for path in sorted((tmp_path / "out").glob("predictions-*-of-*.csv"))
            for line in path.read_text().splitlines()
        ]
        assert header == ["key", "prediction", "label", "score"]
        found = {row[0]: row for row in rows if row != header}
        said = load_model(str(model)).predict(list(images), list(images.values()))
        assert {key: int(row[1]) for key, row in found.items()} == dict(
            zip(images, said.class_ids.tolist(), strict=True)
        )

    def test_json_lines_bad_ones_among_them(self, model: Path, images: dict[str, bytes], tmp_path: Path) -> None:
        rows = [json_line(image, key=key, label="dark") for key, image in images.items()]
        hostile = [
            b"{",
            json_line(b"<html>", key="html"),
            json_line(b"", key="empty"),
            b"\xff",
            json_line(drawn(1)[:99]),
        ]
        path = write_lines(tmp_path / "in.jsonl", [*rows, *hostile])
        printed = predict_here(
            "--model", model, "--source", "jsonl", "--input", path, "--output", tmp_path / "out", "--all_scores"
        )
        assert rejected_reasons(tmp_path / "out") == {
            "in.jsonl:31": Reason.BAD_ROW,
            "html": Reason.HTML_PAGE,
            "empty": Reason.EMPTY,
            "in.jsonl:34": Reason.BAD_ROW,
            "in.jsonl:35": Reason.CORRUPT_IMAGE,
        }
        assert_says_what_the_model_says(tmp_path / "out", model, images)
        assert "35 rows read: 30 predicted, 5 rejected" in printed
        assert "of 30 rows with a label that the model knows" in printed

    def test_tfrecords_damaged_ones_among_them(self, model: Path, images: dict[str, bytes], tmp_path: Path) -> None:
        records = [image_record(image, key=key, labels=["bright"]) for key, image in images.items()]
        damaged = image_record(b"damaged").replace(b"damaged", b"demaged")
        path = write_records(tmp_path / "in.tfrecord", [*records, damaged, records[0][:-1]])
        predict_here("--model", model, "--source", "tfrecord", "--input", path, "--output", tmp_path / "out")
        assert rejected_reasons(tmp_path / "out") == dict.fromkeys(
            ("in.tfrecord#30", "in.tfrecord#31"), Reason.CORRUPT_RECORD
        )
        assert_says_what_the_model_says(tmp_path / "out", model, images)

    def test_ingest_reads_them_too(self, images: dict[str, bytes], tmp_path: Path) -> None:
        rows = [
            json_line(image, key=key, label=f"label {number % 2}") for number, (key, image) in enumerate(images.items())
        ]
        write_lines(tmp_path / "in.jsonl", [*rows, b"{"])
        code, printed = run_ingest("--source", "jsonl", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "data")
        assert code == 0, printed
        assert keys_of(tmp_path / "data") == set(images)
        assert rejected_reasons(tmp_path / "data") == {"in.jsonl:31": Reason.BAD_ROW}
        code, printed = run_ingest("--source", "tfrecord", "--input", tmp_path / "data", "--output", tmp_path / "again")
        assert code == 0, printed
        for split in ("train", "validation"):
            assert keys_of(tmp_path / "again", split) == keys_of(tmp_path / "data", split)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pictures"
    rows = [artwork(f"{number}", labels=["dark"]) for number in range(240)]
    write_data_set(str(folder), {Shard("train", 0, 1): rows}, labels=["dark"])
    return folder


class TestKilled:
    @pytest.fixture(scope="class")
    def undisturbed(self, model: Path, data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        output = tmp_path_factory.mktemp("undisturbed") / "out"
        code, printed = run_predict(*self.arguments(model, data_set), "--output", output)
        assert code == 0, printed
        return output

    @staticmethod
    def arguments(model: Path, data_set: Path) -> list[object]:
        return [
            "--model", model, "--source", "tfrecord", "--input", data_set, "--num_shards", 24, "--batch_size", 2,
            "--fetch_threads", 1,
        ]  # fmt: skip

    def test_killed_between_shards_and_given_again(
        self, model: Path, data_set: Path, undisturbed: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "out"
        arguments = [*self.arguments(model, data_set), "--output", output]
        process = start_predict(*arguments)
        kill_when(process, lambda: len(list(output.glob("predictions-*"))) >= 3)
        kept = {path.name: path.stat().st_mtime_ns for path in output.glob("predictions-*")}
        assert len(kept) < 24
        assert not (output / "COMPLETED").exists()
        code, printed = run_predict(*arguments)
        assert code == 0, printed
        assert content(output) == content(undisturbed)
        assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept

    def test_killed_while_it_planned(self, model: Path, data_set: Path, undisturbed: Path, tmp_path: Path) -> None:
        output = tmp_path / "out"
        (output / ".plan" / "rows").mkdir(parents=True)
        (output / ".plan" / "rows" / "predictions-00000-of-00003.jsonl").write_text("left over")
        predict_here(*self.arguments(model, data_set), "--output", output)
        assert content(output) == content(undisturbed)


class TestRetry:
    def test_only_what_may_pass_is_fetched_again(
        self, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        with HostileServer() as server:
            uris = [server.url(f"/picture/{seed}.jpg?width=30&height=20") for seed in range(5)]
            passing = server.url(CASES["server_error_then_good"].path)
            gone = server.url(CASES["gone"].path)
            arguments = [
                "--model", model, "--source", "manifest", "--output", tmp_path / "out", "--allow_private_addresses",
                "--input", write_manifest(tmp_path / "list.csv", [(uri, "") for uri in (*uris, passing, gone)]),
                *QUICK, "--max_retries", 0,
            ]  # fmt: skip
            predict_here(*arguments)
            assert rejected_reasons(tmp_path / "out") == {passing: "server_error", gone: "not_found"}
            visits = sum(server.visits.values())
            predict_here(*arguments, "--retry_rejected")
            assert "trying 1 rejected pictures again" in caplog.text
            assert sum(server.visits.values()) == visits + 1
            assert predict_here(*arguments, "--retry_rejected").splitlines()[0] == (
                f"{tmp_path / 'out'} is complete, nothing was rejected for a passing reason"
            )
        assert rejected_reasons(tmp_path / "out") == {gone: "not_found"}
        assert {line["key"] for line in predictions(tmp_path / "out")} == {*uris, passing}

    def test_kept_pictures_are_not_fetched_again(self, model: Path, tmp_path: Path) -> None:
        with HostileServer() as server:
            uris = [server.url(f"/picture/{seed}.jpg?width=30&height=20") for seed in range(5)]
            arguments = [
                "--model", model, "--source", "manifest", "--allow_private_addresses", "--cache_dir", tmp_path / "kept",
                "--input", write_manifest(tmp_path / "list.csv", [(uri, "") for uri in uris]), *QUICK,
            ]  # fmt: skip
            predict_here(*arguments, "--output", tmp_path / "one")
            assert sum(server.visits.values()) == len(uris)
            predict_here(*arguments, "--output", tmp_path / "two")
            assert sum(server.visits.values()) == len(uris)
        assert content(tmp_path / "two") == content(tmp_path / "one")


class TestWrongOptions:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"--model": "nowhere"}, "error: nowhere is no model, nothing is there"),
            ({"--input": "nowhere.csv"}, "error: cannot read nowhere.csv: there is no such file"),
            ({"--attribute": "culture"}, "error: unknown attribute 'culture'"),
            ({"--runner": "SparkleRunner"}, "error: unknown --runner 'SparkleRunner'"),
            ({"--no_wit": ""}, "error: unknown option '--no_wit"),
        ],
    )
    def test_it_is_told_in_one_line_and_nothing_is_written(
        self, model: Path, tmp_path: Path, changes: dict[str, str], message: str
    ) -> None:
        given = {
            "--model": str(model),
            "--source": "manifest",
            "--input": str(write_manifest(tmp_path / "list.csv", [("a.jpg", "dark")])),
            "--output": str(tmp_path / "out"),
        }
        code, printed = run_predict(*(f"{name}={value}" for name, value in {**given, **changes}.items()))
        assert (code, len(printed.splitlines())) == (2, 1), printed
        assert printed.startswith(message)
        assert not (tmp_path / "out").exists()

    def test_nothing_that_can_be_predicted_fails_the_run(self, model: Path, tmp_path: Path) -> None:
        code, printed = run_predict(
            "--model", model, "--source", "manifest", "--output", tmp_path / "out",
            "--input", write_manifest(tmp_path / "list.csv", [("a.jpg", "dark"), ("b.jpg", "dark")]),
        )  # fmt: skip
        assert code == 1
        assert printed.splitlines()[-1] == ("error: no picture could be predicted (not_found 2): see rejected.jsonl")
        assert not (tmp_path / "out" / "COMPLETED").exists()


class TestBigQuery:
    def test_the_mets_tables_need_no_attribute(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with HostileServer() as museum, BigQueryEmulator("museum-project") as emulator:
            views = [image_row(n, 0, url=museum.url(f"/picture/{n}.jpg?width=90&height=70")) for n in (1, 2, 3)]
            emulator.load(
                "the_met.objects", OBJECTS, [object_row(1), object_row(2), object_row(3, is_public_domain=False)]
            )
            emulator.load("the_met.images", IMAGES, views)
            for name, value in emulator.variables.items():
                monkeypatch.setenv(name, value)
            code, printed = run_predict(
                "--model", model, "--source", "bigquery", "--input", "museum-project.the_met",
                "--output", tmp_path / "out", "--images_from", "museum", "--allow_private_addresses",
                "--project", "museum-project", *QUICK,
            )  # fmt: skip
        assert code == 0, printed
        assert {row["key"] for row in predictions(tmp_path / "out")} == {"1/0", "2/0"}
        assert information(tmp_path / "out", "summary.json")["accuracy"] is None

    def test_the_table_has_what_the_files_have_and_a_failed_load_is_made_good(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "in").mkdir()
        for number in range(9):
            (tmp_path / "in" / f"{number}.jpg").write_bytes(drawn(number))
        arguments = [
            "--model", model, "--source", "directory", "--input", tmp_path / "in", "--output", tmp_path / "out",
            "--num_shards", 3,
        ]  # fmt: skip
        with BigQueryEmulator("museum-project") as emulator:
            emulator.load("results.another", {"x": "INT64"}, [{"x": 1}])
            for name, value in emulator.variables.items():
                monkeypatch.setenv(name, value)
            with pytest.raises(OptionError, match="BigQuery has no data set"):
                predict_here(*arguments, "--bigquery_table", "museum-project.nowhere.predictions")
            assert not (tmp_path / "out").exists()
            table = ("--bigquery_table", "museum-project.results.predictions")
            predict_here(*arguments)
            assert "was complete, and is loaded now" in predict_here(*arguments, *table)
            assert "there is nothing to do" in predict_here(*arguments, *table)
            (tmp_path / "out" / "COMPLETED").unlink()
            printed = predict_here(*arguments, *table)
            query = "SELECT * FROM `museum-project.results.predictions`"
            found = [dict(row.items()) for row in open_client("museum-project").query(query).result()]
        assert sorted(found, key=lambda row: row["key"]) == sorted(
            predictions(tmp_path / "out"), key=lambda row: row["key"]
        )
        assert information(tmp_path / "out", "summary.json")["bigquery_table"] == table[1]
        assert f"BigQuery has them as {table[1]}" in printed
