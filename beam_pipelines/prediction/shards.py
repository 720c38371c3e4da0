"""From planned rows to shards of predictions: one pipeline, whose elements are whole shards.

Only names of shards and counts cross a shuffle. Beam's RunInference holds one model a process and counts what it does;
the handler given to it fetches the pictures of a shard, has them predicted and writes that, in one fused step.
"""

import collections
import dataclasses
import functools
import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam import metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.cache import originals_kept
from beam_pipelines.errors import RunError
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.images import ImageLimits, check_image
from beam_pipelines.memory import keep_freed_memory
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.prediction.output import OutputFormat, PredictionShard, output_format
from beam_pipelines.prediction.rows import read_account
from beam_pipelines.prediction.writer import PredictionWriter
from beam_pipelines.progress import ProgressFile
from beam_pipelines.runners import cores, local_workers, most_processes, new_pipeline, run_pipeline
from beam_pipelines.write_shards import ShardNames, WriteCounted
from serving.model import Model, load_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictHow:
    """How workers fetch and predict.

    Attributes:
        model: the directory of the model's version.
        batch_size: the most pictures that the model sees at a time.
        output_format: of the files.
        with_labels: whether rows have labels.
        all_scores: whether the scores of all classes are written.
        image_limits: what a picture may be.
        fetch: bounds on every fetch.
        fetch_threads: pictures at a time in each process.
        retry_rejected: try again what failed for passing reasons.
        cache_dir: where fetched pictures are kept; empty for nowhere.
    """

    model: str
    batch_size: int
    output_format: str
    with_labels: bool
    all_scores: bool
    image_limits: ImageLimits
    fetch: FetchLimits
    fetch_threads: int
    retry_rejected: bool = False
    cache_dir: str = ""

    def written(self) -> OutputFormat:
        """Returns the format of the files."""
        return output_format(self.output_format, with_labels=self.with_labels, all_scores=self.all_scores)


@dataclasses.dataclass(frozen=True)
class PlannedShard:
    """A shard; its length is how many rows are planned for it."""

    shard: PredictionShard
    rows: int

    def __len__(self) -> int:
        return self.rows


def predict_shards(
    plan: PlanFiles,
    shards: Mapping[PredictionShard, int],
    *,
    how: PredictHow,
    labels: tuple[str, ...],
    beam_options: PipelineOptions,
    publish: Callable[[], object] | None = None,
) -> None:
    """Writes the shards that are not there yet, and counts what lies in all of them to `.plan/counted.json`.

    Args:
        plan: of the predictions.
        shards: all that are planned, with the number of rows of each.
        how: workers go about it.
        labels: that the model knows.
        beam_options: Beam's.
        publish: what a worker does when all is counted; the job is then submitted, and not waited for.
    """
    workers = local_workers(beam_options, bundles=max(1, len(shards)))
    fetch = dataclasses.replace(how.fetch, max_processes=most_processes(beam_options, local=workers))
    handler = ShardHandler(plan, dataclasses.replace(how, fetch=fetch), workers_here=workers)
    pipeline = new_pipeline(beam_options, workers=workers)
    counted = pipeline | "PredictShards" >> PredictShards(plan, shards, handler, labels=labels)
    if publish:
        counted | "Publish" >> beam.Map(lambda _, do: do(), do=publish)
    run_pipeline(pipeline, wait=publish is None)
    if publish is None:
        files.remove_unfinished(plan.directory)  # of workers that were lost, and whose work others did again


class PredictShards(beam.PTransform):
    """Writes shards of predictions and the counts of what lies in them."""

    def __init__(
        self,
        plan: PlanFiles,
        shards: Mapping[PredictionShard, int],
        handler: "ShardHandler",
        *,
        labels: tuple[str, ...],
    ) -> None:
        super().__init__()
        self._plan = plan
        self._shards = shards
        self._handler = handler
        self._labels = labels

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        by_name = {shard.name: PlannedShard(shard, rows) for shard, rows in self._shards.items()}
        count = functools.partial(
            _count_written,
            plan=self._plan,
            shards={name: planned.shard for name, planned in by_name.items()},
            written=self._handler.how.written(),
            labels=self._labels,
        )
        return (
            pipeline
            | "ListShards" >> ShardNames(list(self._shards))
            | "WithRows" >> beam.Map(by_name.__getitem__).with_output_types(PlannedShard)
            | "FetchPredictWrite" >> RunInference(self._handler.with_no_batching())
            | "CountAndWrite" >> WriteCounted(beam.FlatMap(count), self._plan.counted)
        )


