import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.embedding.options import EmbeddingOptions, EmbedRunOptions, parse_arguments
from beam_pipelines.errors import OptionError

GIVEN = ["--dataset", "pictures", "--output", "embeddings", "--backbone", "resnet50"]
SOURCE: dict[str, Any] = {
    "fingerprint": "f",
    "splits": {
        "train": {"shards": [{"name": "train-00000-of-00001.tfrecord", "examples": 3, "sha256": "s"}]},
        "validation": {"shards": []},
    },
}


def test_options_are_parted_and_the_rest_is_beams() -> None:
    options, run, beam_arguments = parse_arguments([*GIVEN, "--batch_size", "8", "--runner", "FlinkRunner"])
    assert options == EmbeddingOptions(dataset="pictures", backbone="resnet50", weights="imagenet", normalize="z_score")
    assert run == EmbedRunOptions(output="embeddings", batch_size=8)
    assert beam_arguments == ["--runner", "FlinkRunner", "--direct_num_workers=1"]


@pytest.mark.parametrize("given", [["--direct_num_workers", "3"], ["--direct_num_workers=3"]])
def test_more_local_workers_must_be_asked_for(given: list[str]) -> None:
    assert parse_arguments([*GIVEN, *given])[2] == given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "resnet5"], "--backbone resnet5 is not a model of Keras Applications: .*resnet50"),
        (["--weights", "no/file.h5"], "--weights no/file.h5 is not there"),
        (["--weights", ""], "--weights is empty"),
        (["--weights", "/tmp"], "--weights /tmp is not there"),
        (["--normalize", "l2"], "--normalize 'l2' is none of z_score, none"),
        (["--batch_size", "0"], "--batch_size 0 is not positive"),
        (["--max_reject_fraction", "1.5"], r"--max_reject_fraction 1.5 is not between 0 and 1"),
        (["--output", "pictures"], "--output pictures is the data set itself"),
        (["--output", "./pictures/"], "is the data set itself"),
        (["--output", "pictures/embeddings"], "--output pictures/embeddings is inside --dataset pictures"),
        (["--dataset", "gs://b/p/", "--output", "gs://b/p"], "is the data set itself"),
        (["--dataset", "gs://b/p", "--output", "gs://b/p/e"], "is inside --dataset gs://b/p"),
    ],
)
def test_wrong_values_are_told(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_arguments([*GIVEN, *arguments])


def test_an_output_beside_the_data_set_may_begin_alike() -> None:
    assert parse_arguments([*GIVEN, "--output", "pictures-embedded"])[1].output == "pictures-embedded"


def test_an_output_that_leads_into_the_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    with pytest.raises(OptionError, match="is the data set itself"):
        parse_arguments([*GIVEN, "--dataset", str(tmp_path / "pictures"), "--output", str(tmp_path / "link")])


def test_only_a_file_has_a_path(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.touch()
    for weights, found in (("imagenet", ""), ("none", ""), (str(path), str(path)), ("gs://b/w.h5", "gs://b/w.h5")):
        assert EmbeddingOptions(dataset="d", backbone="resnet50", weights=weights).weights_path() == found


class TestFingerprint:
    options = EmbeddingOptions(dataset="pictures", backbone="resnet50", weights="none")

    def test_it_stays(self) -> None:
        assert self.options.fingerprint(weights_sha256="w", source=SOURCE) == "1260a06b0ff0a215"

    def test_it_tells_what_makes_other_embeddings(self) -> None:
        shard = {"name": "train-00000-of-00001.tfrecord", "examples": 3, "sha256": "other"}
        others = [
            dataclasses.replace(self.options, backbone="vgg16").fingerprint(weights_sha256="w", source=SOURCE),
            dataclasses.replace(self.options, normalize="none").fingerprint(weights_sha256="w", source=SOURCE),
            self.options.fingerprint(weights_sha256="other", source=SOURCE),
            self.options.fingerprint(weights_sha256="w", source={**SOURCE, "fingerprint": "other"}),
            self.options.fingerprint(weights_sha256="w", source={**SOURCE, "splits": {"train": {"shards": [shard]}}}),
        ]
        first = self.options.fingerprint(weights_sha256="w", source=SOURCE)
        assert len({first, *others}) == 6

    def test_it_does_not_tell_where_things_lie(self) -> None:
        moved = dataclasses.replace(self.options, dataset="elsewhere", weights="imagenet")
        kept = self.options.fingerprint(weights_sha256="w", source=SOURCE)
        assert moved.fingerprint(weights_sha256="w", source=SOURCE) == kept


def test_options_are_checked_without_beam_and_tensorflow() -> None:
    program = (
        "import sys, beam_pipelines.embed as e; code = e.main(['--dataset', 'd', '--output', 'd', '--backbone', "
        "'resnet50']); print(code, [m for m in ('apache_beam', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "2 []\n"
    assert done.stderr == "error: --output d is the data set itself: name another directory\n"
