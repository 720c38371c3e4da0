"""Jobs for Dataflow, without credentials: as dry runs make them, and as a stand-in of the service is sent them.

The stand-in runs the graph that was staged, so that what it leaves is what the service's workers would have left.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from PIL import Image

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, TRAIN, VALIDATION, shards_of
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageLimits
from beam_pipelines.options import parse_arguments
from beam_pipelines.phases import plan_phase, write_phase
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.row_options import BIGQUERY_METHODS
from beam_pipelines.runners import beam_options, new_pipeline, run_pipeline
from beam_pipelines.sources import ReadOptions, SourceOptions, make_source
from beam_pipelines.write_shards import WriteOptions, write_shards
from tests.beam_pipelines.builders import BUCKET, object_store
from tests.bigquery_emulator import BigQueryEmulator
from tests.bigquery_emulator.beam_address import lead_beam_to
from tests.bigquery_emulator.the_met import IMAGES, OBJECTS
from tests.dataflow_jobs import (
    ROOT,
    DataflowService,
    copy_checkout,
    counted_shuffle,
    describe,
    grouped,
    impatient_client,
    recorded_jobs,
    stage_names,
)
from tests.run_graph import run_graph

pytestmark = pytest.mark.slow

IMAGE = "registry.example/museum/worker:1"
OURS = list((ROOT / "beam_pipelines").rglob("*.py"))
JOB = (
    "--runner=DataflowRunner", "--project=my-project", "--region=europe-west4", "--no_auth",
    f"--temp_location={BUCKET}/tmp", "--max_num_workers=2", "--machine_type=n1-standard-2",
)  # fmt: skip
PICTURES = 24
WRITE = WriteOptions(
    image_size=64, jpeg_quality=90, image_limits=ImageLimits(), fetch=FetchLimits(), fetch_threads=4
)  # fmt: skip

INPUTS = {
    "pictures/Japan/1.jpg": b"",
    "list.csv": b"uri,label\n",
    "mnist/train-images-idx3-ubyte": b"",
    "mnist/train-labels-idx1-ubyte": b"",
    "objects.txt": b"1\n",
    "MetObjects.csv": b"Object ID,Culture,Is Public Domain\n",
    "images.csv": b"object_id,image_uri\n",
}
# All that may cross a shuffle, as key and value.
NAMES_AND_NUMBERS = {
    "(VarInt, (StrUtf8, FastPrimitives?, PaneInfo))": "names of shards, dealt out",
    "(VarInt, (Bytes, FastPrimitives?, PaneInfo))": "names of shards, as Beam makes elements of them",
    "(Bytes, (StrUtf8, VarInt, StrUtf8))": "hash of a picture; split, rank, shard",
    "(VarInt, VarInt)": "class and rank of a picture",
    "(StrUtf8, VarInt)": "shard and rank of a picture that it loses; or a count by its name",
    "(DeterministicFastPrimitivesCoderV2, Map)": "counts of a shard, gathered",
    "(StrUtf8, Artwork)": "a row of metadata by its shard or key",
    "(DeterministicFastPrimitivesCoderV2, Artwork)": "a row of metadata by its address",
    "(VarInt, FastPrimitives)": "counts by a hash of keys",
    "(StrUtf8, FastPrimitives)": "counts by split",
    "(DeterministicFastPrimitivesCoderV2, (StrUtf8, VarInt))": "counts of splits, gathered",
    "(DeterministicFastPrimitivesCoderV2, (StrUtf8, FastPrimitives))": "counts by name, gathered",
    "(StrUtf8, (VarInt, StrUtf8, StrUtf8, StrUtf8))": "a few rows of each reason",
    "(DeterministicFastPrimitivesCoderV2, (StrUtf8, List))": "a few rows of each reason, gathered",
    "(DeterministicFastPrimitivesCoderV2, FastPrimitives)": "names of files that Beam finishes",
}


def job_options(*more: str) -> PipelineOptions:
    return beam_options([*JOB, f"--sdk_container_image={IMAGE}", *more], output=f"{BUCKET}/out")


def dry_run(options: PipelineOptions) -> Any:
    """Returns the job that writes shards, which is not submitted."""
    shards = list(shards_of({TRAIN: 3, VALIDATION: 1}))
    with object_store(), recorded_jobs() as jobs:
        write_shards(PlanFiles(f"{BUCKET}/out"), shards, pictures=2000, options=WRITE, beam_options=options)
    (job,) = jobs
    return job


class TestDryRun:
    def test_every_option_reaches_the_job(self) -> None:
        job = describe(
            dry_run(
                job_options(
                    "--dry_run=True", "--job_name=my-job", "--staging_location=gs://my-staging/here",
                    "--num_workers=1", "--autoscaling_algorithm=THROUGHPUT_BASED",
                    "--disk_size_gb=77", "--worker_disk_type=pd-ssd", "--network=inner",
                    "--subnetwork=regions/europe-west4/subnetworks/inner", "--no_use_public_ips",
                    "--worker_zone=europe-west4-a", "--service_account_email=worker@my-project.iam.gserviceaccount.com",
                    "--label=team=pictures", "--label=stage=ingest", "--number_of_worker_harness_threads=3",
                    "--dataflow_kms_key=projects/p/locations/l/keyRings/r/cryptoKeys/k",
                    "--experiments=shuffle_mode=service",
                )
            )
        )  # fmt: skip
        environment = job.environment
        (pool,) = environment.worker_pools
        assert job.name == "my-job"
        assert job.type_.name == "JOB_TYPE_BATCH"
        assert dict(job.labels) == {"team": "pictures", "stage": "ingest"}
        assert environment.temp_storage_prefix.startswith("storage.googleapis.com/a-bucket/tmp/my-job.")
        assert environment.worker_zone == "europe-west4-a"
        assert environment.service_account_email == "worker@my-project.iam.gserviceaccount.com"
        assert environment.service_kms_key_name.endswith("/cryptoKeys/k")
        assert {"shuffle_mode=service", "use_runner_v2", "use_multiple_sdk_containers"} <= set(environment.experiments)
        assert pool.autoscaling_settings.max_num_workers == 2
        assert pool.autoscaling_settings.algorithm.name == "AUTOSCALING_ALGORITHM_BASIC"
        assert pool.num_workers == 1
        assert pool.machine_type == "n1-standard-2"
        assert (pool.disk_size_gb, pool.disk_type) == (77, "pd-ssd")
        assert (pool.network, pool.subnetwork) == ("inner", "regions/europe-west4/subnetworks/inner")
        assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
        assert pool.num_threads_per_worker == 3
        assert all("my-staging/here/my-job." in package.location for package in pool.packages)

    def test_workers_have_one_image_and_one_process_for_each_vcpu(self) -> None:
        (pool,) = describe(dry_run(job_options("--dry_run=True"))).environment.worker_pools
        (container,) = pool.sdk_harness_container_images
        assert container.container_image == pool.worker_harness_container_image == IMAGE
        assert container.use_single_core_per_container

    def test_a_checkout_is_staged_for_beams_own_image(self, tmp_path: Path) -> None:
        setup_file = copy_checkout(tmp_path)
        options = beam_options([*JOB, f"--setup_file={setup_file}", "--dry_run=True"], output=f"{BUCKET}/out")
        (pool,) = describe(dry_run(options)).environment.worker_pools
        assert "workflow.tar.gz" in {package.name for package in pool.packages}
        assert pool.worker_harness_container_image == "gcr.io/cloud-dataflow/v1beta3/beam_python3.11_sdk:2.77.0"

    def test_with_an_image_nothing_of_the_project_is_staged(self) -> None:
        (pool,) = describe(dry_run(job_options("--dry_run=True"))).environment.worker_pools
        assert "workflow.tar.gz" not in {package.name for package in pool.packages}

    def test_jobs_of_one_output_are_named_alike_and_of_another_otherwise(self) -> None:
        names = {
            output: beam_options([*JOB, f"--sdk_container_image={IMAGE}"], output=output)
            .view_as(GoogleCloudOptions)
            .job_name
            for output in ("gs://a/b", "gs://a/c")
        }
        assert len(set(names.values())) == 2

    @pytest.mark.parametrize(
        ("source", "more"),
        [
            ("directory", {"input": f"{BUCKET}/pictures"}),
            ("manifest", {"input": f"{BUCKET}/list.csv"}),
            ("idx", {"input": f"{BUCKET}/mnist"}),
            ("object_list", {"input": f"{BUCKET}/objects.txt"}),
            ("open_access_csv", {"input": f"{BUCKET}/MetObjects.csv"}),
            ("open_access_csv", {"input": f"{BUCKET}/MetObjects.csv", "images_input": f"{BUCKET}/images.csv"}),
            ("open_access_csv", {"input": f"{BUCKET}/MetObjects.csv", "images_from": "api"}),
        ],
    )
    def test_every_source_builds_without_credentials(self, source: str, more: dict[str, str]) -> None:
        """The files are there, as sources look for them when the graph is built; the service is never asked."""
        reading = ReadOptions(answers=f"{BUCKET}/answers")
        values: dict[str, Any] = dict(more)
        with object_store():
            for name, content in INPUTS.items():
                files.write_bytes(f"{BUCKET}/{name}", content)
            self.build(make_source(source, SourceOptions(**values, attribute="culture", reading=reading)))

    @pytest.mark.parametrize("method", BIGQUERY_METHODS)
    def test_bigquery_builds_by_either_method(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The tables' columns are asked for when the graph is built; no row is read."""
        reading = ReadOptions(project="my-project", bigquery_method=method)
        options = SourceOptions(input="my-project.the_met", attribute="culture", reading=reading)
        with BigQueryEmulator("my-project") as emulator:
            emulator.load("the_met.objects", OBJECTS, [])
            emulator.load("the_met.images", IMAGES, [])
            for name, value in emulator.variables.items():
                monkeypatch.setenv(name, value)
            lead_beam_to(emulator.variables, monkeypatch.setattr)
            self.build(make_source("bigquery", options))

    def build(self, source: Any) -> None:
        with recorded_jobs() as jobs:
            pipeline = new_pipeline(job_options("--dry_run=True"))
            _ = pipeline | "Read" >> source
            run_pipeline(pipeline, wait=False)
        (job,) = jobs
        assert any(name.startswith("Read/") for name in stage_names(job.proto_pipeline))


