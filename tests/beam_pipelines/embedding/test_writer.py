import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from beam_pipelines import files
from beam_pipelines.choice import HASHES, key_rank
from beam_pipelines.dataset import EMBEDDING, Feature, Shard
from beam_pipelines.embedding.source import SourceShard
from beam_pipelines.embedding.writer import THUMBNAIL, EmbeddingWriter, EmbedShape
from beam_pipelines.errors import RunError
from beam_pipelines.plan_files import Account, PlanFiles, PlannedPicture, WrittenPicture, read_account
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.shards import read_content
from beam_pipelines.tfrecords import decode_example, encode_example, frame, read_records
from tests.beam_pipelines.builders import artwork, killed_at
from tests.beam_pipelines.data_sets import write_data_set

SHARD = Shard("train", 0, 1)
KEYS = [f"{number}/0" for number in range(7)]
SOURCE = SourceShard(SHARD.name, len(KEYS))
LABELS = ["Japan", "Sèvres", "other"]


class FakeEmbedder:
    """The mean colour of a picture, and powers of it; remembers how many pictures came at a time."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def pixels(self, jpeg: bytes) -> npt.NDArray[np.float32]:
        try:
            with Image.open(io.BytesIO(jpeg)) as image:
                colour: npt.NDArray[np.float32] = np.asarray(image, np.float32).mean(axis=(0, 1))
                return colour
        except OSError as error:
            raise RejectedError(Reason.CORRUPT_IMAGE, "cannot be decoded") from error

    def embed(self, pixels: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        self.before()
        self.batches.append(len(pixels))
        stacked = np.stack(pixels)
        return np.concatenate([stacked / 7, stacked**2], axis=1).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A data set of seven pictures in one shard: `1/0` has two labels, `2/0` nobody labelled."""
    labels = {"1/0": LABELS[:2], "2/0": ["other"]}
    rows = [artwork(key, group=f"group of {key}", labels=labels.get(key, ["Japan"])) for key in KEYS]
    folder = str(tmp_path / "pictures")
    write_data_set(
        folder,
        {SHARD: rows, Shard("validation", 0, 1): [artwork("v")]},
        labels=LABELS,
    )
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> PlanFiles:
    return PlanFiles(str(tmp_path / "embeddings"))


def embed(
    plan: PlanFiles,
    source: str,
    *,
    embedder: FakeEmbedder | None = None,
    batch_size: int = 3,
    threads: int = 2,
    samples_below: int = 0,
    told: Callable[[int, int], None] = lambda done, rejected: None,
) -> Account:
    shape = EmbedShape(
        dataset=source, backbone="fake with --weights none", batch_size=batch_size, samples_below=samples_below
    )
    writer = EmbeddingWriter(plan, shape, embedder=embedder or FakeEmbedder(), threads=threads, on_outcome=told)
    try:
        return writer.ensure(SOURCE)
    finally:
        writer.close()


def examples_in(path: str) -> list[dict[str, list[Any]]]:
    with files.open_to_read(path) as file:
        return [decode_example(record) for record in read_records(file)]


def keys_in(path: str) -> list[str]:
    return [example[Feature.KEY][0].decode() for example in examples_in(path)]


def in_order(source: str) -> list[str]:
    return keys_in(PlanFiles(source).shard(SHARD))


def state(directory: str) -> dict[str, bytes]:
    return {name: files.read_bytes(files.join(directory, name)) for name in files.list_files(directory)}


