"""From a data set of pictures to shards of embeddings: one pipeline, whose elements are whole shards.

Only names of shards and counts cross a shuffle. Beam's RunInference loads the backbone once a process and counts what
it does; the handler given to it reads a shard, has its pictures embedded and writes their vectors in one fused step.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.commands import native_messages_held_back
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, Shard
from beam_pipelines.embedding.model import BackboneEmbedder
from beam_pipelines.embedding.source import SourceShard
from beam_pipelines.embedding.writer import EmbeddingWriter, EmbedShape
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.progress import ProgressFile
from beam_pipelines.runners import cores, local_workers, new_pipeline, run_pipeline
from beam_pipelines.write_shards import ShardNames, WriteCounted, account_of, count_shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """The backbone that workers load.

    Attributes:
        build: returns the model, as `trainer.models.build_backbone` does.
        input_size: pixels of a side of its pictures.
    """

    build: Callable[[], Any]
    input_size: int


def kept_backbone(planned: Mapping[str, Any], *, output: str) -> Backbone:
    """Returns the backbone whose weights lie in the output directory; to build it raises RunError if it is another.

    Args:
        planned: what the plan says of it.
        output: the data set directory.
    """
    path = files.join(output, BACKBONE_WEIGHTS_FILE)
    build = functools.partial(_build, planned["name"], path, sha256=planned["weights_sha256"])
    return Backbone(build=build, input_size=planned["input_size"])


def _build(name: str, path: str, *, sha256: str) -> Any:
    from trainer.models import build_backbone, weights_sha256

    backbone = build_backbone(name, weights=path)
    if weights_sha256(backbone) != sha256:
        raise RunError(f"{path} has other weights than were planned: delete it and give the same command again")
    return backbone


def embed_shards(
    plan: PlanFiles,
    shards: Sequence[SourceShard],
    *,
    shape: EmbedShape,
    backbone: Backbone,
    beam_options: PipelineOptions,
    publish: Callable[[], object] | None = None,
) -> None:
    """Writes the shards that are not there yet, and counts what lies in all of them to `.plan/counted.json`.

    Args:
        plan: of the data set of embeddings.
        shards: of the pictures.
        shape: what decides the bytes.
        backbone: what makes the vectors.
        beam_options: Beam's.
        publish: what a worker does when all is counted; the job is then submitted, and not waited for.
    """
    workers = local_workers(beam_options, bundles=max(1, len(shards)))
    handler = ShardHandler(plan, shape, backbone, workers_here=workers)
    pipeline = new_pipeline(beam_options, workers=workers)
    counted = pipeline | "EmbedShards" >> EmbedShards(plan, shards, handler)
    if publish:
        counted | "Publish" >> beam.Map(lambda _, do: do(), do=publish)
    run_pipeline(pipeline, wait=publish is None)
    if publish is None:
        files.remove_unfinished(plan.directory)  # of workers that were lost, and whose work others did again


class EmbedShards(beam.PTransform):
    """Writes shards of embeddings and the counts of what lies in them."""

    def __init__(self, plan: PlanFiles, shards: Sequence[SourceShard], handler: "ShardHandler") -> None:
        super().__init__()
        self._plan = plan
        self._shards = shards
        self._handler = handler

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        pictures = {source.name: source.pictures for source in self._shards}
        return (
            pipeline
            | "ListShards" >> ShardNames([source.shard for source in self._shards])
            | "WithPictures" >> beam.Map(_source_shard, pictures=pictures).with_output_types(SourceShard)
            | "DecodeEmbedWrite" >> RunInference(self._handler.with_no_batching())
            | "CountAndWrite" >> WriteCounted(beam.FlatMap(_count_written, self._plan), self._plan.counted)
        )


class ShardHandler(ModelHandler[SourceShard, str, "_Worker"]):
    """Embeds whole shards; to RunInference a shard is a batch of as many examples as it has pictures.

    Args:
        plan: of the data set of embeddings.
        shape: what decides the bytes.
        backbone: what makes the vectors.
        workers_here: processes among which this machine's cores are shared out.
    """

    def __init__(self, plan: PlanFiles, shape: EmbedShape, backbone: Backbone, *, workers_here: int = 1) -> None:
        super().__init__()
        self._plan = plan
        self._shape = shape
        self._backbone = backbone
        self._workers_here = workers_here

    def load_model(self) -> "_Worker":
        """Builds the backbone."""
        return _Worker(self._plan, self._shape, self._backbone, workers_here=self._workers_here)

    def run_inference(
        self, batch: SourceShard, model: "_Worker", inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[str]:
        """Writes a shard; returns its name."""
        model.ensure(batch)
        return [batch.name]


class _Worker:
    """The backbone and the threads of one process, which embeds one shard at a time."""

    def __init__(self, plan: PlanFiles, shape: EmbedShape, backbone: Backbone, *, workers_here: int) -> None:
        threads = max(1, cores() // workers_here)
        with native_messages_held_back():
            embedder = BackboneEmbedder(
                backbone.build, input_size=backbone.input_size, threads=threads if workers_here > 1 else 0
            )
        self._progress = ProgressFile(plan.progress)
        self._turn = threading.Lock()
        self._writer = EmbeddingWriter(
            plan,
            shape,
            embedder=embedder,
            threads=threads,
            on_outcome=lambda done, rejected: self._progress.add(done=done, rejected=rejected),
        )

    def ensure(self, source: SourceShard) -> None:
        """Writes the shard unless it is there."""
        with self._turn:
            self._writer.ensure(source)
            counters = self._writer.take_counters()
        for name, number in counters.items():
            metrics.Metrics.counter("embed", name).inc(number)
        self._progress.tell()


def _source_shard(name: str, *, pictures: Mapping[str, int]) -> SourceShard:
    return SourceShard(name, pictures[name])


def _count_written(name: str, plan: PlanFiles) -> Iterator[dict[str, Any]]:
    shard = Shard.parse(name)
    yield count_shard(plan, shard, account_of(plan, shard, plan.account(shard)))
