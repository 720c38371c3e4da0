"""The programs that are compared: how each is installed and called, and how its output is read back."""

import dataclasses
import io
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from PIL import Image

from beam_pipelines import dataset, tfrecords
from beam_pipelines.errors import RunError
from benchmarks import bare_loop
from benchmarks.cache import cache_directory
from benchmarks.pictures import Kind

IMG2DATASET_VERSION = "1.47.0"
# Everything that img2dataset needs, as pip chose it and as it was seen to work; installed without looking further.
_IMG2DATASET_PINS = f"""
img2dataset=={IMG2DATASET_VERSION}
albucore==0.0.23
albumentations==1.4.24
annotated-types==0.8.0
anyio==4.16.0
braceexpand==0.1.7
certifi==2026.10.18
charset-normalizer==3.5.2
click==8.5.1
cwevals==0.0.1b1
dataclasses==0.6
distro==1.9.0
ExifRead-nocycle==3.0.1
fire==0.7.1
fsspec==2026.9.0
googleapis-common-protos==1.76.0
h11==0.16.0
httpcore==1.0.9
httpx==0.28.1
idna==3.20
numpy==2.4.6
opencv-python-headless==4.14.0.94
opentelemetry-api==1.45.2
opentelemetry-exporter-http-transport==0.66b2
opentelemetry-exporter-otlp-common==0.66b2
opentelemetry-exporter-otlp-proto-common==1.45.2
opentelemetry-exporter-otlp-proto-http==1.45.2
opentelemetry-proto==1.45.2
opentelemetry-sdk==1.45.2
opentelemetry-semantic-conventions==0.66b2
packaging==26.3
pandas==2.3.3
platformdirs==4.14.7
protobuf==7.36.2
pyarrow==26.0.1
pydantic==2.14.3
pydantic_core==2.50.4
python-dateutil==4.0.0
pytz==2026.6
PyYAML==6.0.3
requests==2.34.2
scipy==1.17.1
simsimd==6.5.16
sniffio==1.3.1
stringzilla==5.3.2
termcolor==3.3.0
tqdm==4.70.1
typing-inspection==0.4.5
typing_extensions==4.16.0
tzdata==2026.6
urllib3==2.8.0
wandb==0.31.0
webdataset==0.2.111
xxhash==4.1.0
""".split()
_JPEG_QUALITY = 90


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What every contestant is asked to do: fetch and shrink the pictures of a list.

    Attributes:
        manifest: CSV file with the columns `uri` and `label`.
        count: its rows.
        output: a folder that does not exist yet.
        image_size: shorter side of the pictures to be written, in pixels.
    """

    manifest: pathlib.Path
    count: int
    output: pathlib.Path
    image_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """One program.

    Attributes:
        name: short, for tables.
        command: the command line for a job.
        pictures: the JPEGs that it wrote to a folder.
        environment: variables that it needs besides the inherited ones.
    """

    name: str
    command: Callable[[Job], list[str]]
    pictures: Callable[[pathlib.Path], Iterator[bytes]]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def check_output(contestant: Contestant, job: Job, kind: Kind) -> None:
    """Checks that `contestant` wrote a picture for each row of the job, all of `kind` with the shorter side as asked.

    Raises:
        RunError: it did not.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for jpeg in contestant.pictures(job.output):
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            sizes[picture.size] += 1
    scale = job.image_size / min(kind.width, kind.height)
    expected = {(round(kind.width * scale), round(kind.height * scale)): job.count}
    if sizes != expected:
        raise RunError(f"{contestant.name} wrote pictures of {dict(sizes)} (size: how many), not {expected}")


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def ours(*, num_shards: int) -> Contestant:
    """This project's ingest, all defaults but for the job's."""

    def command(job: Job) -> list[str]:
        return [
            *(sys.executable, "-m", "beam_pipelines.ingest"),
            *("--source", "manifest"),
            *("--input", str(job.manifest)),
            *("--output", str(job.output)),
            *("--image_size", str(job.image_size)),
            *("--jpeg_quality", str(_JPEG_QUALITY)),
            *("--min_images_per_label", "1"),
            *("--validation_fraction", "0"),
            *("--num_shards", str(num_shards)),
            "--allow_private_addresses",
        ]

    return Contestant(name="ours", command=command, pictures=_pictures_in_tfrecords)