class Ran:
    """A data set that was made by jobs of Dataflow, and the same one made on this machine."""

    def __init__(self, service: DataflowService) -> None:
        self.service = service
        self.arguments = [
            "--source=directory", f"--input={BUCKET}/pictures", "--min_images_per_label=2", "--num_shards=4",
            "--image_size=64", *JOB, f"--sdk_container_image={IMAGE}", f"--dataflow_endpoint={service.address}",
        ]  # fmt: skip
        self.bytes_fetched = sum(self._draw(number) for number in range(PICTURES))
        with counted_shuffle() as sizes:
            plan_phase(*parse_arguments([*self.arguments, f"--output={BUCKET}/out"]))
            self.shuffled_to_plan = sum(sizes)
            sizes.clear()
            self.told = write_phase(*parse_arguments([*self.arguments, f"--output={BUCKET}/out"]))
            self.shuffled_to_write = sum(sizes)
        self.jobs = list(service.jobs)
        self.graphs = [service.graph(job) for job in self.jobs]
        here = [*self.arguments, f"--output={BUCKET}/here", "--runner=DirectRunner", "--direct_num_workers=1"]
        plan_phase(*parse_arguments(here))
        write_phase(*parse_arguments(here))

    def content(self, output: str) -> dict[str, bytes]:
        """Returns the bytes of every file that must be the same however the data set came about."""
        names = files.list_files(f"{BUCKET}/{output}")
        kept = [name for name in names if not name.startswith(("transform_fn/", "report.html", ".plan/progress"))]
        return {name: files.read_bytes(f"{BUCKET}/{output}/{name}") for name in kept}

    def _draw(self, number: int) -> int:
        buffer = io.BytesIO()
        Image.effect_noise((200, 150), 60 + number).save(buffer, "JPEG")
        name = f"{'Japan' if number % 2 else 'Iran'}/{number}.jpg"
        files.write_bytes(f"{BUCKET}/pictures/{name}", buffer.getvalue())
        return len(buffer.getvalue())


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    with object_store(), DataflowService() as service, impatient_client():
        yield Ran(service)


