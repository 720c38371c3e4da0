"""The writer with a model that tells pictures by their first byte."""

import functools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import files
from beam_pipelines.cache import Originals
from beam_pipelines.errors import RunError
from beam_pipelines.images import ImageHeader
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.prediction.options import OUTPUT_FORMATS
from beam_pipelines.prediction.output import PredictionShard, output_format
from beam_pipelines.prediction.rows import PlannedRow, PredictionAccount
from beam_pipelines.prediction.writer import PredictionWriter
from beam_pipelines.rejects import Reason, RejectedError
from serving.model import Predictions
from tests.beam_pipelines.builders import Museum, killed_at

LABELS = ("even", "odd")
UNDECODABLE = b"?"


class Model:
    """Says whether a picture's first byte is even, with a score that tells which one it is; remembers its batches."""

    path = "a-model"

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.finite = True

    def predict(self, keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        assert len(keys) == len(images)
        self.batches.append(list(images))
        ids = np.array([-1 if image == UNDECODABLE else image[0] % 2 for image in images], np.int64)
        scores = np.zeros((len(images), 2), np.float32)
        for place, image in enumerate(images):
            if ids[place] >= 0:
                scores[place, ids[place]] = 0.5 + image[0] / 1000 if self.finite else np.nan
        return Predictions(ids, tuple(LABELS[number] if number >= 0 else "" for number in ids), scores)


def header(image: bytes, *, pixels: int = 100) -> ImageHeader:
    if image == b"text":
        raise RejectedError(Reason.NOT_AN_IMAGE, "a text")
    return ImageHeader("JPEG", pixels, 1)


Make = Callable[..., PredictionWriter]


@pytest.fixture
def museum() -> Museum:
    return Museum({f"{number}": bytes([number]) * 10 for number in range(40)})


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def plan(tmp_path: Path) -> PlanFiles:
    return PlanFiles(str(tmp_path))


@pytest.fixture
def make(museum: Museum, model: Model, plan: PlanFiles) -> Iterator[Make]:
    writers: list[PredictionWriter] = []

    def made(
        *, ending: str = "jsonl", batch_size: int = 4, check: Callable[[bytes], ImageHeader] = header, threads: int = 3
    ) -> PredictionWriter:
        writer = PredictionWriter(
            plan,
            written=output_format(ending, with_labels=True, all_scores=True),
            originals=Originals(fetch=museum.fetch),
            check=check,
            model=lambda: model,
            batch_size=batch_size,
            all_scores=True,
            threads=threads,
        )
        writers.append(writer)
        return writer

    yield made
    for writer in writers:
        writer.close()


def planned(plan: PlanFiles, *rows: PlannedRow, ending: str = "jsonl") -> PredictionShard:
    shard = PredictionShard(0, 1, ending)
    files.write_lines(plan.rows(shard), (row.to_line() for row in rows))
    return shard


def numbered(count: int) -> list[PlannedRow]:
    return [PlannedRow(f"key {number}", f"{number}", ("odd",)) for number in range(count)]


def lines(plan: PlanFiles, shard: PredictionShard) -> list[dict[str, object]]:
    return list(map(json.loads, files.read_lines(plan.shard(shard))))


def reasons(account: PredictionAccount) -> dict[int, str]:
    return {row.number: row.dropped.reason for row in account.rejected}


def test_rows_stand_in_their_order_with_what_the_model_says(make: Make, plan: PlanFiles, model: Model) -> None:
    shard = planned(plan, *numbered(10))
    account = make().ensure(shard)
    assert (account.predicted, account.rejected) == (10, ())
    assert [line["key"] for line in lines(plan, shard)] == [f"key {number}" for number in range(10)]
    assert lines(plan, shard)[3] == {
        "key": "key 3",
        "prediction": 1,
        "label": "odd",
        "score": 0.503,
        "labels": ["odd"],
        "scores": [0.0, 0.503],
    }
    assert list(map(len, model.batches)) == [4, 4, 2]


def test_what_cannot_be_had_or_decoded_is_rejected_and_the_batches_stay(
    make: Make, plan: PlanFiles, model: Model, museum: Museum
) -> None:
    museum.pictures.update({"1": RejectedError(Reason.NOT_FOUND, "status 404"), "2": b"text", "5": UNDECODABLE})
    shard = planned(plan, *numbered(8))
    account = make().ensure(shard)
    assert reasons(account) == {1: "not_found", 2: "not_an_image", 5: "corrupt_image"}
    assert account.rejected[0].dropped.key == "key 1"
    assert account.predicted == len(lines(plan, shard)) == 5
    assert [[image[0] for image in batch] for batch in model.batches] == [[0, 3], [4, ord("?"), 6, 7]]


def test_batches_are_bounded_in_pixels(make: Make, plan: PlanFiles, model: Model) -> None:
    shard = planned(plan, *numbered(6))
    make(check=functools.partial(header, pixels=30_000_000)).ensure(shard)
    assert list(map(len, model.batches)) == [2, 2, 2]


def test_rows_of_one_key_and_one_address_are_rows_of_their_own(make: Make, plan: PlanFiles) -> None:
    shard = planned(plan, PlannedRow("a", "1", ("x",)), PlannedRow("a", "1", ("y",)), PlannedRow("a", "2"))
    make().ensure(shard)
    assert [line["labels"] for line in lines(plan, shard)] == [["x"], ["y"], []]


def test_no_picture_no_model(make: Make, plan: PlanFiles, model: Model, museum: Museum) -> None:
    museum.pictures["0"] = b"text"
    empty = PredictionShard(1, 2, "jsonl")
    files.write_lines(plan.rows(empty), [])
    for shard in (planned(plan, *numbered(1)), empty):
        assert make().ensure(shard).predicted == 0
    assert model.batches == []


def test_a_shard_that_is_there_is_left(make: Make, plan: PlanFiles, model: Model, museum: Museum) -> None:
    shard = planned(plan, *numbered(5))
    writer = make()
    first = writer.ensure(shard)
    museum.take_asked()
    assert writer.ensure(shard) == first
    assert (museum.asked, len(model.batches)) == ([], 2)


def test_a_shard_that_is_damaged_is_written_anew(make: Make, plan: PlanFiles) -> None:
    shard = planned(plan, *numbered(5))
    account = make().ensure(shard)
    whole = files.read_bytes(plan.shard(shard))
    files.write_bytes(plan.shard(shard), whole[:-9] + b"x" + whole[-8:])
    assert make().ensure(shard) == account
    assert files.read_bytes(plan.shard(shard)) == whole


@pytest.mark.parametrize("replace", [1, 2])
def test_killed_at_any_file_the_next_run_leaves_the_same(make: Make, plan: PlanFiles, replace: int) -> None:
    shard = planned(plan, *numbered(9))
    account = make().ensure(shard)
    whole = files.read_bytes(plan.shard(shard))
    for path in (plan.shard(shard), plan.account(shard)):
        files.remove(path)
    with killed_at(replace):
        make().ensure(shard)
    assert not files.exists(plan.shard(shard))
    assert make().ensure(shard) == account
    assert files.read_bytes(plan.shard(shard)) == whole


@pytest.mark.parametrize("ending", OUTPUT_FORMATS)
def test_only_what_may_pass_is_tried_again(
    make: Make, plan: PlanFiles, model: Model, museum: Museum, ending: str
) -> None:
    rows = [*numbered(6), PlannedRow("a\n\udc80", "7")]
    shard = planned(plan, *rows, ending=ending)
    make(ending=ending).ensure(shard)
    undisturbed = files.read_bytes(plan.shard(shard))
    files.remove(plan.shard(shard))
    museum.pictures["2"] = RejectedError(Reason.TIMED_OUT, "took too long")
    museum.pictures["4"] = RejectedError(Reason.NOT_FOUND, "status 404")
    make(ending=ending).ensure(shard)
    museum.pictures.update({"2": bytes([2]) * 10, "4": bytes([4]) * 10})
    museum.take_asked()
    model.batches.clear()
    account = make(ending=ending).ensure(shard, retry_rejected=True)
    assert museum.take_asked() == ["2"]
    assert model.batches == [[bytes([2]) * 10]]
    assert (reasons(account), account.predicted) == ({4: "not_found"}, 6)
    header_lines = undisturbed.count(b"\n") - files.read_bytes(plan.shard(shard)).count(b"\n")
    assert header_lines == 1
    left_out = [line for line in undisturbed.splitlines(keepends=True) if b"key 4" not in line]
    assert files.read_bytes(plan.shard(shard)) == b"".join(left_out)


def test_scores_that_are_not_finite_are_told_in_one_line(make: Make, plan: PlanFiles, model: Model) -> None:
    model.finite = False
    with pytest.raises(RunError, match=r"^the model a-model gives scores that are not finite for key 0: "):
        make().ensure(planned(plan, *numbered(2)))
    assert not files.exists(plan.shard(PredictionShard(0, 1, "jsonl")))


def test_pictures_are_fetched_while_the_model_works(make: Make, plan: PlanFiles, model: Model, museum: Museum) -> None:
    """The model, at its first batch, finds that those of the next one have been asked for."""
    asked: list[int] = []
    predict = model.predict

    def late(keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        if not asked:
            came.acquire(timeout=30)
            asked.append(len(museum.asked))
        return predict(keys, images)

    came = threading.Semaphore(0)
    museum.before = lambda uri: came.release() if uri == "11" else None
    model.predict = late  # type: ignore[method-assign]
    make(threads=2).ensure(planned(plan, *numbered(20)))
    assert asked[0] >= 12
