"""The handler and the pipeline, with a small model of TensorFlow's."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from beam_pipelines import files
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageLimits
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.prediction.output import PredictionShard
from beam_pipelines.prediction.rows import PlannedRow
from beam_pipelines.prediction.shards import PredictHow, PredictShards, ShardHandler, predict_shards
from beam_pipelines.runners import LocalRunner, beam_options
from serving.model import load_model
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.beam_pipelines.data_sets import drawn
from tests.beam_pipelines.test_dataflow_graph import IMAGE, JOB, NAMES_AND_NUMBERS
from tests.dataflow_jobs import grouped, recorded_jobs, stage_names
from tests.serving.tiny_model import tiny_model

pytestmark = pytest.mark.slow

COUNTS = {PredictionShard(0, 3, "jsonl"): 7, PredictionShard(1, 3, "jsonl"): 0, PredictionShard(2, 3, "jsonl"): 4}
LABELS = ("dark", "bright")
ROWS = sum(COUNTS.values())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model"), labels=LABELS))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(ROWS):
        (folder / f"{number}.jpg").write_bytes(drawn(number))
    (folder / "3.jpg").write_bytes(drawn(3)[:-300])
    return folder


def how(model: str, **changes: Any) -> PredictHow:
    given: dict[str, Any] = {
        "model": model,
        "batch_size": 3,
        "output_format": "jsonl",
        "with_labels": False,
        "all_scores": True,
        "image_limits": ImageLimits(min_side=1),
        "fetch": FetchLimits(),
        "fetch_threads": 2,
    }
    return PredictHow(**{**given, **changes})


def planned(output: Path, pictures: Path) -> PlanFiles:
    plan = PlanFiles(str(output))
    rows = iter([PlannedRow(f"key {number}", str(pictures / f"{number}.jpg")) for number in range(ROWS)])
    for shard, count in COUNTS.items():
        files.write_lines(plan.rows(shard), (next(rows).to_line() for _ in range(count)))
    return plan


def predict(plan: PlanFiles, model: str, *arguments: str) -> None:
    options = beam_options(arguments or ("--direct_num_workers=1",))
    predict_shards(plan, COUNTS, how=how(model), labels=LABELS, beam_options=options)


def lines(plan: PlanFiles) -> list[dict[str, Any]]:
    return [json.loads(line) for shard in COUNTS for line in files.read_lines(plan.shard(shard))]


def test_every_shard_is_written_with_what_the_model_says_and_counted(
    pictures: Path, model: str, tmp_path: Path
) -> None:
    plan = planned(tmp_path, pictures)
    predict(plan, model)
    counted = files.read_json(plan.counted)
    assert [value["rows"] for value in counted] == [6, 0, 4]
    assert sum(sum(value["labels"].values()) for value in counted) == 10
    said = load_model(model).predict(["", ""], [(pictures / f"{number}.jpg").read_bytes() for number in (0, 10)])
    found = {line["key"]: line for line in lines(plan)}
    assert "key 3" not in found
    for key, place in (("key 0", 0), ("key 10", 1)):
        assert found[key]["label"] == said.labels[place]
        assert found[key]["scores"] == pytest.approx(said.scores[place].tolist(), abs=1e-4)


def test_beam_counts_rows_and_we_count_what_became_of_them(pictures: Path, model: str, tmp_path: Path) -> None:
    plan = planned(tmp_path, pictures)
    pipeline = beam.Pipeline(runner=LocalRunner())
    _ = pipeline | PredictShards(plan, COUNTS, ShardHandler(plan, how(model)), labels=LABELS)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        (each.key.metric.namespace, each.key.metric.name): each.committed
        for each in result.metrics().query()["counters"]
    }
    assert counters["RunInference", "num_inferences"] == ROWS
    assert counters["predict", "predict/ok"] == ROWS - 1
    assert counters["predict", "fetch/ok"] == ROWS
    assert counters["predict", "rejected/corrupt_image"] == 1


def test_more_workers_leave_the_same_bytes(pictures: Path, model: str, tmp_path: Path) -> None:
    one, two = planned(tmp_path / "one", pictures), planned(tmp_path / "two", pictures)
    predict(one, model)
    predict(two, model, "--direct_num_workers=2")
    for plan in (one, two):
        files.remove_tree(plan.progress)
    made = files.list_files(one.directory)
    assert files.list_files(two.directory) == made
    for name in made:
        assert files.read_bytes(f"{two.directory}/{name}") == files.read_bytes(f"{one.directory}/{name}")


class TestGraph:
    @pytest.fixture(scope="class")
    def graph(self, model: str) -> Any:
        options = beam_options([*JOB, f"--sdk_container_image={IMAGE}", "--dry_run=True"], output=f"{BUCKET}/out")
        with object_store(), recorded_jobs() as jobs:
            predict_shards(
                PlanFiles(f"{BUCKET}/out"), COUNTS, how=how(model), labels=LABELS, beam_options=options, publish=print
            )
        (job,) = jobs
        return job.proto_pipeline

    def test_only_names_of_shards_and_counts_are_grouped(self, graph: Any) -> None:
        assert grouped(graph)
        assert {name: what for name, what in grouped(graph).items() if what not in NAMES_AND_NUMBERS} == {}

    def test_steps_have_names_that_read_well(self, graph: Any) -> None:
        names = {part for name in stage_names(graph) for part in name.split("/")}
        assert {"PredictShards", "ListShards", "FetchPredictWrite", "CountAndWrite", "Publish"} <= names
        assert [name for name in names if name.startswith("_") or "lambda at predict" in name] == []
