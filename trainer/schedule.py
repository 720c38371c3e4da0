"""Epochs, steps and examples: converted into one another here alone."""

import dataclasses

from beam_pipelines.errors import OptionError
from trainer.options import TrainingOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run is, in steps. Batches are whole: they run across the ends of epochs.

    An epoch has ended at the first step at which all of its examples have been taken.

    Attributes:
        steps: updates of the weights in the whole run.
        examples_per_epoch: the training examples.
        batch_size: examples of a step, on all replicas together.
        warmup_steps: over which the learning rate rises.
        unfreeze_step: the first step, from 0, that also trains the backbone; None for never.
    """

    steps: int
    examples_per_epoch: int
    batch_size: int
    warmup_steps: int = 0
    unfreeze_step: int | None = None

    @property
    def epochs(self) -> int:
        """The epochs of the run; the last one may be cut short."""
        return max(self.epoch_of(self.steps), self.epoch_of(self.steps - 1) + 1)

    def epoch_of(self, step: int) -> int:
        """Returns how many epochs have ended after `step` steps."""
        return step * self.batch_size // self.examples_per_epoch

    def end_of(self, epoch: int) -> int:
        """Returns the number of steps after which `epoch` epochs have ended; it may lie beyond the end of the run."""
        return -(-epoch * self.examples_per_epoch // self.batch_size)

    def examples_at(self, step: int) -> int:
        """Returns how many examples have been taken after `step` steps: the place in the stream where it goes on."""
        return step * self.batch_size

    def next_evaluation(self, step: int) -> int:
        """Returns the next step after `step` that is followed by an evaluation: an epoch's end, or the last step."""
        return min(self.steps, self.end_of(self.epoch_of(step) + 1))

    def is_evaluation(self, step: int) -> bool:
        """Tells whether an evaluation follows when `step` steps are done."""
        return step > 0 and (step == self.steps or self.epoch_of(step) > self.epoch_of(step - 1))


def make_schedule(options: TrainingOptions, *, examples: int) -> Schedule:
    """Returns the schedule that --epochs, --steps or --examples asks for.

    Args:
        options: exactly one of the three is not 0.
        examples: the training examples of the data set, at least one.

    Raises:
        OptionError: the backbone would be unfrozen only after the run's end.
    """
    batch = options.batch_size
    wanted = options.examples or options.epochs * examples
    steps = options.steps or -(-wanted // batch)
    warmup = min(round(options.warmup_epochs * examples / batch), steps // 2)
    whole = Schedule(steps=steps, examples_per_epoch=examples, batch_size=batch, warmup_steps=warmup)
    if options.unfreeze_at is None:
        return whole
    unfreeze_step = whole.end_of(options.unfreeze_at)
    if unfreeze_step >= steps:
        raise OptionError(
            f"--unfreeze_at {options.unfreeze_at} is not before the end of the run, which has {whole.epochs} epochs "
            f"({steps:,} steps): give a smaller one, or train longer"
        )
    return dataclasses.replace(whole, unfreeze_step=unfreeze_step)