class TestJobs:
    def test_two_plan_and_one_writes(self, ran: Ran) -> None:
        assert [job["currentState"] for job in ran.jobs] == ["JOB_STATE_DONE"] * 3
        assert len({job["name"] for job in ran.jobs}) == 1
        assert f"{PICTURES} rows read: {PICTURES} written" in ran.told

    def test_the_data_set_is_that_of_this_machine_byte_for_byte(self, ran: Ran) -> None:
        made = ran.content("out")
        assert COMPLETED_FILE in made
        assert made == ran.content("here")

    def test_steps_have_names_that_read_well(self, ran: Ran) -> None:
        for graph in ran.graphs:
            parts = {part for name in stage_names(graph) for part in name.split("/")}
            assert [part for part in parts if part.startswith("_")] == []
            assert {part for part in parts for path in OURS if f"lambda at {path.name}" in part} == set()
        names = {part for name in stage_names(ran.graphs[-1]) for part in name.split("/")}
        assert {"FetchCheckWrite", "FindDuplicateContent", "ChooseSamples", "CountShards"} <= names

    def test_only_names_numbers_and_metadata_are_grouped(self, ran: Ran) -> None:
        for graph in ran.graphs:
            assert grouped(graph)
            assert {name: what for name, what in grouped(graph).items() if what not in NAMES_AND_NUMBERS} == {}
        assert "Artwork" not in " ".join(grouped(ran.graphs[-1]).values())

    def test_what_is_shuffled_is_under_a_kilobyte_a_picture(self, ran: Ran) -> None:
        assert 0 < ran.shuffled_to_plan < 1000 * PICTURES
        assert 0 < ran.shuffled_to_write < 1000 * PICTURES < ran.bytes_fetched / 10

    def test_fetching_writing_and_checking_are_one_step_after_the_names_are_dealt_out(self, ran: Ran) -> None:
        components = ran.graphs[-1].components
        (write,) = (
            step
            for step in components.transforms.values()
            if "FetchCheckWrite" in step.unique_name and step.spec.urn == "beam:transform:pardo:v1"
        )
        (source,) = write.inputs.values()
        assert components.coders[components.pcollections[source].coder_id].spec.urn == "beam:coder:string_utf8:v1"


