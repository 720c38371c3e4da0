"""The numbered directories of a model: which is the next, and how one appears whole or not at all.

On this machine a version is made beside its place and renamed. In an object store its files are uploaded one by one,
`saved_model.pb` last, without which nobody takes it for a model; a claim beside it keeps other exports away meanwhile.
Imports no TensorFlow.
"""

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.locks import only_run_in

MODEL_FILE = "saved_model.pb"

_VERSION = re.compile(r"[1-9][0-9]*")
_NEARLY_VERSION = re.compile(r"[v-]?[0-9.]+")
_UNFINISHED = re.compile(r"\.unfinished-([1-9][0-9]*)-[0-9]+-[0-9a-f]{8}")
# Longer than any upload takes: the claim of an export that was killed on another machine.
_FORGOTTEN_SECONDS = 3_600.0


def check_version(output: str) -> None:
    """Raises OptionError unless `output` is a version that is not there yet; names the next free one."""
    model, version = _split(output)
    if not _VERSION.fullmatch(version):
        free = _next(model if _NEARLY_VERSION.fullmatch(version) else output)
        raise OptionError(f"--output {output} does not end in the number of a version: give --output {free}")
    if not files.is_remote(output) and os.path.isfile(model):
        raise OptionError(f"--output {output}: {model} is a file, give a directory")
    if _is_there(output):
        raise OptionError(f"{output} is there already: give --output {_next(model)}")


@contextlib.contextmanager
def new_version(output: str) -> Iterator[str]:
    """Gives a local directory; when the block ends what was written there appears at `output`, and never if it raises.

    Raises:
        OptionError: another export is at work in the same version, or has made it meanwhile.
        RunError: it has been made since the block began.
    """
    with _new_remote_version(output) if files.is_remote(output) else _new_local_version(output) as directory:
        yield directory


@contextlib.contextmanager
def _new_local_version(output: str) -> Iterator[str]:
    model, version = _split(os.path.abspath(output))
    with only_run_in(output):
        check_version(output)
        os.makedirs(model, exist_ok=True)
        _remove_unfinished(model, version)
        directory = os.path.join(model, _unfinished_name(version))
        os.mkdir(directory)
        try:
            yield directory
            os.rename(directory, output)
        except OSError as error:
            if os.path.lexists(output):
                raise RunError(f"{output} has been made by others meanwhile: give --output {_next(model)}") from error
            raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _remove_unfinished(model: str, version: str) -> None:
    """Deletes what killed exports left: of `version`, which this one holds, and of those that nobody holds."""
    for name in os.listdir(model):
        match = _UNFINISHED.fullmatch(name)
        if not match:
            continue
        held = contextlib.nullcontext() if match[1] == version else only_run_in(os.path.join(model, match[1]))
        with contextlib.suppress(OptionError), held:
            shutil.rmtree(os.path.join(model, name), ignore_errors=True)


@contextlib.contextmanager
def _new_remote_version(output: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory, _claimed(output):
        check_version(output)
        files.remove_tree(output)
        yield directory
        for name in sorted(files.list_files(directory), key=lambda name: name == MODEL_FILE):
            with open(os.path.join(directory, name), "rb") as source, files.open_to_write(_at(output, name)) as target:
                shutil.copyfileobj(source, target)


@contextlib.contextmanager
def _claimed(output: str) -> Iterator[None]:
    """Holds a version in an object store; of two that claim it at the same moment both may be refused.

    Raises:
        OptionError: another export holds it.
    """
    model, version = _split(output)
    own = files.join(model, _unfinished_name(version))
    files.write_json(own, {"host": socket.gethostname(), "pid": os.getpid()})
    try:
        _check_other_claims(model, version, own)
        yield
    finally:
        files.remove(own)


def _check_other_claims(model: str, version: str, own: str) -> None:
    found = {entry.path: entry for entry in files.list_entries(model)}
    for path, entry in found.items():
        match = _UNFINISHED.fullmatch(path.rsplit("/", 1)[-1])
        if path == own or not match or match[1] != version:
            continue
        if found[own].modified - entry.modified < _FORGOTTEN_SECONDS and not _is_dead(path):
            raise OptionError(
                f"another export is at work in {files.join(model, version)}: wait for it, or give another version; if "
                f"it was killed, delete {path}"
            )
        files.remove(path)


def _is_dead(claim: str) -> bool:
    """Tells whether a claim is that of a process of this machine that has ended."""
    try:
        holder = files.read_json(claim)
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    if holder.get("host") != socket.gethostname():
        return False
    if holder["pid"] == os.getpid():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _is_there(output: str) -> bool:
    if files.is_remote(output):
        return files.exists(files.join(output, MODEL_FILE))
    return os.path.lexists(output)


def _next(model: str) -> str:
    """Returns the version behind the highest that a model has."""
    taken = [int(name) for name in files.list_directory(model) if _VERSION.fullmatch(name)]
    return files.join(model, str(max(taken, default=0) + 1))


def _split(output: str) -> tuple[str, str]:
    """Returns the directory of the model, and the version."""
    model, _, version = output.rstrip("/").rpartition("/")
    return model or ("/" if output.startswith("/") else "."), version


def _unfinished_name(version: str) -> str:
    return f".unfinished-{version}-{os.getpid()}-{os.urandom(4).hex()}"


def _at(output: str, name: str) -> str:
    return files.join(output, *name.split(os.sep))
