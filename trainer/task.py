"""Trains a classifier on the data set of ingest or embed: `python -m trainer.task --help`.

The same command on one device, on all devices of a machine and on many machines, each of which runs it. A run that was
stopped goes on where it was when the same command is given again, on all machines. TensorFlow is imported when
everything that can be said without it has been said.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from beam_pipelines.commands import native_messages_held_back, run_command
from beam_pipelines.errors import RunError
from trainer.arguments import parse_arguments
from trainer.cluster import Cluster, resolve_cluster
from trainer.meeting import Meeting, Outcome, WorkerGoneError, agree
from trainer.preparation import Plan, agree_on_step, begin, check_alike, check_replicas, make_plan, only_run
from trainer.run_directory import FinishedRun, describe_finished, finish_run

if TYPE_CHECKING:
    import tensorflow as tf

    from trainer.loop import Ending
    from trainer.preemption import StopRequest

# Named, because this module is `__main__` where it is the command.
_LOGGER = logging.getLogger("trainer.task")

# How long a worker that refuses tries to tell the others why.
_REFUSAL_SECONDS = 30.0
# How long it may take until it is known which worker is gone, once a collective operation has failed.
_LOSS_SECONDS = 15.0
# What TensorFlow says of an error that another worker's operation has brought here.
_SIGNS_OF_OTHERS = ("aborted by", "GRPC error information")


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 done, 1 failed, 2 wrong options, 130 and 143 stopped by Ctrl-C and SIGTERM, to go on later.
    """
    verbose = "--verbose" in arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    return run_command(lambda: _train(arguments), verbose=verbose)


def _train(arguments: Sequence[str]) -> int:
    options, run = parse_arguments(arguments)
    cluster = resolve_cluster(os.environ, strategy=run.strategy)
    planned = Outcome.of(lambda: make_plan(options, run, cluster))
    with _met(cluster, planned, timeout=run.cluster_timeout) as meeting, contextlib.ExitStack() as stack:
        plan = agree(meeting, planned)
        check_alike(meeting, plan)
        if any(meeting.gather(plan.finished is not None)):
            return _say_finished(plan)
        agree(meeting, Outcome.of(lambda: stack.enter_context(only_run(plan))))
        return _run(plan, meeting)


def _run(plan: Plan, meeting: Meeting) -> int:
    """Makes the strategy and trains, in touch with the other workers; returns the exit code."""
    with contextlib.nullcontext() if plan.run.verbose else native_messages_held_back():
        from trainer import assembly, strategy  # noqa: F401  (what imports TensorFlow)
        from trainer.preemption import noted_signals

    run = plan.run
    devices = agree(
        meeting,
        Outcome.of(
            lambda: strategy.prepare_devices(run.device, strategy=run.strategy, deterministic=run.deterministic)
        ),
    )
    check_replicas(meeting, plan, devices)
    with _explained(plan, meeting):
        distribution = strategy.make_strategy(plan.cluster, devices, strategy=run.strategy)
        with noted_signals() as request:  # after TensorFlow's server, which takes SIGTERM for itself
            ending = _fit(plan, meeting, distribution, devices, request)
    return _end(plan, ending)


def _fit(
    plan: Plan,
    meeting: Meeting,
    distribution: "tf.distribute.Strategy",
    devices: Sequence[str],
    request: "StopRequest",
) -> "Ending":
    """Builds the model, goes on from the newest checkpoint and trains; all workers come back from it together."""
    from trainer import assembly
    from trainer.checkpoints import Checkpoints
    from trainer.classifier import describe
    from trainer.restoring import keep_backbone
    from trainer.saved_run import read_saved_run
    from trainer.summaries import Summaries

    is_chief = plan.cluster.is_chief
    classifier, learner = assembly.make_learner(plan, distribution)
    feed = assembly.make_feed(plan, devices)
    begin(meeting, plan)
    checkpoints = Checkpoints(plan.directory.checkpoints, keep=plan.run.keep_checkpoints)
    step = agree_on_step(meeting, checkpoints)
    if is_chief:
        checkpoints.tidy()
        _say_what(plan, describe(classifier), replicas=distribution.num_replicas_in_sync, step=step)
    with Summaries(plan.directory, step=step, written=is_chief, options=plan.options) as summaries:
        trainer = assembly.make_trainer(plan, learner, feed, checkpoints=checkpoints, summaries=summaries)
        meeting.advise(lambda: f"start all again to go on from step {trainer.saved_step:,}")
        if step:
            trainer.restore(step)
        ending = trainer.run(request)
        if not ending.signal:
            summaries.end_session()
    _compare(meeting, trainer.digest())
    if is_chief and not ending.signal and plan.schedule.unfreeze_step is not None:
        keep_backbone(read_saved_run(plan.run.output))
    return ending


