import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import OptionError
from trainer.cluster import Cluster, resolve_cluster
from trainer.options import STRATEGIES

HOSTS = ["a.example:2222", "b.example:2222", "c.example:2222"]
JOB = {
    "JOB_COMPLETION_INDEX": "1",
    "TRAINER_WORKERS": "3",
    "TRAINER_JOB": "trainer",
    "TRAINER_SERVICE": "workers",
}


def tf_config(cluster: Any = None, task: Any = None, **more: Any) -> dict[str, str]:
    cluster = {"worker": HOSTS} if cluster is None else cluster
    task = {"type": "worker", "index": 1} if task is None else task
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task, **more})}


def refused(environment: dict[str, str], *, strategy: str = "auto") -> str:
    with pytest.raises(OptionError) as caught:
        resolve_cluster(environment, strategy=strategy)
    return str(caught.value)


@pytest.mark.parametrize("environment", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": " {} "}, {"JOB_COMPLETION_INDEX": "0"}])
@pytest.mark.parametrize("strategy", ["auto", "one_device", "mirrored"])
def test_one_machine_where_nothing_says_otherwise(environment: dict[str, str], strategy: str) -> None:
    cluster = resolve_cluster(environment, strategy=strategy)
    assert (cluster.workers, cluster.rank, cluster.is_chief, cluster.tf_config()) == (1, 0, True, "")


@pytest.mark.parametrize("strategy", ["auto", "multi_worker"])
@pytest.mark.parametrize("index", [0, 1, 2, "2"])
def test_workers_of_tf_config(index: int | str, strategy: str) -> None:
    environment = tf_config(task={"type": "worker", "index": index}, environment="cloud")
    cluster = resolve_cluster(environment, strategy=strategy)
    assert (cluster.workers, cluster.rank, cluster.is_chief) == (3, int(index), int(index) == 0)
    told = {"cluster": {"worker": HOSTS}, "task": {"type": "worker", "index": int(index)}}
    assert json.loads(cluster.tf_config()) == told


def test_a_chief_comes_before_the_workers() -> None:
    both = {"worker": HOSTS[1:], "chief": HOSTS[:1]}
    chief = resolve_cluster(tf_config(both, {"type": "chief", "index": 0}), strategy="auto")
    assert (chief.workers, chief.rank, chief.is_chief) == (3, 0, True)
    first = resolve_cluster(tf_config(both, {"type": "worker", "index": 0}), strategy="auto")
    assert (first.rank, first.is_chief) == (1, False)
    last = resolve_cluster(tf_config(both, {"type": "worker", "index": 1}), strategy="auto")
    assert (last.workers, last.rank, last.is_chief) == (3, 2, False)
    told = json.loads(last.tf_config())
    assert told == {"cluster": both, "task": {"type": "worker", "index": 1}}


def test_tf_config_comes_before_the_job() -> None:
    assert resolve_cluster({**tf_config(), **JOB}, strategy="auto").tasks == {"worker": tuple(HOSTS)}


def test_a_cluster_of_one_is_one_machine_unless_it_is_asked_for() -> None:
    for environment in (
        tf_config({"chief": HOSTS[:1]}, {"type": "chief", "index": 0}),
        {**JOB, "TRAINER_WORKERS": "1", "JOB_COMPLETION_INDEX": "0"},
    ):
        for strategy in ("auto", "one_device", "mirrored"):
            assert resolve_cluster(environment, strategy=strategy) == Cluster()
        alone = resolve_cluster(environment, strategy="multi_worker")
        assert (alone.workers, alone.rank) == (1, 0)
        assert json.loads(alone.tf_config())["task"]["index"] == 0


def test_an_indexed_job() -> None:
    cluster = resolve_cluster(JOB, strategy="auto")
    assert cluster.tasks == {"worker": ("trainer-0.workers:2222", "trainer-1.workers:2222", "trainer-2.workers:2222")}
    assert (cluster.workers, cluster.rank, cluster.is_chief) == (3, 1, False)
    first = resolve_cluster({**JOB, "JOB_COMPLETION_INDEX": "0", "TRAINER_PORT": "80"}, strategy="multi_worker")
    assert first.tasks["worker"][2] == "trainer-2.workers:80"
    assert first.is_chief


def test_an_indexed_job_of_one_needs_no_names() -> None:
    environment = {"JOB_COMPLETION_INDEX": "0", "TRAINER_WORKERS": "1"}
    assert resolve_cluster(environment, strategy="auto") == Cluster()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"TRAINER_WORKERS": ""},
            "TRAINER_WORKERS is not set, and JOB_COMPLETION_INDEX is 1: set it to the Job's completions",
        ),
        (
            {"TRAINER_WORKERS": "", "TRAINER_JOB": "", "TRAINER_SERVICE": ""},
            "TRAINER_WORKERS is not set, and JOB_COMPLETION_INDEX is 1: set it to the Job's completions",
        ),
        (
            {"TRAINER_WORKERS": "", "JOB_COMPLETION_INDEX": "0"},
            "TRAINER_WORKERS is not set, and JOB_COMPLETION_INDEX is 0: set it to the Job's completions",
        ),
        (
            {"JOB_COMPLETION_INDEX": ""},
            "TRAINER_WORKERS is set, and JOB_COMPLETION_INDEX is not: Kubernetes sets it in a Job with "
            "`completionMode: Indexed`",
        ),
        ({"TRAINER_JOB": ""}, "TRAINER_JOB is not set, and TRAINER_WORKERS is 3: set it to the Job's name"),
        (
            {"TRAINER_SERVICE": ""},
            "TRAINER_SERVICE is not set, and TRAINER_WORKERS is 3: set it to the headless Service's name",
        ),
        (
            {"JOB_COMPLETION_INDEX": "3"},
            "JOB_COMPLETION_INDEX is 3, and TRAINER_WORKERS 3: set it to the Job's completions",
        ),
        ({"JOB_COMPLETION_INDEX": "-1"}, "JOB_COMPLETION_INDEX -1 is not a whole number"),
        ({"TRAINER_WORKERS": "two"}, "TRAINER_WORKERS two is not a whole number"),
        (
            {"TRAINER_WORKERS": "0"},
            "TRAINER_WORKERS 0 is not between 1 and 100000: set it to the Job's completions",
        ),
        (
            {"TRAINER_WORKERS": "100001"},
            "TRAINER_WORKERS 100001 is not between 1 and 100000: set it to the Job's completions",
        ),
        (
            {"TRAINER_PORT": "tcp://10.0.0.1:2222"},
            "TRAINER_PORT tcp://10.0.0.1:2222 is no port: set it to a number such as 2222 (Kubernetes itself sets it "
            "where a Service is named trainer)",
        ),
        (
            {"TRAINER_PORT": "65536"},
            "TRAINER_JOB, TRAINER_SERVICE and TRAINER_PORT: 'trainer-2.workers:65536' is not host:port, such as "
            "trainer-0.trainer:2222, with a port between 1 and 65535",
        ),
        (
            {"TRAINER_JOB": "my_trainer"},
            "TRAINER_JOB, TRAINER_SERVICE and TRAINER_PORT: 'my_trainer-2.workers:2222' has no valid host name: "
            "letters, digits and hyphens between dots, at most 63 between two, or an IPv6 address in brackets",
        ),
    ],
)
def test_a_job_that_says_only_a_part(changed: dict[str, str], message: str) -> None:
    assert refused({**JOB, **changed}) == message


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"TF_CONFIG": "worker-0"}, "TF_CONFIG is no JSON (Expecting value: line 1 column 1 (char 0)): it is to look"),
        ({"TF_CONFIG": "[" * 100_000}, "TF_CONFIG is no JSON ("),
        ({"TF_CONFIG": "[1]"}, 'TF_CONFIG is no JSON object: it is to look like {"cluster": {"worker"'),
        (tf_config({}), 'TF_CONFIG names no machines under "cluster": it is to look like'),
        (tf_config({"worker": []}), 'TF_CONFIG has no "worker" and no "chief": it is to look like'),
        (tf_config(HOSTS), 'TF_CONFIG names no machines under "cluster"'),
        (tf_config({"worker": "a:1"}), '"worker" is not a list of texts "host:port", but a:1'),
        (tf_config({"worker": {"0": "a:1"}}), '"worker" is not a list of texts "host:port", but {"0": "a:1"}'),
        (tf_config({"worker": [1]}), '"worker" is not a list of texts "host:port", but [1]'),
        (tf_config({"master": HOSTS}), 'TF_CONFIG has a task "master": call it "chief"'),
        (tf_config({"worker": HOSTS, "ps": ["p:1"]}), 'TF_CONFIG has a task "ps": there are no parameter servers'),
        (
            tf_config({"worker": HOSTS, "evaluator": ["e:1"]}),
            'TF_CONFIG has a task "evaluator": every worker takes its',
        ),
        (tf_config({"wrker": HOSTS}), 'TF_CONFIG has a task "wrker": use chief and worker'),
        (tf_config({"chief": HOSTS}), 'TF_CONFIG has 3 tasks "chief": keep one, the others are "worker"'),
        (
            {"TF_CONFIG": json.dumps({"cluster": {"worker": HOSTS}})},
            "TF_CONFIG does not say which machine this is: add",
        ),
        (tf_config(task={"type": "worker"}), 'TF_CONFIG does not say which machine this is: add "task"'),
        (tf_config(task={"index": 0}), 'add "task": {"type": "worker", "index": 0}, with an index of its own on each'),
        (tf_config(task={"type": "evaluator", "index": 0}), 'TF_CONFIG has a task "evaluator": every worker takes its'),
        (tf_config(task={"type": "master", "index": 0}), 'TF_CONFIG has a task "master": call it "chief"'),
        (tf_config(task={"type": ["x"], "index": 0}), 'TF_CONFIG has a task "["x"]": use chief and worker'),
        (tf_config(task={"type": "chief", "index": 0}), 'this is a "chief", and "cluster" has none: list it there'),
        *(
            (
                tf_config(task={"type": "worker", "index": index}),
                f'"index" {shown} is not one of the 3 tasks "worker": give',
            )
            for index, shown in ((3, "3"), (-1, "-1"), ("x", "x"), (True, "true"), (1.0, "1.0"), (None, "null"))
        ),
        (tf_config({"worker": ["a:1", "b:1", "A:1"]}), "TF_CONFIG names a:1 more than once: each task needs"),
        (tf_config({"worker": ["a:1", "b:1"], "chief": ["b:1"]}), "TF_CONFIG names b:1 more than once"),
        (tf_config({"worker": ["a:1", "[::1]:1", "[0::1]:1"]}), "TF_CONFIG names [::1]:1 more than once"),
    ],
)
def test_a_tf_config_that_is_wrong(environment: dict[str, str], part: str) -> None:
    assert part in refused(environment)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "a",
            "a:",
            ":1",
            "a:x",
            "a:0",
            "a:65536",
            "a:123456",
            "grpc://a:1",
            "a b:1",
            "a:1:2",
            "::1:1",
            "a:1\n",
            "ä:1",
        ),
        *("-a:1", "a-:1", "a..b:1", "a_b:1", ".a:1", "a.:1", f"{'a' * 64}:1", f"{'a.' * 127}a:1", "1.2.3:1"),
        *("1.2.3.256:1", "[::1]", "[::g]:1", "[1.2.3.4]:1", "[]:1", "", "a:٣"),
    ],
)
def test_an_address_that_is_none(address: str) -> None:
    message = refused(tf_config({"worker": [address, "other:1"]}, {"type": "worker", "index": 1}))
    assert message.startswith(f"TF_CONFIG: {address!r} " if len(address) < 80 else f"TF_CONFIG: '{address[:79]}…' ")


