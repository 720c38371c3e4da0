"""The embed command on pictures of which some cannot be read, stopped and given again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import files
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, EMBEDDING, Feature, Shard
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.tfrecords import CorruptRecordError, decode_example, encode_example, frame, read_records
from beam_pipelines.verify import verify
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.ingest_command import (
    content,
    information,
    read_examples,
    rejected_reasons,
    run_embed,
    start_embed,
)
from tests.beam_pipelines.test_ingest_killed import kill_when

pytestmark = pytest.mark.slow

LABELS = ["Japan", "China", "other"]
SHARDS = [*(Shard("train", number, 6) for number in range(6)), *(Shard("validation", number, 2) for number in range(2))]
PICTURES = 6 * len(SHARDS)
TWO_LABELS, NO_LABEL = "train-00001-of-00006/3", "train-00002-of-00006/4"


class Pictures:
    """A data set with a damaged record and a record without a JPEG; what embed makes of it."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "pictures"
        labels = {TWO_LABELS: ["Japan", "China"], NO_LABEL: ["other"]}
        rows = {
            shard: [
                artwork(f"{shard.name}/{number}", labels=labels.get(f"{shard.name}/{number}", [LABELS[number % 2]]))
                for number in range(6)
            ]
            for shard in SHARDS
        }
        write_data_set(str(self.directory), rows, labels=LABELS)
        self.broken = self._break(SHARDS[0], 2, b"no JPEG")
        self.damaged = self._break(SHARDS[-1], 5, b"")
        self.arguments = ["--dataset", self.directory, "--backbone", "resnet50", "--weights", "none"]
        self.embedded = folder / "embedded"
        code, printed = run_embed(*self.arguments, "--output", self.embedded, "--batch_size", 4)
        assert code == 0, printed
        self.printed = printed

    def _break(self, shard: Shard, number: int, jpeg: bytes) -> str:
        """Puts other bytes in the place of a picture, or flips one where there are none; returns its key."""
        path = self.directory / shard.file_name
        with path.open("rb") as file:
            records = list(read_records(file))
        example = decode_example(records[number])
        framed = list(map(frame, records))
        if jpeg:
            framed[number] = frame(encode_example({**example, Feature.ENCODED: jpeg}))
        else:
            framed[number] = framed[number][:100] + bytes([framed[number][100] ^ 1]) + framed[number][101:]
        path.write_bytes(b"".join(framed))
        return str(example[Feature.KEY][0].decode())

    def planned(self, output: Path) -> None:
        """Leaves what a run killed right after it was prepared would leave."""
        for name in (".plan/plan.json", ".plan/rejected.jsonl", "labels.txt", BACKBONE_WEIGHTS_FILE):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.embedded / name, output / name)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return Pictures(tmp_path_factory.mktemp("embed"))


def test_every_picture_is_accounted_for(pictures: Pictures) -> None:
    info = information(pictures.embedded)
    assert (info["read"], info["written"]) == (PICTURES, PICTURES - 2)
    assert info["rejected"] == {"corrupt_image": 1, "corrupt_record": 1}
    assert rejected_reasons(pictures.embedded) == {
        pictures.broken: "corrupt_image",
        pictures.damaged: "corrupt_record",
    }
    assert f"{PICTURES} rows read: {PICTURES - 2} written, 0 filtered, 2 rejected" in pictures.printed
    assert "embedding width 2,048" in pictures.printed
    assert (pictures.embedded / "COMPLETED").read_text() == f"{info['fingerprint']}\n"
    assert not (pictures.embedded / ".plan" / "progress").exists()


