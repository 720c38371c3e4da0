"""Makes the emulator's Python environment, once for every version of its lock file."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

_FOLDER = Path(__file__).parent
_INSTALL_EXTENSION = """
import duckdb, duckdb_extension_spatial, pathlib
[path] = pathlib.Path(duckdb_extension_spatial.__file__).parent.rglob("spatial.duckdb_extension")
duckdb.execute(f"INSTALL '{path}'")
"""


def emulator_environment() -> Path:
    """Returns the folder of an environment with the emulator; it is made if it is not there.

    Several processes may ask at once. The environment's `home` is to be the HOME of the emulator: DuckDB looks there
    for its extensions.
    """
    lock = _FOLDER / "requirements.lock"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "museum-image-classifier")
    environment = cache / f"bigquery-emulator-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    environment.mkdir(parents=True, exist_ok=True)
    with (environment / "lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        installed = environment / "installed"
        if not installed.exists():
            _install(environment, lock)
            installed.touch()
    return environment


def python_of(environment: Path) -> Path:
    """Returns the environment's interpreter."""
    return environment / "venv" / "bin" / "python"


def home_of(environment: Path) -> Path:
    """Returns the environment's own home directory."""
    return environment / "home"


def _install(environment: Path, lock: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    python = python_of(environment)
    home_of(environment).mkdir(exist_ok=True)
    _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment / "venv")
    _run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirements", lock)
    _run(python, "-c", _INSTALL_EXTENSION, HOME=str(home_of(environment)))


def _run(*command: str | Path, **variables: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, **variables}, stdin=subprocess.DEVNULL)
