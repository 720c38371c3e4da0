"""Which runner, how many processes, and how failures are told."""

import apache_beam as beam
import pytest

from beam_pipelines.errors import RunError
from beam_pipelines.runners import (
    LocalRunner,
    beam_options,
    is_local,
    local_workers,
    most_processes,
    new_pipeline,
    run_pipeline,
)


def test_the_local_runner_is_the_default_and_never_looks_for_prism() -> None:
    for arguments in ([], ["--runner=DirectRunner"]):
        options = beam_options(arguments)
        assert is_local(options)
        assert isinstance(new_pipeline(options).runner, LocalRunner)
    assert not is_local(beam_options(["--runner=FlinkRunner"]))


def test_every_core_is_used_unless_told_or_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5}, raising=False)
    assert local_workers(beam_options([]), bundles=100) == 6
    assert local_workers(beam_options([]), bundles=2) == 2
    assert local_workers(beam_options(["--direct_num_workers=3"]), bundles=100) == 3
    assert local_workers(beam_options(["--direct_num_workers", "1"]), bundles=100) == 1


def test_limits_are_shared_among_all_processes_a_cluster_may_have() -> None:
    assert most_processes(beam_options([]), local=4) == 4
    assert most_processes(beam_options(["--runner=FlinkRunner", "--parallelism=12"]), local=4) == 12


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RunError("the rows do not add up"), "the rows do not add up"),
        (OSError(28, "No space left on device"), "No space left on device: mend that"),
        (OSError(13, "Permission denied", "/data/x"), "Permission denied: '/data/x': mend that"),
    ],
)
def test_what_a_user_can_mend_is_told_in_one_line(error: Exception, told: str) -> None:
    pipeline = new_pipeline(beam_options([]))
    _ = pipeline | beam.Create([error]) | beam.Map(_fail)
    with pytest.raises(RunError) as caught:
        run_pipeline(pipeline)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_a_defect_is_not_hidden() -> None:
    pipeline = new_pipeline(beam_options([]))
    _ = pipeline | beam.Create([ZeroDivisionError("division by zero")]) | beam.Map(_fail)
    with pytest.raises(Exception, match="division by zero") as caught:
        run_pipeline(pipeline)
    assert not isinstance(caught.value, RunError)