@pytest.mark.parametrize(
    "address", ["a:1", "A-1.b.example:65535", "10.0.0.1:80", "[::1]:2222", "[fd00::a:1]:1", f"{'a' * 63}.b:1", "3com:1"]
)
def test_an_address(address: str) -> None:
    assert resolve_cluster(tf_config({"worker": [address, "z:1"]}), strategy="auto").tasks["worker"][0] == address


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_a_strategy_of_one_machine_in_a_cluster(strategy: str) -> None:
    message = (
        f"--strategy {strategy} is of one machine, and the environment describes 3: give --strategy multi_worker, or"
    )
    for environment in (tf_config(), JOB):
        assert refused(environment, strategy=strategy).startswith(message)


def test_many_machines_without_a_cluster() -> None:
    assert refused({}, strategy="multi_worker") == (
        "--strategy multi_worker needs a cluster, and the environment describes none: set TF_CONFIG, or run in an "
        "Indexed Job with TRAINER_WORKERS, TRAINER_JOB, TRAINER_SERVICE set"
    )


def test_a_strategy_that_nobody_knows() -> None:
    assert refused({}, strategy="tpu") == (
        "unknown --strategy 'tpu': choose one of auto, one_device, mirrored, multi_worker"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
task_types = st.sampled_from(["chief", "worker", "master", "ps"])
addresses = st.sampled_from(["a:1", "b:1", "c:1", "[::1]:1", "1.2.3.4:1"]) | st.text("ab.-:[]1 \n", max_size=8)
clusters = st.dictionaries(task_types, st.lists(addresses, max_size=3) | json_values, max_size=3) | json_values
tasks = (
    st.fixed_dictionaries({"type": task_types | json_values, "index": st.integers(-1, 3) | json_values}) | json_values
)
tf_configs = (
    st.fixed_dictionaries({}, optional={"cluster": clusters, "task": tasks}).map(json.dumps)
    | st.text(max_size=20)
    | json_values.map(json.dumps)
)
job_values = st.sampled_from(["", "0", "1", "2", "3", "trainer", "-1", "x y", "2222"]) | st.text(max_size=5)
environments = st.fixed_dictionaries(
    {}, optional={"TF_CONFIG": tf_configs, **dict.fromkeys((*JOB, "TRAINER_PORT"), job_values)}
)


@given(environments, st.sampled_from(STRATEGIES))
def test_any_environment_gives_a_cluster_or_one_clear_line(environment: dict[str, str], strategy: str) -> None:
    try:
        cluster = resolve_cluster(environment, strategy=strategy)
    except OptionError:
        return
    addresses = [address for named in cluster.tasks.values() for address in named]
    assert 0 <= cluster.rank < cluster.workers == max(1, len(set(addresses)))
    if cluster.tasks:
        assert resolve_cluster({"TF_CONFIG": cluster.tf_config()}, strategy=strategy) == cluster


@given(st.integers(1, 50), st.booleans())
def test_each_task_has_a_rank_of_its_own(size: int, has_chief: bool) -> None:
    hosts = [f"h{number}:1" for number in range(size)]
    cluster = {"chief": hosts[:1], "worker": hosts[1:]} if has_chief else {"worker": hosts}
    ranks = {}
    for name, addresses in cluster.items():
        for index, address in enumerate(addresses):
            found = resolve_cluster(tf_config(cluster, {"type": name, "index": index}), strategy="multi_worker")
            ranks[address] = found.rank
    assert [ranks[host] for host in hosts] == list(range(size))
