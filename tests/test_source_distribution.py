"""The source distribution, as Beam makes it for `--setup_file`, in an environment like that of a worker.

There it is installed without extras beside Apache Beam, and nothing else of the checkout can be seen.
"""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager
from PIL import Image

from beam_pipelines import files
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageLimits
from beam_pipelines.options import parse_arguments
from beam_pipelines.plan_files import PlanFiles, planned_shards
from beam_pipelines.publish import publish
from beam_pipelines.thumbnails import thumbnails_per_class
from beam_pipelines.verify import verify
from beam_pipelines.write_shards import WriteOptions, write_shards
from tests.beam_pipelines.ingest_command import content, run_ingest
from tests.dataflow_jobs import ROOT, copy_checkout, recorded_jobs

pytestmark = pytest.mark.slow

# Modules that only the machine that plans or draws imports, and what they need of the extras.
DRIVERS = {
    "beam_pipelines.drawing": "matplotlib",
    "beam_pipelines.label_chart": "matplotlib",
    "beam_pipelines.transform_graph": "tensorflow_transform",
    "beam_pipelines.vocabulary": "tensorflow",
}
IMPORT_ALL = """
import importlib, json, pkgutil, beam_pipelines
missing = {}
for module in pkgutil.walk_packages(beam_pipelines.__path__, "beam_pipelines."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        missing[module.name] = error.name
print(json.dumps({"file": beam_pipelines.__file__, "missing": missing}))
"""
IMPORT_WRITER = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"jinja2", "matplotlib", "pyarrow", "tensorflow", "tensorflow_transform"}:
            raise ImportError(f"{name} is refused")
sys.meta_path.insert(0, Refuse())
import apache_beam.runners.worker.sdk_worker_main
import beam_pipelines.write_shards
"""
JOB = (
    "--runner=DataflowRunner", "--dry_run=True", "--no_auth", "--project=my-project", "--region=europe-west4",
    "--temp_location=gs://my-bucket/tmp", "--staging_location=gs://my-bucket/tmp", "--max_num_workers=1",
    "--machine_type=n1-standard-1", "--sdk_container_image=registry.example/worker:1",
)  # fmt: skip


class Workers:
    """An environment with the source distribution and Apache Beam, in the versions of the lock."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "environment" / "bin" / "python"
        made = folder / "made"
        made.mkdir()
        self.distribution = Stager._build_setup_package(str(copy_checkout(folder / "checkout")), str(made))
        uv("venv", "--python", sys.executable, str(folder / "environment"))
        install = ("pip", "install", "--python", str(self.python), "--constraint", str(ROOT / "requirements.lock"))
        # What the project's own environment was installed from is in the cache.
        uv(*install, "--offline", "apache-beam[gcp]", self.distribution)

    def run(self, *arguments: str) -> str:
        """Runs Python there, without a look at this checkout; returns what it printed."""
        done = subprocess.run(
            [str(self.python), "-I", *arguments], cwd="/", capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def uv(*arguments: str) -> None:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert found, "uv is in the environment that `make setup` makes"
    done = subprocess.run([found, "--quiet", *arguments], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Workers:
    return Workers(tmp_path_factory.mktemp("workers"))


def test_workers_import_every_module_but_those_that_plan_and_draw(workers: Workers) -> None:
    told = json.loads(workers.run("-c", IMPORT_ALL).splitlines()[-1])
    assert Path(told["file"]).is_relative_to(workers.python.parents[1])
    assert told["missing"] == DRIVERS


def test_the_pages_templates_and_styles_are_in_it(workers: Workers) -> None:
    (installed,) = workers.python.parents[1].glob("lib/*/site-packages/beam_pipelines/templates")
    names = {path.name for path in (ROOT / "beam_pipelines" / "templates").iterdir()}
    assert names
    assert {path.name for path in installed.iterdir()} == names


def test_writing_shards_needs_nothing_heavy(workers: Workers) -> None:
    workers.run("-c", IMPORT_WRITER)


def test_a_job_writes_and_publishes_there_what_it_writes_here(workers: Workers, tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "pictures" / ("Japan" if number % 2 else "Iran") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((120, 90), 60 + number).save(path)
    options = ["--source=directory", f"--input={tmp_path / 'pictures'}", "--image_size=64", "--num_shards=4"]
    here, there = tmp_path / "here", tmp_path / "there"
    for output, more in ((here, []), (there, ["--plan_only"])):
        code, told = run_ingest(*options, "--min_images_per_label=2", "--output", output, *more)
        assert code == 0, told
    (tmp_path / "graph").write_bytes(graph_of([*options, "--min_images_per_label=2", f"--output={there}"]))
    workers.run(str(ROOT / "tests" / "run_graph.py"), str(tmp_path / "graph"))
    assert list(verify(str(there))) == []
    assert content(there) == content(here)


def graph_of(arguments: list[str]) -> bytes:
    """Returns the graph of the job that writes the shards of a plan and publishes them."""
    dataset, run, _ = parse_arguments(arguments)
    plan = PlanFiles(run.output)
    summary: dict[str, Any] = files.read_json(plan.summary)
    with recorded_jobs() as jobs:
        write_shards(
            plan,
            planned_shards(summary),
            pictures=24,
            options=WriteOptions(
                image_size=dataset.image_size,
                jpeg_quality=dataset.jpeg_quality,
                image_limits=ImageLimits(),
                fetch=FetchLimits(),
                fetch_threads=4,
                thumbnails_per_class=thumbnails_per_class(len(summary["labels"])),
            ),
            beam_options=PipelineOptions(list(JOB)),
            publish=functools.partial(publish, dataset, run.output, max_reject_fraction=0.5),
        )
    graph: bytes = jobs[0].proto_pipeline.SerializeToString()
    return graph