class TestSubmission:
    def test_the_job_is_told_with_its_address(self, ran: Ran, caplog: pytest.LogCaptureFixture) -> None:
        pipeline = new_pipeline(job_options(f"--dataflow_endpoint={ran.service.address}"))
        _ = pipeline | beam.Create([1])
        with caplog.at_level("INFO", logger="beam_pipelines"):
            run_pipeline(pipeline)
        job = ran.service.jobs[-1]
        assert f"{job['name']} is submitted: {job['id']}" in caplog.text
        assert f"/dataflow/jobs/europe-west4/{job['id']}?project=my-project" in caplog.text
        assert f"gcloud dataflow jobs cancel {job['id']}" in caplog.text

    def test_a_job_that_is_not_waited_for_publishes(self, ran: Ran) -> None:
        before = ran.content("out")
        files.remove(f"{BUCKET}/out/{COMPLETED_FILE}")
        told = write_phase(*parse_arguments([*ran.arguments, f"--output={BUCKET}/out", "--no_wait"]))
        assert "is submitted" in told
        assert "Publish" in stage_names(ran.service.graph(ran.service.jobs[-1]))
        assert ran.content("out") == before

    def test_no_wait_submits_and_goes(self, ran: Ran) -> None:
        with DataflowService(run=False) as service:
            pipeline = new_pipeline(job_options(f"--dataflow_endpoint={service.address}"))
            _ = pipeline | beam.Create([1])
            run_pipeline(pipeline, wait=False)
        assert [job["currentState"] for job in service.jobs] == ["JOB_STATE_RUNNING"]

    def test_a_failed_job_is_told_in_one_line(self, ran: Ran) -> None:
        def fail(number: int) -> None:
            raise RunError("the rows do not add up")

        pipeline = new_pipeline(job_options(f"--dataflow_endpoint={ran.service.address}"))
        _ = pipeline | beam.Create([1]) | beam.Map(fail)
        with pytest.raises(RunError) as raised:
            run_pipeline(pipeline)
        assert str(raised.value) == "the rows do not add up"

    def test_a_path_of_this_machine_is_refused_before_any_work(self, ran: Ran, tmp_path: Path) -> None:
        submitted = len(ran.service.jobs)
        with pytest.raises(OptionError, match="--output"):
            plan_phase(*parse_arguments([*ran.arguments, f"--output={tmp_path / 'out'}"]))
        assert len(ran.service.jobs) == submitted


class TestLauncher:
    def launch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the launcher as a template's image does."""
        return subprocess.run(
            [sys.executable, str(ROOT / "deploy" / "dataflow" / "launcher.py"), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def test_it_plans_and_describes_one_job_which_publishes(self, ran: Ran) -> None:
        submitted = len(ran.service.jobs)
        done = self.launch(
            *(argument for argument in ran.arguments if not argument.startswith("--num_shards")),
            f"--output={BUCKET}/launched", f"--template_location={BUCKET}/launches/job_object",
            "--arguments=--num_shards 4 --filter 'label=Japan' --filter label=Iran",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(ran.service.jobs) == submitted
        assert f"described at {BUCKET}/launches/job_object" in done.stderr
        assert not files.exists(f"{BUCKET}/launched/{COMPLETED_FILE}")
        job = json.loads(files.read_bytes(f"{BUCKET}/launches/job_object"))
        run_graph(ran.service.graph(job))
        assert files.exists(f"{BUCKET}/launched/{COMPLETED_FILE}")
        shards = {name: content for name, content in ran.content("here").items() if name.endswith(".tfrecord")}
        assert shards
        assert shards.items() <= ran.content("launched").items()

    def test_it_says_what_is_wrong_before_it_plans(self, ran: Ran) -> None:
        without = [argument for argument in ran.arguments if not argument.startswith("--max_num_workers")]
        done = self.launch(*without, f"--output={BUCKET}/never")
        assert done.returncode == 2
        assert "--max_num_workers" in done.stderr
        assert files.list_files(f"{BUCKET}/never") == []