def damage(source: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Writes the shard of pictures anew with other framed records; its account stays."""
    path = PlanFiles(source).shard(SHARD)
    with files.open_to_read(path) as file:
        framed = [frame(record) for record in read_records(file)]
    files.write_bytes(path, b"".join(change(framed)))


def flipped(framed: bytes, place: int) -> bytes:
    changed = bytearray(framed)
    changed[place] ^= 1
    return bytes(changed)


def with_features(framed: bytes, **values: Any) -> bytes:
    """Returns a framed record with other features, named as in `Feature`; those of no value are left out."""
    example: dict[str, Any] = decode_example(framed[12:-4])
    example.update({Feature[name].value: value for name, value in values.items()})
    return frame(encode_example({name: value for name, value in example.items() if value}))


def test_an_example_has_the_vector_and_the_identity_of_its_picture(plan: PlanFiles, source: str) -> None:
    embed(plan, source)
    fake, given = FakeEmbedder(), examples_in(PlanFiles(source).shard(SHARD))
    made = examples_in(plan.shard(SHARD))
    assert len(made) == len(KEYS)
    for picture, example in zip(given, made, strict=True):
        vector = fake.embed([fake.pixels(picture[Feature.ENCODED][0])])[0]
        assert np.array_equal(np.asarray(example.pop(EMBEDDING), np.float32), vector)
        identity = (Feature.LABEL, Feature.TEXT, Feature.KEY, Feature.URI, Feature.SHA256)
        assert example == {name.value: picture[name] for name in identity}
    by_key = {example[Feature.KEY][0].decode(): example for example in made}
    assert by_key["1/0"][Feature.LABEL] == [0, 1]
    assert by_key["1/0"][Feature.TEXT] == [b"Japan", "Sèvres".encode()]
    assert by_key["2/0"][Feature.TEXT] == [b"other"]


def test_every_picture_is_accounted_for(plan: PlanFiles, source: str) -> None:
    told = []
    account = embed(plan, source, told=lambda *counts: told.append(counts))
    assert [picture.key for picture in account.written] == in_order(source)
    first = examples_in(PlanFiles(source).shard(SHARD))[0]
    assert account.written[0] == WrittenPicture(
        first[Feature.KEY][0].decode(), first[Feature.SHA256][0].decode(), 64, 48, len(first[Feature.ENCODED][0])
    )
    assert read_account(plan.account(SHARD)) == account
    assert [sum(numbers) for numbers in zip(*told, strict=True)] == [7, 0]
    content = read_content(plan, SHARD)
    assert (content.examples, content.size, content.sha256) == (7, account.size, account.sha256)


def test_rows_are_those_of_the_plan_of_the_pictures(plan: PlanFiles, source: str) -> None:
    embed(plan, source)
    assert files.read_bytes(plan.rows(SHARD)) == files.read_bytes(PlanFiles(source).rows(SHARD))


def test_rows_come_from_the_examples_where_the_plan_of_the_pictures_is_gone(plan: PlanFiles, source: str) -> None:
    files.remove_tree(PlanFiles(source).path())
    embed(plan, source)
    rows = list(map(PlannedPicture.from_line, files.read_lines(plan.rows(SHARD))))
    assert [row.artwork.key for row in rows] == in_order(source)
    (two,) = (row for row in rows if row.artwork.key == "1/0")
    assert (two.artwork.group, two.artwork.labels, two.class_ids) == ("1/0", ("Japan", "Sèvres"), (0, 1))


def test_batches_are_so_many_records_and_the_rest(plan: PlanFiles, source: str) -> None:
    fake = FakeEmbedder()
    embed(plan, source, embedder=fake)
    assert fake.batches == [3, 3, 1]


@pytest.mark.parametrize("threads", [1, 8])
def test_the_number_of_threads_does_not_change_a_byte(
    plan: PlanFiles, source: str, tmp_path: Path, threads: int
) -> None:
    embed(plan, source, samples_below=HASHES, threads=threads)
    other = PlanFiles(str(tmp_path / "other"))
    embed(other, source, samples_below=HASHES, threads=2)
    assert state(plan.directory) == state(other.directory)


def test_a_picture_that_cannot_be_decoded_is_one_rejected_row(plan: PlanFiles, source: str) -> None:
    damage(source, lambda framed: [framed[0], with_features(framed[1], ENCODED=[b"no JPEG"]), *framed[2:]])
    fake, told, keys = FakeEmbedder(), [], in_order(source)
    account = embed(plan, source, embedder=fake, told=lambda *counts: told.append(counts))
    assert keys_in(plan.shard(SHARD)) == [keys[0], *keys[2:]]
    (row,) = account.rejected()
    assert (row.key, row.uri) == (keys[1], f"http://museum.example/{keys[1]}.jpg")
    assert (row.reason, row.detail) == (Reason.CORRUPT_IMAGE, "cannot be decoded")
    assert fake.batches == [2, 3, 1]
    assert sum(rejected for _, rejected in told) == 1


DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "its bytes": lambda framed: [*framed[:2], flipped(framed[2], 40), *framed[3:]],
    "their checksum": lambda framed: [*framed[:2], flipped(framed[2], -1), *framed[3:]],
    "no example": lambda framed: [*framed[:2], frame(b"\xff\xff"), *framed[3:]],
    "no class": lambda framed: [*framed[:2], with_features(framed[2], LABEL=[]), *framed[3:]],
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_record_is_one_rejected_row(plan: PlanFiles, source: str, what: str) -> None:
    keys = in_order(source)
    damage(source, DAMAGES[what])
    account = embed(plan, source)
    assert keys_in(plan.shard(SHARD)) == [*keys[:2], *keys[3:]]
    (row,) = account.rejected()
    assert (row.key, row.uri) == (keys[2], f"http://museum.example/{keys[2]}.jpg")
    assert (row.reason, bool(row.detail)) == (Reason.CORRUPT_RECORD, True)


LOSSES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "its length": lambda framed: [*framed[:4], flipped(framed[4], 0), *framed[5:]],
    "the checksum of its length": lambda framed: [*framed[:4], flipped(framed[4], 9), *framed[5:]],
    "cut within": lambda framed: [*framed[:4], framed[4][:50]],
    "cut before": lambda framed: framed[:4],
    "cut within its header": lambda framed: [*framed[:4], framed[4][:5]],
}


@pytest.mark.parametrize("what", LOSSES)
def test_where_records_cannot_be_told_apart_the_rest_is_rejected(plan: PlanFiles, source: str, what: str) -> None:
    keys = in_order(source)
    damage(source, LOSSES[what])
    account = embed(plan, source)
    assert keys_in(plan.shard(SHARD)) == keys[:4]
    assert [(row.key, row.reason) for row in account.rejected()] == [(key, Reason.CORRUPT_RECORD) for key in keys[4:]]


def test_damaged_records_that_nobody_knows_are_named_by_their_place(plan: PlanFiles, source: str) -> None:
    damage(source, DAMAGES["its bytes"])
    files.remove_tree(PlanFiles(source).path())
    (row,) = embed(plan, source).rejected()
    assert (row.key, row.uri) == ("train-00000-of-00001#2", "")


def test_a_shard_without_pictures_is_a_shard(plan: PlanFiles, source: str) -> None:
    damage(source, lambda framed: [])
    fake = FakeEmbedder()
    account = embed(plan, source, embedder=fake)
    assert (account.size, len(account.dropped), fake.batches) == (0, 7, [])
    assert read_content(plan, SHARD).examples == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_end_the_run(plan: PlanFiles, source: str, value: float) -> None:
    class Broken(FakeEmbedder):
        def embed(self, pixels: Sequence[Any]) -> npt.NDArray[np.float32]:
            vectors = super().embed(pixels)
            if len(self.batches) == 2:
                vectors[1, 3] = value
            return vectors

    key = in_order(source)[4]
    with pytest.raises(RunError, match=f"fake with --weights none gives numbers that are not finite for {key}"):
        embed(plan, source, embedder=Broken())
    assert not files.exists(plan.shard(SHARD))


def test_a_missing_shard_ends_the_run(plan: PlanFiles, source: str) -> None:
    files.remove(PlanFiles(source).shard(SHARD))
    with pytest.raises(RunError, match=f"{SHARD.file_name} of {source} is missing"):
        embed(plan, source)


def test_more_records_than_the_data_set_says_end_the_run(plan: PlanFiles, source: str) -> None:
    damage(source, lambda framed: [*framed, framed[0]])
    with pytest.raises(RunError, match="has more than the 7 examples"):
        embed(plan, source)


def test_a_whole_shard_is_taken_as_it_is(plan: PlanFiles, source: str) -> None:
    account, fake, told = embed(plan, source), FakeEmbedder(), []
    assert embed(plan, source, embedder=fake, told=lambda *counts: told.append(counts)) == account
    assert fake.batches == []
    assert told == [(7, 0)]


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: flipped(data, 30)])
def test_a_shard_that_is_not_what_its_account_says_is_made_anew(
    plan: PlanFiles, source: str, change: Callable[[bytes], bytes]
) -> None:
    embed(plan, source)
    before = state(plan.directory)
    files.write_bytes(plan.shard(SHARD), change(files.read_bytes(plan.shard(SHARD))))
    embed(plan, source)
    assert state(plan.directory) == before


@pytest.mark.parametrize("replace", [1, 2, 3, 4])
def test_killed_while_writing_and_run_again(plan: PlanFiles, source: str, tmp_path: Path, replace: int) -> None:
    """Rows and samples come first, then the account, then the shard."""
    undisturbed = PlanFiles(str(tmp_path / "undisturbed"))
    embed(undisturbed, source, samples_below=HASHES)
    with killed_at(replace):
        embed(plan, source, samples_below=HASHES)
    assert not files.exists(plan.shard(SHARD))
    assert files.exists(plan.account(SHARD)) == (replace == 4)
    assert files.exists(plan.samples(SHARD)) == (replace > 2)
    embed(plan, source, samples_below=HASHES)
    assert state(plan.directory) == state(undisturbed.directory)


def test_samples_are_the_pictures_of_the_lowest_ranks(plan: PlanFiles, source: str) -> None:
    ranks = sorted(map(key_rank, KEYS))
    embed(plan, source, samples_below=ranks[3])
    made = {example[Feature.KEY][0]: example for example in examples_in(plan.shard(SHARD))}
    samples = examples_in(plan.samples(SHARD))
    assert {key_rank(sample[Feature.KEY][0].decode()) for sample in samples} == set(ranks[:3])
    for sample in samples:
        with Image.open(io.BytesIO(sample.pop(THUMBNAIL)[0])) as image:
            assert max(image.size) <= 64
        of_shard = made[sample[Feature.KEY][0]]
        assert sample == {name: of_shard[name] for name in (EMBEDDING, Feature.KEY, Feature.LABEL, Feature.TEXT)}


def test_what_happened_is_counted(plan: PlanFiles, source: str) -> None:
    damage(source, DAMAGES["its bytes"])
    shape = EmbedShape(dataset=source, backbone="fake", batch_size=3, samples_below=0)
    writer = EmbeddingWriter(plan, shape, embedder=FakeEmbedder(), threads=2)
    writer.ensure(SOURCE)
    counters = writer.take_counters()
    writer.close()
    assert (counters["embed/ok"], counters["rejected/corrupt_record"]) == (6, 1)
    assert {"embed/msec", "decode/msec"} <= counters.keys()
    assert writer.take_counters() == {}


def test_the_pictures_in_flight_are_bounded(plan: PlanFiles, tmp_path: Path) -> None:
    """When the first batch comes to the model, two more batches have been taken up at most."""
    folder, rows = str(tmp_path / "many"), [artwork(f"{number:03d}") for number in range(60)]
    write_data_set(folder, {SHARD: rows, Shard("validation", 0, 1): [artwork("v")]}, labels=LABELS)
    decoded: list[int] = []
    seen: list[int] = []

    class Watched(FakeEmbedder):
        def pixels(self, jpeg: bytes) -> npt.NDArray[np.float32]:
            decoded.append(1)
            return super().pixels(jpeg)

        def embed(self, pixels: Sequence[Any]) -> npt.NDArray[np.float32]:
            seen.append(len(decoded) - sum(self.batches))
            return super().embed(pixels)

    shape = EmbedShape(dataset=folder, backbone="fake", batch_size=5, samples_below=0)
    writer = EmbeddingWriter(plan, shape, embedder=Watched(), threads=4)
    writer.ensure(SourceShard(SHARD.name, 60))
    writer.close()
    assert len(decoded) == 60
    assert max(seen) <= 3 * 5
