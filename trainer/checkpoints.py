"""Checkpoints of a run: `ckpt-STEP`, whole or not there, the newest few and the best.

A checkpoint is TensorFlow's own: `ckpt-STEP.data-00000-of-00001` with the values, then `ckpt-STEP.index`, whose
presence says that it is whole. It is written in a folder of this machine and appears by rename, or by upload to an
object store. Each value stands under its Keras path, `variables/model/dense/kernel` or
`variables/optimizer/adamw/iteration`; those of the seed generators of dropout layers, which
`tf.train.Checkpoint(model=…)` leaves out, are among the model's. Besides them there is a state as JSON: what the loop
must know to go on.

Only worker 0 writes: every variable here is a mirrored one, which TensorFlow saves without asking the other workers.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import tensorflow as tf

from beam_pipelines import files
from beam_pipelines.errors import RunError

_LOGGER = logging.getLogger(__name__)

_INDEX = re.compile(r"ckpt-(\d+)\.index")
_DATA = re.compile(r"ckpt-(\d+)\.data-")
_UNFINISHED = ".unfinished-"
_STATE_KEY = "state/.ATTRIBUTES/py_state"

Variables = Mapping[str, tf.Variable]


def named_variables(**groups: Collection[Any]) -> dict[str, tf.Variable]:
    """Returns the TensorFlow variables of Keras variables by group and path; equal paths are numbered in their order.

    Args:
        **groups: for example `model=model.variables, optimizer=optimizer.variables`.
    """
    named: dict[str, tf.Variable] = {}
    for group, variables in groups.items():
        for variable in variables:
            name = path = f"{group}/{variable.path}"
            number = 1
            while name in named:
                number += 1
                name = f"{path}_{number}"
            named[name] = variable.value
    return named


def digest(variables: Variables) -> str:
    """Returns a hash, in hex, of the names and values of all variables, as this worker's first replica has them."""
    hashed = hashlib.sha256()
    for name, variable in sorted(variables.items()):
        hashed.update(name.encode())
        hashed.update(variable.numpy().tobytes())
    return hashed.hexdigest()