def bare(*, processes: int) -> Contestant:
    """The limit: 16 threads in each process, see `benchmarks.bare_loop`."""

    def command(job: Job) -> list[str]:
        return [
            *(sys.executable, "-m", "benchmarks.bare_loop"),
            *("--input", str(job.manifest)),
            *("--output", str(job.output)),
            *("--image_size", str(job.image_size)),
            *("--jpeg_quality", str(_JPEG_QUALITY)),
            *("--processes", str(processes)),
            *("--threads", "16"),
        ]

    return Contestant(name="bare", command=command, pictures=bare_loop.read_pictures)


def img2dataset() -> Contestant:
    """img2dataset in an environment of its own, installed first if need be, set to do what ours does, no more.

    `keep_ratio` makes the shorter side `image_size` (`keep_ratio_largest` the longer one). Its output is WebDataset
    tars, which it writes as fast as it can (a file a picture is slower). EXIF extraction is off, as ours keeps none;
    SHA-256 of the bytes is on in both. Its default of 10,000 pictures a shard would leave cores idle on short lists
    (a shard is one process's), so every process gets two equal shards.
    """
    program = _installed_img2dataset()

    def command(job: Job) -> list[str]:
        return [
            str(program),
            *("--url_list", str(job.manifest)),
            *("--input_format", "csv"),
            *("--url_col", "uri"),
            *("--caption_col", "label"),
            *("--output_folder", str(job.output)),
            *("--output_format", "webdataset"),
            *("--image_size", str(job.image_size)),
            *("--resize_mode", "keep_ratio"),
            *("--encode_format", "jpg"),
            *("--encode_quality", str(_JPEG_QUALITY)),
            *("--processes_count", str(cores())),
            *("--thread_count", "32"),
            *("--number_sample_per_shard", str(math.ceil(job.count / cores() / 2))),
            *("--extract_exif", "False"),
            *("--compute_hash", "sha256"),
            *("--retries", "3"),
            *("--disallowed_header_directives", "[]"),
        ]

    # Its libraries ask the network for news of themselves unless they are told not to.
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
    return Contestant(name="img2dataset", command=command, pictures=_pictures_in_tars, environment=quiet)


def _pictures_in_tfrecords(output: pathlib.Path) -> Iterator[bytes]:
    for path in sorted(output.glob("*.tfrecord")):
        with path.open("rb") as file:
            for record in tfrecords.read_records(file):
                yield tfrecords.decode_example(record)[dataset.Feature.ENCODED][0]


def _pictures_in_tars(output: pathlib.Path) -> Iterator[bytes]:
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".jpg") and (file := archive.extractfile(member)):
                    yield file.read()


def _installed_img2dataset() -> pathlib.Path:
    """Returns the path of the img2dataset command in the cache, installed there if it is missing or unfinished."""
    folder = cache_directory() / f"img2dataset-{IMG2DATASET_VERSION}"
    finished = folder / "FINISHED"
    if not finished.exists():
        print(f"Installing img2dataset {IMG2DATASET_VERSION} in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _install(folder)
        finished.touch()
    return folder / "bin" / "img2dataset"


def _install(folder: pathlib.Path) -> None:
    """Makes an environment with the pinned packages, with uv where the project's environment has it."""
    uv = pathlib.Path(sys.executable).parent / "uv"
    python = str(folder / "bin" / "python")
    if uv.exists():
        make = [str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)]
        install = [str(uv), "pip", "install", "--quiet", "--no-deps", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", str(folder)]
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
    for command in (make, [*install, *_IMG2DATASET_PINS]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RunError(f"img2dataset could not be installed: {done.stderr.strip()[-1000:]}")