def test_what_it_is_made_of_is_told(pictures: Pictures) -> None:
    info = information(pictures.embedded)
    given = information(pictures.directory)
    sha256 = info["backbone"].pop("weights_sha256")
    assert len(bytes.fromhex(sha256)) == 32
    assert info["backbone"] == {"name": "resnet50", "weights": "none", "input_size": 224, "width": 2048}
    assert info["normalize"] == "z_score"
    assert info["dataset"] == {
        "path": str(pictures.directory),
        "fingerprint": given["fingerprint"],
        "options": given["options"],
    }
    assert (pictures.embedded / "labels.txt").read_bytes() == (pictures.directory / "labels.txt").read_bytes()
    assert (pictures.embedded / "transform_fn" / "saved_model.pb").exists()
    assert (pictures.embedded / "report.html").exists()


def test_vectors_are_those_of_the_backbone_called_directly(pictures: Pictures) -> None:
    import tensorflow as tf

    from trainer.models import build_backbone
    from trainer.pixels import decode_and_resize

    backbone = build_backbone("resnet50", weights="none")
    plan = PlanFiles(str(pictures.directory))
    shard = SHARDS[1]
    with files.open_to_read(plan.shard(shard)) as file:
        given = [decode_example(record) for record in read_records(file)]
    pixels = tf.stack([decode_and_resize(tf.constant(example[Feature.ENCODED][0]), 224) for example in given])
    direct = backbone(pixels, training=False).numpy()
    made = read_examples(pictures.embedded, shard.name)
    assert [example[Feature.KEY] for example in made] == [example[Feature.KEY] for example in given]
    for example, vector in zip(made, direct, strict=True):
        assert np.linalg.norm(example[EMBEDDING] - vector) < 1e-4 * np.linalg.norm(vector)
    assert np.linalg.norm(direct[0] - direct[1]) > 1e-2 * np.linalg.norm(direct[0])


def test_labels_are_copied(pictures: Pictures) -> None:
    labels = {
        example[Feature.KEY][0].decode(): (example[Feature.LABEL], example[Feature.TEXT])
        for example in read_examples(pictures.embedded)
    }
    assert len(labels) == PICTURES - 2
    assert labels[TWO_LABELS] == ([0, 1], [b"Japan", b"China"])
    assert labels[NO_LABEL] == ([2], [b"other"])


def test_it_is_well_and_a_flipped_byte_is_found(pictures: Pictures, tmp_path: Path) -> None:
    assert list(verify(str(pictures.embedded))) == []
    files.copy_tree(str(pictures.embedded), str(tmp_path))
    path = tmp_path / SHARDS[3].file_name
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    problems = list(verify(str(tmp_path)))
    assert any(problem.startswith(f"{SHARDS[3].file_name}: record 0") for problem in problems)
    with path.open("rb") as file, pytest.raises(CorruptRecordError):
        list(read_records(file))


def test_killed_between_shards_and_given_again(pictures: Pictures, tmp_path: Path) -> None:
    arguments = [*pictures.arguments, "--output", tmp_path, "--batch_size", 4]
    pictures.planned(tmp_path)
    process = start_embed(*arguments)
    kill_when(process, lambda: len(list(tmp_path.glob("*.tfrecord"))) >= 2)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tfrecord")}
    assert len(kept) < len(SHARDS)
    assert not (tmp_path / "COMPLETED").exists()
    code, printed = run_embed(*arguments)
    assert code == 0, printed
    assert content(tmp_path) == content(pictures.embedded)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in kept} == kept


def test_given_again_there_is_nothing_to_do(pictures: Pictures) -> None:
    before = content(pictures.embedded)
    code, printed = run_embed(*pictures.arguments, "--output", pictures.embedded, "--batch_size", 8)
    assert code == 0, printed
    assert printed.startswith(f"{pictures.embedded} is complete, there is nothing to do\n")
    assert content(pictures.embedded) == before


def test_other_embeddings_do_not_go_there(pictures: Pictures) -> None:
    before = content(pictures.embedded)
    code, printed = run_embed(*pictures.arguments, "--output", pictures.embedded, "--normalize", "none")
    assert (code, len(printed.splitlines())) == (2, 1)
    assert printed.startswith(f"error: {pictures.embedded} holds another data set, made with other options")
    assert content(pictures.embedded) == before
