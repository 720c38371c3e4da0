"""Batch prediction on Cloud Storage, with a stand-in of Dataflow that runs the job as it was staged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.prediction.options import parse_arguments
from beam_pipelines.prediction.phases import predict_phases
from tests.beam_pipelines.builders import BUCKET, artwork, object_store
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.test_dataflow_graph import IMAGE, JOB
from tests.dataflow_jobs import DataflowService, impatient_client, stage_names
from tests.serving.tiny_model import tiny_model

pytestmark = pytest.mark.slow

ROWS = {Shard("train", 0, 1): [artwork(key, labels=["dark"]) for key in "abcde"]}
SOURCE = ("--source=tfrecord", f"--input={BUCKET}/pictures", f"--model={BUCKET}/model", "--num_shards=2")
SHARDS = ("predictions-00000-of-00002.jsonl", "predictions-00001-of-00002.jsonl")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[DataflowService]:
    with object_store(), DataflowService() as service, impatient_client():
        files.copy_tree(str(tiny_model(tmp_path / "model").parent), f"{BUCKET}/model")
        write_data_set(f"{BUCKET}/pictures", ROWS, labels=["dark"])
        yield service


def predict(*arguments: str) -> str:
    return predict_phases(*parse_arguments([*SOURCE, *arguments]))


def test_a_job_that_is_not_waited_for_leaves_what_this_machine_leaves(service: DataflowService, tmp_path: Path) -> None:
    there, here = f"{BUCKET}/predictions", str(tmp_path / "predictions")
    job = [*JOB, f"--sdk_container_image={IMAGE}", f"--dataflow_endpoint={service.address}"]
    told = predict(*job, f"--output={there}", "--no_wait")
    assert told.startswith(f"the job that writes {there} is submitted")
    assert service.failures == {}
    assert {job["currentState"] for job in service.jobs} == {"JOB_STATE_DONE"}
    assert "Publish" in stage_names(service.graph(service.jobs[-1]))
    assert files.exists(files.join(there, COMPLETED_FILE))
    told = predict(f"--output={here}")
    assert told.startswith(f"{here} is complete\n5 rows read: 5 predicted, 0 rejected\n")
    for name in (*SHARDS, "summary.json", "rejected.jsonl", ".plan/plan.json"):
        assert files.read_bytes(files.join(there, name)) == files.read_bytes(files.join(here, name))


def test_workers_on_other_machines_must_reach_the_model(service: DataflowService, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "here")
    with pytest.raises(OptionError, match=r"^--model .* is on this machine, where DataflowRunner's workers are not"):
        predict(*JOB, f"--sdk_container_image={IMAGE}", f"--model={model}", f"--output={BUCKET}/out")
