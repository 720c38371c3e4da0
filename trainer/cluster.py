"""Which machines train together, told from the environment alone. Imports no TensorFlow.

`TF_CONFIG`, as https://www.tensorflow.org/guide/distributed_training#TF_CONFIG describes it, comes first. Without it a
Pod of a Kubernetes Indexed Job knows its own number (`JOB_COMPLETION_INDEX`), and the Job says the rest:

TRAINER_WORKERS     how many Pods train together: the Job's `completions`
TRAINER_JOB         the Job's name, with which the Pods' host names begin
TRAINER_SERVICE     the headless Service's name, which is also the Pods' `subdomain`
TRAINER_PORT        where the workers listen (default 2222)

so that worker I is at `JOB-I.SERVICE:PORT`. Without either there is one machine.
"""

import collections
import dataclasses
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from beam_pipelines.errors import OptionError
from trainer.options import STRATEGIES

CHIEF = "chief"
WORKER = "worker"

_DEFAULT_PORT = "2222"
_INDEX = "JOB_COMPLETION_INDEX"
_JOB_VARIABLES = ("TRAINER_WORKERS", "TRAINER_JOB", "TRAINER_SERVICE")
# Of an Indexed Job that can fail, as Kubernetes documents it.
_MAX_WORKERS = 100_000
_MAX_HOST_CHARACTERS = 253
# https://www.rfc-editor.org/rfc/rfc1123#section-2.1
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_ADDRESS = re.compile(r"(\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^\[\]:]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines that train together, and which of them this is.

    Attributes:
        tasks: addresses, `host:port`, of the `chief` (if there is one) and of each `worker`; empty for one machine.
        task_type: `chief` or `worker`.
        task_index: from 0, among the tasks of its type.
    """

    tasks: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    task_type: str = WORKER
    task_index: int = 0

    @property
    def workers(self) -> int:
        """How many machines train together, the chief among them."""
        return max(1, sum(map(len, self.tasks.values())))

    @property
    def rank(self) -> int:
        """The number of this machine, from 0: first the chief, then the workers in order."""
        chiefs = len(self.tasks.get(CHIEF, ()))
        return self.task_index + (chiefs if self.task_type == WORKER else 0)

    @property
    def is_chief(self) -> bool:
        """Tells whether this machine is the one that writes the run's directory."""
        return self.rank == 0

    def tf_config(self) -> str:
        """Returns the value of TF_CONFIG for TensorFlow; empty for one machine."""
        if not self.tasks:
            return ""
        cluster = {name: list(self.tasks[name]) for name in (CHIEF, WORKER) if self.tasks.get(name)}
        return json.dumps({"cluster": cluster, "task": {"type": self.task_type, "index": self.task_index}})


def resolve_cluster(environment: Mapping[str, str], *, strategy: str) -> Cluster:
    """Returns the cluster that the environment describes.

    A cluster of one machine is no cluster, unless `multi_worker` asks for one.

    Args:
        environment: as `os.environ`.
        strategy: `auto`, `one_device`, `mirrored` or `multi_worker`.

    Raises:
        OptionError: the description is wrong or not whole, or the strategy does not go with it.
    """
    if strategy not in STRATEGIES:
        raise OptionError(f"unknown --strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    cluster = _from_tf_config(environment) or _from_indexed_job(environment) or Cluster()
    if cluster.workers > 1 and strategy in ("one_device", "mirrored"):
        raise OptionError(
            f"--strategy {strategy} is of one machine, and the environment describes {cluster.workers}: give "
            "--strategy multi_worker, or take TF_CONFIG and TRAINER_WORKERS out of the environment"
        )
    if strategy == "multi_worker" and not cluster.tasks:
        raise OptionError(
            "--strategy multi_worker needs a cluster, and the environment describes none: set TF_CONFIG, or run in an "
            f"Indexed Job with {', '.join(_JOB_VARIABLES)} set"
        )
    return cluster if cluster.workers > 1 or strategy == "multi_worker" else Cluster()


def _from_tf_config(environment: Mapping[str, str]) -> Cluster | None:
    text = environment.get("TF_CONFIG", "").strip()
    if text in ("", "{}"):
        return None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"TF_CONFIG is no JSON ({error}): it is to look like {_EXAMPLE}") from error
    if not isinstance(config, dict):
        raise OptionError(f"TF_CONFIG is no JSON object: it is to look like {_EXAMPLE}")
    tasks = _tasks(config.get("cluster"))
    task_type, task_index = _task(config.get("task"), tasks)
    return Cluster(tasks, task_type, task_index)


def _tasks(cluster: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(cluster, dict) or not cluster:
        raise OptionError(f'TF_CONFIG names no machines under "cluster": it is to look like {_EXAMPLE}')
    tasks = {}
    for name, addresses in cluster.items():
        _check_task_type(name)
        if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
            raise OptionError(f'TF_CONFIG: "{name}" is not a list of texts "host:port", but {_shown(addresses)}')
        tasks[name] = tuple(addresses)
    addresses = [address for name in sorted(tasks) for address in tasks[name]]
    for address in addresses:
        _check_address(address, where="TF_CONFIG")
    _check_different(addresses)
    if len(tasks.get(CHIEF, ())) > 1:
        raise OptionError(f'TF_CONFIG has {len(tasks[CHIEF])} tasks "{CHIEF}": keep one, the others are "{WORKER}"')
    if not addresses:
        raise OptionError(f'TF_CONFIG has no "{WORKER}" and no "{CHIEF}": it is to look like {_EXAMPLE}')
    return {name: tasks[name] for name in (CHIEF, WORKER) if tasks.get(name)}


def _task(task: Any, tasks: Mapping[str, tuple[str, ...]]) -> tuple[str, int]:
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise OptionError(
            f'TF_CONFIG does not say which machine this is: add "task": {{"type": "{WORKER}", "index": 0}}, with an '
            "index of its own on each"
        )
    name, index = task["type"], task["index"]
    _check_task_type(name)
    known = len(tasks.get(name, ()))
    if not known:
        raise OptionError(f'TF_CONFIG: this is a "{name}", and "cluster" has none: list it there')
    if isinstance(index, str) and _WHOLE_NUMBER.fullmatch(index):
        index = int(index)
    if type(index) is not int or not 0 <= index < known:
        raise OptionError(
            f'TF_CONFIG: "index" {_shown(index)} is not one of the {known} tasks "{name}": give a number from 0 to '
            f"{known - 1}"
        )
    return name, index


def _check_task_type(name: Any) -> None:
    if name in (CHIEF, WORKER):
        return
    mends = {
        "master": f'call it "{CHIEF}"',
        "evaluator": "every worker takes its part of the evaluation, leave it out",
        "ps": "there are no parameter servers, weights are kept on every worker: leave it out",
    }
    mend = mends.get(name) if isinstance(name, str) else None
    raise OptionError(f'TF_CONFIG has a task "{_shown(name)}": {mend or f"use {CHIEF} and {WORKER}"}')


def _check_different(addresses: list[str]) -> None:
    counts = collections.Counter(map(_comparable, addresses))
    for address in addresses:
        if counts[_comparable(address)] > 1:
            raise OptionError(f"TF_CONFIG names {address} more than once: each task needs an address of its own")


def _comparable(address: str) -> str:
    """Returns the one way to write an address that `_check_address` passed."""
    host, _, port = address.rpartition(":")
    name = ipaddress.ip_address(host[1:-1]).compressed if host.startswith("[") else host.lower()
    return f"{name} {int(port)}"


def _check_address(address: str, *, where: str) -> None:
    """Raises OptionError unless `address` is a host name, an IPv4 address or an IPv6 one in brackets, and a port."""
    match = _ADDRESS.fullmatch(address)
    if not match or not 1 <= int(match["port"]) <= 65535:
        raise OptionError(
            f"{where}: {_shown(address)!r} is not host:port, such as trainer-0.trainer:{_DEFAULT_PORT}, with a port "
            "between 1 and 65535"
        )
    is_host = _is_host_name(match["name"]) if match["name"] is not None else _is_ip(match["ipv6"], version=6)
    if not is_host:
        raise OptionError(
            f"{where}: {_shown(address)!r} has no valid host name: letters, digits and hyphens between dots, at most "
            "63 between two, or an IPv6 address in brackets"
        )


def _is_host_name(name: str) -> bool:
    labels = name.split(".")
    if labels[-1].isdigit():
        return _is_ip(name, version=4)
    return len(name) <= _MAX_HOST_CHARACTERS and all(map(_HOST_LABEL.fullmatch, labels))


def _is_ip(text: str, *, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _from_indexed_job(environment: Mapping[str, str]) -> Cluster | None:
    given = [name for name in _JOB_VARIABLES if environment.get(name)]
    index = environment.get(_INDEX, "")
    if not given and index in ("", "0"):
        return None
    if not index:
        raise OptionError(
            f"{given[0]} is set, and {_INDEX} is not: Kubernetes sets it in a Job with `completionMode: Indexed`"
        )
    if "TRAINER_WORKERS" not in given:
        raise OptionError(f"TRAINER_WORKERS is not set, and {_INDEX} is {index}: set it to the Job's completions")
    workers = _number(environment, "TRAINER_WORKERS")
    if not 1 <= workers <= _MAX_WORKERS:
        raise OptionError(
            f"TRAINER_WORKERS {workers} is not between 1 and {_MAX_WORKERS}: set it to the Job's completions"
        )
    rank = _number(environment, _INDEX)
    if rank >= workers:
        raise OptionError(f"{_INDEX} is {rank}, and TRAINER_WORKERS {workers}: set it to the Job's completions")
    if workers == 1 and len(given) == 1:
        return None
    return Cluster({WORKER: _job_addresses(environment, workers)}, WORKER, rank)


def _job_addresses(environment: Mapping[str, str], workers: int) -> tuple[str, ...]:
    for name, what in (("TRAINER_JOB", "the Job's name"), ("TRAINER_SERVICE", "the headless Service's name")):
        if not environment.get(name):
            raise OptionError(f"{name} is not set, and TRAINER_WORKERS is {workers}: set it to {what}")
    job, service = environment["TRAINER_JOB"], environment["TRAINER_SERVICE"]
    port = environment.get("TRAINER_PORT") or _DEFAULT_PORT
    if not _WHOLE_NUMBER.fullmatch(port):
        raise OptionError(
            f"TRAINER_PORT {_shown(port)} is no port: set it to a number such as {_DEFAULT_PORT} (Kubernetes itself "
            "sets it where a Service is named trainer)"
        )
    _check_address(f"{job}-{workers - 1}.{service}:{port}", where="TRAINER_JOB, TRAINER_SERVICE and TRAINER_PORT")
    return tuple(f"{job}-{index}.{service}:{port}" for index in range(workers))


def _number(environment: Mapping[str, str], name: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(environment[name]):
        raise OptionError(f"{name} {_shown(environment[name])} is not a whole number")
    return int(environment[name])


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
