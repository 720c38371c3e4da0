"""Flink and Beam's job server, got once for every version of what lies beside this module, and then used again.

Flink comes from PyPI, inside `apache-flink` (scripts) and `apache-flink-libraries` (jars), of which no Python is used.
The job server is built by Maven from Beam's released runner.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from beam_pipelines.errors import OptionError, RunError

FLINK_VERSION = "1.19.3"

_LOGGER = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_REQUIREMENTS = _FOLDER / "requirements.txt"
_POM = _FOLDER / "job-server.pom.xml"
_PARTS = ("bin", "conf", "lib", "plugins")
_PACKAGES = "apt install openjdk-17-jre-headless maven"
# What Beam starts a Python worker with writes its errors to stderr, which is otherwise lost.
_WORKER_OUTPUT = """
logger.workers.name = org.apache.beam.runners.fnexecution.environment.ProcessManager
logger.workers.level = DEBUG
"""


@dataclasses.dataclass(frozen=True)
class Installation:
    """Flink's home directory, and the job server's jar."""

    home: Path
    job_server: Path


def cache_directory() -> Path:
    """Returns where this project keeps what it gets from elsewhere."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "museum-image-classifier"


def get_installation() -> Installation:
    """Returns Flink and the job server; they are got if they are not there. Several processes may ask at once.

    Raises:
        OptionError: Java or Maven is missing.
        RunError: something could not be got.
    """
    _check_programs("java")
    place = cache_directory() / f"flink-{FLINK_VERSION}-{_version()}"
    installation = Installation(home=place / "home", job_server=place / "job-server.jar")
    if place.exists():
        return installation
    _check_programs("mvn")
    with _locked(place.with_name(f"{place.name}.lock")):
        if not place.exists():
            _install(place)
    return installation


def _version() -> str:
    return hashlib.sha256(_REQUIREMENTS.read_bytes() + _POM.read_bytes() + _WORKER_OUTPUT.encode()).hexdigest()[:12]


def _check_programs(*names: str) -> None:
    for name in names:
        if not shutil.which(name):
            raise OptionError(f"there is no `{name}` on the path, which Flink needs: {_PACKAGES}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(place: Path) -> None:
    """Makes everything in a folder beside `place`, which is then renamed: half an installation is never used."""
    unfinished = place.with_name(f"{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    _LOGGER.info("getting Flink %s from PyPI, 230 MB", FLINK_VERSION)
    _get_flink(unfinished)
    _LOGGER.info("building Beam's job server for it, with Maven")
    _build_job_server(unfinished)
    unfinished.rename(place)


def _get_flink(folder: Path) -> None:
    packages = folder / "packages"
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
    _run(*pip, "--require-hashes", "--requirement", str(_REQUIREMENTS), "--dest", str(packages))
    for package in packages.iterdir():
        _unpack(package, folder / "unpacked")
    home = folder / "home"
    home.mkdir()
    for unpacked in (folder / "unpacked").glob("*"):
        for part in _PARTS:
            found = next((path for path in (unpacked / part, unpacked / "deps" / part) if path.is_dir()), None)
            if found:
                shutil.copytree(found, home / part, dirs_exist_ok=True)
    for script in (home / "bin").glob("*.sh"):
        script.chmod(0o755)
    with (home / "conf" / "log4j-console.properties").open("a") as logging_properties:
        logging_properties.write(_WORKER_OUTPUT)
    shutil.rmtree(packages)
    shutil.rmtree(folder / "unpacked")


def _unpack(package: Path, folder: Path) -> None:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            wheel.extractall(folder)
    else:
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")


def _build_job_server(folder: Path) -> None:
    build = folder / "build"
    build.mkdir()
    shutil.copy(_POM, build / "pom.xml")
    _run("mvn", "--quiet", "--batch-mode", "--strict-checksums", "--file", str(build / "pom.xml"), "package")
    (build / "target" / "job-server.jar").rename(folder / "job-server.jar")
    shutil.rmtree(build)


def _run(*command: str) -> None:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RunError(f"`{' '.join(command)}` ended with exit code {done.returncode}:\n{done.stdout.strip()}")
