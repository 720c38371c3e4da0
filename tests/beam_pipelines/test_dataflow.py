"""What Dataflow asks of a job's options, what is told of a job, and the files that a template is made from."""

import json
import re
import shlex
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow import DataflowRunner
from google.cloud.dataflow_v1beta3.types import ContainerSpec
from hypothesis import given

from beam_pipelines.dataflow import (
    check_dataflow_options,
    describe_job,
    how_to_cancel,
    job_name,
    most_processes,
)
from beam_pipelines.errors import OptionError
from beam_pipelines.options import make_parser, parse_arguments
from beam_pipelines.sources import IMAGES_FROM, SOURCE_NAMES
from tests.beam_pipelines.builders import hostile_text

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "dataflow"

GIVEN = {
    "project": "my-project",
    "region": "europe-west4",
    "temp_location": "gs://my-bucket/tmp",
    "max_num_workers": "4",
    "machine_type": "n1-standard-1",
    "sdk_container_image": "europe-west4-docker.pkg.dev/my-project/museum/ingest:1",
}


def options(*more: str, **changes: str) -> PipelineOptions:
    """Returns options that Dataflow takes, with changes; an empty value leaves one out."""
    arguments = [f"--{name}={value}" for name, value in {**GIVEN, **changes}.items() if value]
    return PipelineOptions(["--runner=DataflowRunner", *arguments, *more])


def test_what_dataflow_needs_passes() -> None:
    check_dataflow_options(options())
    check_dataflow_options(options(temp_location="", staging_location="gs://my-bucket/staging"))
    check_dataflow_options(options(job_name="museum-1", machine_type="n2-custom-4-8192"))
    check_dataflow_options(options(sdk_container_image="", setup_file=str(ROOT / "setup.py")))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"project": ""}, "--project"),
        ({"project": "My Project"}, "--project 'My Project'"),
        ({"region": ""}, "--region"),
        ({"temp_location": ""}, "--temp_location gs://BUCKET"),
        ({"temp_location": "/tmp/here"}, "--temp_location '/tmp/here'"),
        ({"temp_location": "gs://my-bucket"}, "give gs://BUCKET/FOLDER"),
        ({"staging_location": "gs://b/staging"}, "--staging_location 'gs://b/staging'"),
        ({"job_name": "Museum_1"}, "--job_name 'Museum_1'"),
        ({"job_name": "museum-"}, "--job_name 'museum-'"),
        ({"job_name": "m" * 64}, "at most 63"),
        ({"max_num_workers": ""}, "--max_num_workers"),
        ({"max_num_workers": "", "num_workers": "3"}, "--max_num_workers"),
        ({"machine_type": ""}, "--machine_type"),
        ({"machine_type": "a2-highgpu-1g"}, "--machine_type 'a2-highgpu-1g'"),
        ({"sdk_container_image": ""}, "--setup_file ./setup.py"),
        ({"setup_file": str(ROOT / "setup.py")}, "either"),
        ({"sdk_container_image": "", "setup_file": str(ROOT / "pyproject.toml")}, "not called setup.py"),
        ({"sdk_container_image": "", "setup_file": "/nowhere/setup.py"}, "/nowhere/setup.py"),
    ],
)
def test_what_is_missing_or_wrong_is_named(changes: dict[str, str], named: str) -> None:
    with pytest.raises(OptionError) as raised:
        check_dataflow_options(options(**changes))
    assert named in str(raised.value)


def test_a_setup_file_needs_its_folder_because_beam_goes_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_dataflow_options(options(sdk_container_image="", setup_file="./setup.py"))
    with pytest.raises(OptionError, match=r"\./setup\.py"):
        check_dataflow_options(options(sdk_container_image="", setup_file="setup.py"))


@pytest.mark.parametrize(
    ("machine_type", "vcpus"),
    [
        ("n1-standard-1", 1),
        ("n1-standard-4", 4),
        ("e2-highmem-8", 8),
        ("n2-custom-6-8192", 6),
        ("n2-custom-6-8192-ext", 6),
        ("custom-2-4096", 2),
        ("c3-standard-88-lssd", 88),
        ("e2-medium", 2),
        ("f1-micro", 1),
        ("compute.googleapis.com/projects/p/zones/z/machineTypes/n1-highcpu-16", 16),
    ],
)
def test_each_vcpu_of_each_worker_has_a_process(machine_type: str, vcpus: int) -> None:
    assert most_processes(options(machine_type=machine_type, max_num_workers="3")) == 3 * vcpus