class ShardHandler(ModelHandler[PlannedShard, str, "_Worker"]):
    """Predicts whole shards; to RunInference a shard is a batch of as many examples as it has rows.

    Args:
        plan: of the predictions.
        how: workers go about it.
        workers_here: processes among which this machine's cores are shared out.
    """

    def __init__(self, plan: PlanFiles, how: PredictHow, *, workers_here: int = 1) -> None:
        super().__init__()
        self.how = how
        self._plan = plan
        self._workers_here = workers_here

    def load_model(self) -> "_Worker":
        """Makes what a process holds; it loads the model when there is a picture to predict."""
        return _Worker(self._plan, self.how, workers_here=self._workers_here)

    def run_inference(
        self, batch: PlannedShard, model: "_Worker", inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[str]:
        """Writes a shard; returns its name."""
        model.ensure(batch.shard)
        return [batch.shard.name]


class _Worker:
    """The model, the fetcher and the threads of one process, which predicts one shard at a time."""

    def __init__(self, plan: PlanFiles, how: PredictHow, *, workers_here: int) -> None:
        keep_freed_memory()
        self._how = how
        self._model_threads = max(1, cores() // workers_here) if workers_here > 1 else 0
        self._progress = ProgressFile(plan.progress)
        self._turn = threading.Lock()
        self._writer = PredictionWriter(
            plan,
            written=how.written(),
            originals=originals_kept(Fetcher(how.fetch).fetch, how.cache_dir),
            check=functools.partial(check_image, limits=how.image_limits),
            model=lambda: self._model,
            batch_size=how.batch_size,
            all_scores=how.all_scores,
            threads=how.fetch_threads,
            on_outcome=lambda done, rejected: self._progress.add(done=done, rejected=rejected),
        )

    @functools.cached_property
    def _model(self) -> Model:
        return load_model(self._how.model, threads=self._model_threads)

    def ensure(self, shard: PredictionShard) -> None:
        """Writes the shard unless it is there."""
        with self._turn:
            self._writer.ensure(shard, retry_rejected=self._how.retry_rejected)
            counters = self._writer.take_counters()
        for name, number in counters.items():
            metrics.Metrics.counter("predict", name).inc(number)
        self._progress.tell()


def count_shard(
    plan: PlanFiles, shard: PredictionShard, *, written: OutputFormat, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Reads a finished shard and returns what lies in it, as `.plan/counted.json` has it.

    Args:
        plan: of the predictions.
        shard: which one.
        written: its format.
        labels: that the model knows.

    Raises:
        RunError: the shard is not what its account says.
    """
    account = read_account(plan.account(shard))
    if account is None:
        raise RunError(f"the account of {shard.name} is gone: another run may be at work in {plan.directory}")
    known = frozenset(labels)
    predicted: collections.Counter[str] = collections.Counter()
    examples: collections.Counter[str] = collections.Counter()
    right: collections.Counter[str] = collections.Counter()
    digest, rows, labelled, correct = hashlib.sha256(), 0, 0, 0
    with files.open_to_read(plan.shard(shard)) as file:
        for row in written.decode(_hashed_lines(io.TextIOWrapper(file, encoding="utf-8", newline="\n"), digest)):
            rows += 1
            predicted[row.label] += 1
            true = known.intersection(row.labels)
            examples.update(true)
            right.update(true & {row.label})
            labelled += bool(true)
            correct += row.label in true
    if (rows, digest.hexdigest()) != (account.predicted, account.sha256):
        raise RunError(f"{shard.file_name} is not what its account says: run the same command again to mend it")
    return {
        "shard": shard.name,
        "rows": rows,
        "sha256": account.sha256,
        "labels": dict(sorted(predicted.items())),
        "labelled": labelled,
        "right": correct,
        "examples_of": dict(sorted(examples.items())),
        "right_of": dict(sorted(right.items())),
    }


def _count_written(
    name: str,
    *,
    plan: PlanFiles,
    shards: Mapping[str, PredictionShard],
    written: OutputFormat,
    labels: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    yield count_shard(plan, shards[name], written=written, labels=labels)


def _hashed_lines(lines: Iterable[str], digest: Any) -> Iterator[str]:
    for line in lines:
        digest.update(line.encode())
        yield line