@contextlib.contextmanager
def _met(cluster: Cluster, planned: Outcome[Plan], *, timeout: float) -> Iterator[Meeting]:
    """Gives the meeting of all workers; a worker that refuses only tries to tell the others why."""
    try:
        meeting = Meeting.of(cluster, timeout=min(timeout, _REFUSAL_SECONDS) if planned.error else timeout)
    except RunError:
        if planned.error:
            raise planned.error from None
        raise
    with meeting:
        yield meeting


@contextlib.contextmanager
def _explained(plan: Plan, meeting: Meeting) -> Iterator[None]:
    """Turns what TensorFlow raises into one line: another worker is gone, memory is full, the input cannot be read."""
    import tensorflow as tf

    from trainer.input_pipeline import explain_input_error

    at_fault = (tf.errors.InvalidArgumentError, tf.errors.DataLossError, tf.errors.NotFoundError)
    try:
        yield
    except tf.errors.OpError as error:
        comes_from_others = not isinstance(error, at_fault) or any(sign in str(error) for sign in _SIGNS_OF_OTHERS)
        lost = meeting.loss(wait=_LOSS_SECONDS if comes_from_others else 0.0)
        if lost:
            raise WorkerGoneError(lost) from error
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise RunError(
                f"memory is full: give a --batch_size below {plan.options.batch_size}, or more devices"
            ) from error
        if isinstance(error, at_fault):
            raise RunError(explain_input_error(error, plan.data)) from error
        raise


def _compare(meeting: Meeting, digest: str) -> None:
    """Waits until all workers have come to the end, and warns if they did not come there with the same weights."""
    digests = meeting.gather(digest)
    different = [meeting.name(rank) for rank, other in enumerate(digests) if other != digests[0]]
    if different:
        _LOGGER.warning(
            "the weights of %s are not quite those of worker 0: machines that are not alike round differently",
            ", ".join(different),
        )


def _say_what(plan: Plan, model: str, *, replicas: int, step: int) -> None:
    data, schedule = plan.data, plan.schedule
    _LOGGER.info("%s", model)
    _LOGGER.info(
        "%s examples of %d labels to train on, %s to validate on; %s steps of %d on %d %s",
        f"{data.train.total:,}",
        len(data.labels),
        f"{data.validation.total:,}",
        f"{schedule.steps:,}",
        schedule.batch_size,
        replicas,
        "replica" if replicas == 1 else "replicas",
    )
    if step:
        _LOGGER.info("going on from step %s", f"{step:,}")


def _say_finished(plan: Plan) -> int:
    if plan.finished and plan.cluster.is_chief:
        print(describe_finished(plan.directory, plan.finished))  # noqa: T201
    return 0


def _end(plan: Plan, ending: "Ending") -> int:
    state = ending.state
    if ending.signal:
        _LOGGER.info("stopped at step %s: give the same command again to go on", f"{state.step:,}")
        return 128 + ending.signal
    best = {} if state.best is None else {"best_step": state.best_step, f"best_{plan.options.monitor}": state.best}
    finished = FinishedRun(step=state.step, metrics={**state.validation, **best})
    if plan.cluster.is_chief:
        finish_run(plan.directory, finished)
        print(describe_finished(plan.directory, finished))  # noqa: T201
    return 0


def end_process(code: int) -> NoReturn:
    """Ends the process without waiting for TensorFlow's own threads, which may wait for a worker that is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