def test_one_process_a_worker_can_be_asked_for() -> None:
    alone = "--experiments=no_use_multiple_sdk_containers"
    assert most_processes(options(alone, machine_type="n1-standard-4")) == 4
    assert most_processes(options(alone, machine_type="")) == 4


def test_the_number_of_workers_is_bound_by_hand_or_by_autoscaling() -> None:
    fixed = options(max_num_workers="", num_workers="5", autoscaling_algorithm="NONE", machine_type="n1-standard-2")
    assert most_processes(fixed) == 10
    assert most_processes(options(num_workers="2", max_num_workers="7")) == 7


@given(hostile_text)
def test_every_output_gives_a_name_that_beam_takes(output: str) -> None:
    name = job_name("ingest", output)
    assert PipelineOptionsValidator(options(), DataflowRunner()).is_full_string_match(
        PipelineOptionsValidator.JOB_PATTERN, name
    )
    assert len(name) <= 63
    check_dataflow_options(options(job_name=name))


def test_the_name_of_a_job_tells_outputs_apart_and_stays() -> None:
    assert job_name("ingest", "gs://bucket/Met 2017/") == job_name("ingest", "gs://bucket/Met 2017/")
    assert re.fullmatch(r"ingest-met-2017-[0-9a-f]{8}", job_name("ingest", "gs://bucket/Met 2017/"))
    assert job_name("ingest", "gs://bucket/a/met") != job_name("ingest", "gs://bucket/b/met")


class Submitted:
    """A job as the runner returns it."""

    has_job = True

    def job_id(self) -> str:
        return "2026-11-21_00_00_00-123"


def test_a_job_is_told_with_its_address_and_how_to_cancel_it() -> None:
    told = describe_job(Submitted(), options(job_name="museum-1"))
    assert "museum-1 is submitted: 2026-11-21_00_00_00-123" in told
    address = "https://console.cloud.google.com/dataflow/jobs/europe-west4/2026-11-21_00_00_00-123?project=my-project"
    assert address in told.split()
    assert how_to_cancel(Submitted(), options()) in told
    assert "gcloud dataflow jobs cancel 2026-11-21_00_00_00-123 --project my-project --region europe-west4" in told


@pytest.mark.parametrize(
    ("given_options", "told"),
    [
        (options("--dry_run=True"), "no job is submitted"),
        (options(template_location="gs://my-bucket/job"), "described at gs://my-bucket/job"),
    ],
)
def test_where_the_runner_submits_no_job_none_is_told(given_options: PipelineOptions, told: str) -> None:
    assert told in describe_job(object(), given_options)


def template() -> Any:
    """Returns the template's file, as the README fills it in."""
    text = string.Template((DEPLOY / "ingest-template.json").read_text())
    return json.loads(text.safe_substitute(LAUNCHER_IMAGE="registry/launcher:1", WORKER_IMAGE="registry/worker:1"))


PARAMETERS = {parameter["name"]: parameter for parameter in template()["metadata"]["parameters"]}
# What is no option of ingest: an option of Beam's, and those that the launcher takes apart.
OWN_PARAMETERS = {"sdk_container_image", "arguments"}


def test_the_template_is_of_the_form_that_the_service_reads() -> None:
    spec = ContainerSpec.from_json(json.dumps(template()), ignore_unknown_fields=False)
    assert spec.image == "registry/launcher:1"
    assert spec.sdk_info.language.name == "PYTHON"
    assert [parameter.name for parameter in spec.metadata.parameters] == list(PARAMETERS)
    assert all(parameter.label and parameter.help_text for parameter in spec.metadata.parameters)
    environment = spec.default_environment
    defaults = options(machine_type=environment.machine_type, max_num_workers=str(environment.max_workers))
    assert most_processes(defaults) == 16
    assert "${" not in json.dumps(template())


