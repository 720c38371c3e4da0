"""The handler and the pipeline, with a small model of TensorFlow's."""

import functools
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest

from beam_pipelines import files
from beam_pipelines.choice import HASHES
from beam_pipelines.dataset import EMBEDDING, Feature, Shard
from beam_pipelines.embedding.model import BackboneEmbedder
from beam_pipelines.embedding.shards import Backbone, EmbedShards, ShardHandler, embed_shards
from beam_pipelines.embedding.source import SourceShard, read_source, source_shards
from beam_pipelines.embedding.writer import EmbedShape
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.runners import LocalRunner, beam_options
from beam_pipelines.tfrecords import decode_example, read_records
from tests.beam_pipelines.builders import BUCKET, artwork, object_store
from tests.beam_pipelines.data_sets import drawn, write_data_set
from tests.beam_pipelines.test_dataflow_graph import IMAGE, JOB, NAMES_AND_NUMBERS
from tests.dataflow_jobs import grouped, recorded_jobs, stage_names

SIZE = 24
COUNTS = {Shard("train", 0, 2): 7, Shard("train", 1, 2): 0, Shard("validation", 0, 1): 4}
PICTURES = sum(COUNTS.values())


def build(scale: float = 1.0) -> Any:
    """Returns a model that looks at the colours, and at where they are."""
    import keras

    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIZE, SIZE, 3))
    hidden = keras.layers.Conv2D(5, 3, strides=2, activation="relu")(keras.layers.Rescaling(1 / 127.5, -1)(pixels))
    pooled = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(pixels, keras.layers.Rescaling(scale)(pooled))


BACKBONE = Backbone(build=build, input_size=SIZE)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("pictures"))
    rows = {shard: [artwork(f"{shard.name}/{number}") for number in range(count)] for shard, count in COUNTS.items()}
    write_data_set(folder, rows)
    return folder


@pytest.fixture(scope="module")
def embedder() -> BackboneEmbedder:
    return BackboneEmbedder(build, input_size=SIZE)


def shape_of(pictures: str) -> EmbedShape:
    return EmbedShape(dataset=pictures, backbone="small with --weights none", batch_size=3, samples_below=HASHES)


def embed(pictures: str, output: Path, *, backbone: Backbone = BACKBONE, arguments: tuple[str, ...] = ()) -> PlanFiles:
    plan = PlanFiles(str(output))
    embed_shards(
        plan,
        source_shards(read_source(pictures)),
        shape=shape_of(pictures),
        backbone=backbone,
        beam_options=beam_options(arguments or ("--direct_num_workers=1",)),
    )
    return plan


def examples(directory: str) -> list[dict[str, list[Any]]]:
    found = []
    for shard in COUNTS:
        with files.open_to_read(PlanFiles(directory).shard(shard)) as file:
            found += [decode_example(record) for record in read_records(file)]
    return found


class TestBackboneEmbedder:
    def test_vectors_are_those_of_the_model_called_directly(self, embedder: BackboneEmbedder) -> None:
        import tensorflow as tf

        from trainer.pixels import decode_and_resize

        jpegs = [drawn(seed) for seed in range(3)]
        vectors = embedder.embed([embedder.pixels(jpeg) for jpeg in jpegs])
        direct = build()(tf.stack([decode_and_resize(tf.constant(jpeg), SIZE) for jpeg in jpegs]), training=False)
        assert vectors.dtype == np.float32
        assert vectors.shape == (3, 5)
        np.testing.assert_allclose(vectors, direct.numpy(), rtol=1e-4)

    @pytest.mark.parametrize("jpeg", [b"", b"no JPEG", drawn(1)[:-200]])
    def test_what_is_no_whole_jpeg_is_rejected(self, embedder: BackboneEmbedder, jpeg: bytes) -> None:
        with pytest.raises(RejectedError) as raised:
            embedder.pixels(jpeg)
        assert raised.value.reason is Reason.CORRUPT_IMAGE


def test_every_shard_is_written_and_counted(pictures: str, embedder: BackboneEmbedder, tmp_path: Path) -> None:
    plan = embed(pictures, tmp_path)
    counted = files.read_json(plan.counted)
    assert {value["shard"]: value["examples"] for value in counted} == {
        shard.name: count for shard, count in COUNTS.items()
    }
    assert counted[0]["labels"] == {"0": 7}
    for given, made in zip(examples(pictures), examples(plan.directory), strict=True):
        assert made[Feature.KEY] == given[Feature.KEY]
        vector = embedder.embed([embedder.pixels(given[Feature.ENCODED][0])])[0]
        np.testing.assert_allclose(made[EMBEDDING], vector, rtol=1e-4)


def test_beam_counts_pictures_and_we_count_what_became_of_them(pictures: str, tmp_path: Path) -> None:
    plan = PlanFiles(str(tmp_path))
    pipeline = beam.Pipeline(runner=LocalRunner())
    handler = ShardHandler(plan, shape_of(pictures), BACKBONE)
    _ = pipeline | EmbedShards(plan, source_shards(read_source(pictures)), handler)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query()
    counters = {(each.key.metric.namespace, each.key.metric.name): each.committed for each in found["counters"]}
    assert counters["RunInference", "num_inferences"] == PICTURES
    assert counters["embed", "embed/ok"] == PICTURES
    sizes = {each.key.metric.name: each.committed for each in found["distributions"]}
    assert (sizes["inference_request_batch_size"].max, sizes["inference_request_batch_size"].count) == (7, len(COUNTS))
    assert sizes["load_model_latency_milli_secs"].count == 1


@pytest.mark.slow
def test_more_workers_leave_the_same_bytes(pictures: str, tmp_path: Path) -> None:
    one = embed(pictures, tmp_path / "one")
    two = embed(pictures, tmp_path / "two", arguments=("--direct_num_workers=2",))
    for plan in (one, two):
        files.remove_tree(plan.progress)
    made = files.list_files(one.directory)
    assert files.list_files(two.directory) == made
    for name in made:
        assert files.read_bytes(f"{two.directory}/{name}") == files.read_bytes(f"{one.directory}/{name}")


def test_numbers_that_are_not_finite_are_told_in_one_line(pictures: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        embed(pictures, tmp_path, backbone=Backbone(build=functools.partial(build, np.inf), input_size=SIZE))
    assert str(raised.value).startswith("small with --weights none gives numbers that are not finite for ")
    assert "\n" not in str(raised.value)


class TestGraph:
    @pytest.fixture(scope="class")
    def graph(self) -> Any:
        options = beam_options([*JOB, f"--sdk_container_image={IMAGE}", "--dry_run=True"], output=f"{BUCKET}/out")
        shards = [SourceShard(shard.name, count) for shard, count in COUNTS.items()]
        with object_store(), recorded_jobs() as jobs:
            embed_shards(
                PlanFiles(f"{BUCKET}/out"),
                shards,
                shape=shape_of(f"{BUCKET}/pictures"),
                backbone=BACKBONE,
                beam_options=options,
                publish=print,
            )
        (job,) = jobs
        return job.proto_pipeline

    def test_only_names_of_shards_and_counts_are_grouped(self, graph: Any) -> None:
        assert grouped(graph)
        assert {name: what for name, what in grouped(graph).items() if what not in NAMES_AND_NUMBERS} == {}

    def test_steps_have_names_that_read_well(self, graph: Any) -> None:
        names = {part for name in stage_names(graph) for part in name.split("/")}
        assert {"EmbedShards", "ListShards", "DecodeEmbedWrite", "CountAndWrite", "Publish"} <= names
        assert [name for name in names if name.startswith("_") or "lambda at embed" in name] == []