class Checkpoints:
    """The checkpoints in a directory, local or gs://."""

    def __init__(self, directory: str, *, keep: int = 3) -> None:
        """Looks at nothing yet.

        Args:
            directory: made with the first checkpoint.
            keep: how many of the newest stay when another is saved.
        """
        self._directory = directory
        self._keep = keep

    def prefix(self, step: int) -> str:
        """Returns the path of a checkpoint without its endings, as TensorFlow names it."""
        return files.join(self._directory, f"ckpt-{step}")

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints whose index is there, ascending."""
        matches = (_INDEX.fullmatch(name) for name in files.list_directory(self._directory))
        return sorted(int(match[1]) for match in matches if match)

    def is_readable(self, step: int) -> bool:
        """Tells whether every value of a checkpoint can be read, against its checksum; logs why not."""
        try:
            with self._local(step) as prefix:
                reader = tf.train.load_checkpoint(prefix)
                for key in reader.get_variable_to_shape_map():
                    reader.get_tensor(key)
        except Exception as error:  # noqa: BLE001  (TensorFlow's reader raises many kinds, IndexError among them)
            _LOGGER.warning("%s is damaged and passed over: %s", self.prefix(step), _first_line(error))
            return False
        return True

    def save(self, step: int, variables: Variables, state: Mapping[str, Any], *, best: int | None = None) -> None:
        """Writes a checkpoint, whole or not at all, then deletes those that are neither new enough nor the best.

        Args:
            step: how many steps are done; there is no checkpoint of it yet.
            variables: as `named_variables` gives them.
            state: anything that JSON can hold.
            best: the step whose checkpoint stays however old it is.
        """
        with self._folder() as folder:
            written = _checkpoint(variables, _State(state)).write(os.path.join(folder, f"ckpt-{step}"))
            for name in sorted(os.listdir(folder), key=lambda name: name.endswith(".index")):
                self._publish(os.path.join(folder, name), name)
        _LOGGER.debug("%s is saved", written)
        for old in self.steps()[: -self._keep]:
            if old != best:
                self.remove(old)

    def restore(self, step: int, variables: Variables) -> dict[str, Any]:
        """Assigns a checkpoint's values to the variables and returns its state.

        Raises:
            RunError: the checkpoint cannot be read, or is not of these variables.
        """
        state = _State({})
        try:
            with self._local(step) as prefix:
                _checkpoint(variables, state).read(prefix).expect_partial().assert_consumed()
        except Exception as error:
            raise RunError(
                f"{self.prefix(step)} cannot be restored ({_first_line(error)}): delete its files to go on from the "
                "one before"
            ) from error
        return dict(state.value)

    def restore_some(self, step: int, variables: Variables) -> None:
        """Assigns a checkpoint's values to the variables, each of which it must have; it may have others too.

        Raises:
            RunError: the checkpoint cannot be read, or lacks one of these variables, or has it in another shape.
        """
        name = ""
        try:
            with self._local(step) as prefix:
                reader = tf.train.load_checkpoint(prefix)
                for name, variable in variables.items():
                    variable.assign(reader.get_tensor(_value_key(name)))
        except Exception as error:
            at = f"{name}: " if name else ""
            raise RunError(
                f"{self.prefix(step)} cannot be restored ({at}{_first_line(error)}): choose another --checkpoint"
            ) from error

    def state(self, step: int) -> dict[str, Any]:
        """Returns the state in a checkpoint without its variables."""
        with self._local(step) as prefix:
            text = tf.train.load_checkpoint(prefix).get_tensor(_STATE_KEY)
        value: dict[str, Any] = json.loads(text)
        return value

    def remove(self, step: int) -> None:
        """Deletes a checkpoint, its index first."""
        names = [name for name in files.list_directory(self._directory) if name.startswith(f"ckpt-{step}.")]
        for name in sorted(names, key=lambda name: not name.endswith(".index")):
            files.remove(files.join(self._directory, name))

    def tidy(self) -> None:
        """Deletes what a killed process left half written or half deleted."""
        whole = self.steps()
        for name in files.list_directory(self._directory):
            path = files.join(self._directory, name)
            if name.startswith(_UNFINISHED):
                files.remove_tree(path)
                files.remove(path)
            elif (match := _DATA.match(name)) and int(match[1]) not in whole:
                files.remove(path)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str]:
        """Gives a folder to write to: on the same disk, if the checkpoints are on one."""
        parent = None if files.is_remote(self._directory) else self._directory
        if parent:
            os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=parent) as folder:
            yield folder

    def _publish(self, local_path: str, name: str) -> None:
        path = files.join(self._directory, name)
        if not files.is_remote(path):
            os.replace(local_path, path)
            return
        with open(local_path, "rb") as source, files.open_to_write(path) as target:
            shutil.copyfileobj(source, target)

    @contextlib.contextmanager
    def _local(self, step: int) -> Iterator[str]:
        """Gives the prefix of a checkpoint on this machine."""
        prefix = self.prefix(step)
        if not files.is_remote(prefix):
            yield prefix
            return
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED) as folder:
            for name in files.list_directory(self._directory):
                if name.startswith(f"ckpt-{step}."):
                    with (
                        files.open_to_read(files.join(self._directory, name)) as source,
                        open(os.path.join(folder, name), "wb") as target,
                    ):
                        shutil.copyfileobj(source, target)
            yield os.path.join(folder, f"ckpt-{step}")


def best_step(checkpoints: Checkpoints) -> int | None:
    """Returns the step of the best checkpoint, as the newest one knows it; None if there is none."""
    steps = checkpoints.steps()
    if not steps:
        return None
    best = checkpoints.state(steps[-1]).get("best_step")
    return best if best in steps else steps[-1]


class _State(tf.train.experimental.PythonState):
    """A JSON value in a TensorFlow checkpoint."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value

    def serialize(self) -> str:
        return json.dumps(self.value)

    def deserialize(self, string_value: bytes) -> None:
        self.value = json.loads(string_value)


def _checkpoint(variables: Variables, state: _State) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(variables=dict(variables), state=state)


def _value_key(name: str) -> str:
    """Returns the key in a checkpoint of what `_checkpoint` calls `name`."""
    escaped = name.replace(".", "..").replace("/", ".S")
    return f"variables/{escaped}/.ATTRIBUTES/VARIABLE_VALUE"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
