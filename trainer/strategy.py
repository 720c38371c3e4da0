"""The `tf.distribute` strategy of a run: one device, all devices of a machine, or many machines."""

import contextlib
import faulthandler
import os
from collections.abc import Iterator

import tensorflow as tf

from beam_pipelines.errors import OptionError
from trainer.cluster import Cluster

# The workers have met, so that TensorFlow's own meeting takes a moment. While it lasts nothing else runs.
_CONNECT_SECONDS = 120.0


def prepare_devices(device: str, *, strategy: str, deterministic: bool = False) -> list[str]:
    """Returns the devices of this machine that train, such as `GPU:0`; to be called before TensorFlow makes any tensor.

    Args:
        device: `cpu` hides GPUs, `gpu` asks for one, `auto` takes those that there are.
        strategy: `one_device` takes one, any other takes all.
        deterministic: whether only operations that give the same bits each time are used.

    Raises:
        OptionError: there is no GPU and one was asked for.
    """
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    gpus = tf.config.get_visible_devices("GPU")
    if device == "gpu" and not gpus:
        raise OptionError("--device gpu, and TensorFlow finds no GPU here: look at its driver, or give --device cpu")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    kind, count = ("GPU", len(gpus)) if gpus else ("CPU", _logical_cpus())
    return [f"{kind}:{number}" for number in range(1 if strategy == "one_device" else count)]


def make_strategy(cluster: Cluster, devices: list[str], *, strategy: str) -> tf.distribute.Strategy:
    """Returns the strategy.

    With many machines TF_CONFIG is set from `cluster`, and TensorFlow's server begins to listen on this one's address.

    Args:
        cluster: all machines; they have met.
        devices: of this machine, as `prepare_devices` gives them.
        strategy: `auto` takes what fits the machines and the devices.
    """
    if cluster.tasks:
        os.environ["TF_CONFIG"] = cluster.tf_config()
        with _ended_if_stuck():
            return tf.distribute.MultiWorkerMirroredStrategy()
    if strategy == "mirrored" or (strategy == "auto" and len(devices) > 1):
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def _logical_cpus() -> int:
    """Returns how many logical devices this machine's processor was made into, without making any."""
    cpus = tf.config.list_physical_devices("CPU")
    return max(1, sum(len(tf.config.get_logical_device_configuration(cpu) or [None]) for cpu in cpus))


@contextlib.contextmanager
def _ended_if_stuck() -> Iterator[None]:
    """Ends the process, with a trace and exit code 1, if the block takes too long.

    A worker that ends between the meeting and TensorFlow's registration leaves the others waiting in native code that
    holds Python's lock: no signal handler and no thread of Python's could end them.
    """
    faulthandler.dump_traceback_later(_CONNECT_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