def test_the_templates_parameters_are_options_of_ingest() -> None:
    actions = {action.dest: action for action in make_parser()._actions}
    for name, parameter in PARAMETERS.items():
        if name not in OWN_PARAMETERS:
            assert actions[name].nargs is None, f"{name} takes no value"
            assert actions[name].required != parameter.get("isOptional", False), name
    required = {name for name, action in actions.items() if action.required}
    assert required <= PARAMETERS.keys()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("source", SOURCE_NAMES, ["csv", ""]),
        ("images_from", IMAGES_FROM, ["web"]),
        (
            "input",
            ["gs://my-bucket/lists/*.csv", "bigquery-public-data.the_met", "p.d.objects"],
            ["/data/list.csv", "a"],
        ),
        ("output", ["gs://my-bucket/data set"], ["gs://my-bucket", "out"]),
        ("sdk_container_image", ["europe-docker.pkg.dev/p/r/ingest-worker:1"], ["ingest worker"]),
        ("attribute", ["culture", "object_begin_date"], ["1st", ""]),
        ("labels_file", ["gs://my-bucket/labels.txt"], ["labels.txt"]),
        ("min_images_per_label", ["1", "250"], ["0", "-1", "ten"]),
        ("image_size", ["320"], ["0"]),
        ("cache_dir", ["gs://my-bucket/cache"], ["cache"]),
        ("contact", ["you@example.org", "https://example.org/bot"], [""]),
        ("arguments", ["--multi_label --filter 'department=Asian Art'"], ["multi_label"]),
    ],
)
def test_the_templates_patterns_tell_values_apart(name: str, good: list[str], bad: list[str]) -> None:
    (pattern,) = PARAMETERS[name]["regexes"]
    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value)] == []


def test_every_parameter_of_the_template_has_a_tested_pattern() -> None:
    marks = test_the_templates_patterns_tell_values_apart.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(PARAMETERS)


def test_the_images_are_of_pinned_versions_that_the_project_has() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    images = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    assert all(re.search(r":\d[\w.]+$", image) for image in images if image not in stages)
    (beam,) = re.findall(r"^apache-beam==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert f"apache/beam_python3.11_sdk:{beam}" in images
    (uv,) = re.findall(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"uv=={uv}" in dockerfile
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    assert {name for line in copied for name in line.split()} == {name[1:] for name in kept if name.startswith("!")}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Says what `make dataflow-ingest` would run."""
    command = ["make", "--dry-run", "--no-print-directory", "dataflow-ingest", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


MAKE = ("PROJECT=my-project", "REGION=europe-west4", "BUCKET=my-bucket")
INGEST = (
    "ARGS=--source manifest --input gs://my-bucket/a.csv --output gs://my-bucket/out --filter 'department=Asian Art'"
)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ((), {"setup_file": "./setup.py", "max_num_workers": 4, "machine_type": "n1-standard-4", "disk_size_gb": 50}),
        (
            ("IMAGE=registry/worker:1", "NETWORK=inner", "SUBNETWORK=regions/r/subnetworks/s", "MAX_WORKERS=9"),
            {
                "sdk_container_image": "registry/worker:1",
                "network": "inner",
                "subnetwork": "regions/r/subnetworks/s",
                "max_num_workers": 9,
            },
        ),
    ],
)
def test_make_gives_ingest_what_dataflow_needs(
    variables: tuple[str, ...], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = make(*MAKE, INGEST, *variables)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.replace("\\\n", " ").splitlines()[-1])
    dataset, run, beam = parse_arguments(words[words.index("beam_pipelines.ingest") + 1 :])
    assert dataset.filter == ("department=Asian Art",)
    assert run.output == "gs://my-bucket/out"
    given = PipelineOptions(beam)
    check_dataflow_options(given)
    values = given.get_all_options(drop_default=True)
    assert values["runner"] == "DataflowRunner"
    assert values["staging_location"].startswith("gs://my-bucket/")
    assert expected.items() <= values.items()


@pytest.mark.parametrize("missing", ["PROJECT", "REGION", "BUCKET", "ARGS"])
def test_make_names_the_variable_that_is_missing(missing: str) -> None:
    done = make(*(variable for variable in (*MAKE, INGEST) if not variable.startswith(missing)))
    assert done.returncode != 0
    assert f"give {missing}=" in done.stderr
