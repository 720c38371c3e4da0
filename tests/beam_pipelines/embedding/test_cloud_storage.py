"""Embed on Cloud Storage, with a stand-in of Dataflow that runs the job as it was staged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, Shard
from beam_pipelines.embedding.options import parse_arguments
from beam_pipelines.embedding.phases import embed_phase, prepare_phase
from beam_pipelines.verify import verify
from tests.beam_pipelines.builders import BUCKET, artwork, object_store
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.test_dataflow_graph import IMAGE, JOB
from tests.dataflow_jobs import DataflowService, impatient_client, stage_names

pytestmark = pytest.mark.slow

ROWS = {
    Shard("train", 0, 1): [artwork("a"), artwork("b"), artwork("c")],
    Shard("validation", 0, 1): [artwork("d"), artwork("e")],
}
BACKBONE = ("--backbone=mobilenet_v3_small", "--weights=none", "--batch_size=2")


@pytest.fixture
def service() -> Iterator[DataflowService]:
    with object_store(), DataflowService() as service, impatient_client():
        yield service


def embed(*arguments: str) -> str:
    prepare_phase(*parse_arguments([*BACKBONE, *arguments]))
    return embed_phase(*parse_arguments([*BACKBONE, *arguments]))


def test_a_job_that_is_not_waited_for_leaves_what_this_machine_leaves(service: DataflowService, tmp_path: Path) -> None:
    there, here = f"{BUCKET}/embeddings", str(tmp_path / "embeddings")
    write_data_set(f"{BUCKET}/pictures", ROWS)
    job = [*JOB, f"--sdk_container_image={IMAGE}", f"--dataflow_endpoint={service.address}"]
    told = embed(*job, f"--dataset={BUCKET}/pictures", f"--output={there}", "--no_wait")
    assert told.startswith(f"the job that writes {there} is submitted")
    assert service.failures == {}
    assert [job["currentState"] for job in service.jobs] == ["JOB_STATE_DONE"]
    assert "Publish" in stage_names(service.graph(service.jobs[0]))
    assert files.exists(files.join(there, COMPLETED_FILE))
    assert list(verify(there)) == []
    told = embed(f"--dataset={BUCKET}/pictures", f"--output={here}")
    assert told.startswith(f"{here} is complete\n5 rows read: 5 written")
    for name in (*(shard.file_name for shard in ROWS), "dataset_info.json", "labels.txt", ".plan/plan.json"):
        assert files.read_bytes(files.join(there, name)) == files.read_bytes(files.join(here, name))
