"""What embed refuses before any work; TensorFlow is not imported."""

from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, COMPLETED_FILE, INFO_FILE, Shard
from beam_pipelines.embedding.options import EmbeddingOptions, parse_arguments
from beam_pipelines.embedding.phases import embed_phase, prepare_phase
from beam_pipelines.embedding.plan import is_planned
from beam_pipelines.embedding.source import read_source
from beam_pipelines.errors import OptionError
from beam_pipelines.plan_files import PlanFiles
from tests.beam_pipelines.builders import BUCKET, artwork, object_store
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.test_dataflow_graph import JOB


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    rows = {Shard("train", 0, 1): [artwork("a")], Shard("validation", 0, 1): [artwork("b")]}
    folder = str(tmp_path / "pictures")
    write_data_set(folder, rows)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "embeddings")


def options_of(pictures: str, **values: str) -> EmbeddingOptions:
    return EmbeddingOptions(dataset=pictures, **{"backbone": "resnet50", "weights": "none", **values})


def write_plan(output: str, options: EmbeddingOptions, source: dict[str, Any], *, weights_from: str = "none") -> None:
    """Leaves the plan of embeddings whose weights have the hash `w`."""
    summary = {
        "fingerprint": options.fingerprint(weights_sha256="w", source=source),
        "backbone": {"weights_sha256": "w"},
        "weights_from": weights_from,
    }
    files.write_bytes(files.join(output, BACKBONE_WEIGHTS_FILE), b"")
    files.write_json(PlanFiles(output).summary, summary)


class TestPlan:
    def test_an_empty_directory_has_none(self, pictures: str, output: str) -> None:
        assert not is_planned(options_of(pictures), output, read_source(pictures))

    def test_it_is_taken_as_it_is(self, pictures: str, output: str) -> None:
        write_plan(output, options_of(pictures), read_source(pictures))
        assert is_planned(options_of(pictures), output, read_source(pictures))

    def test_without_the_weights_it_is_not_whole(self, pictures: str, output: str) -> None:
        write_plan(output, options_of(pictures), read_source(pictures))
        files.remove(files.join(output, BACKBONE_WEIGHTS_FILE))
        assert not is_planned(options_of(pictures), output, read_source(pictures))

    @pytest.mark.parametrize("other", [{"backbone": "vgg16"}, {"normalize": "none"}, {"weights": "imagenet"}])
    def test_that_of_other_options_is_refused(self, pictures: str, output: str, other: dict[str, str]) -> None:
        write_plan(output, options_of(pictures), read_source(pictures))
        with pytest.raises(OptionError, match="holds another data set, made with other options"):
            is_planned(options_of(pictures, **other), output, read_source(pictures))

    def test_that_of_other_pictures_is_refused(self, pictures: str, output: str) -> None:
        source = read_source(pictures)
        write_plan(output, options_of(pictures), source)
        source["splits"]["train"]["shards"][0]["sha256"] = "other"
        with pytest.raises(OptionError, match="holds another data set"):
            is_planned(options_of(pictures), output, source)

    def test_a_weights_file_is_known_by_its_bytes(self, pictures: str, output: str, tmp_path: Path) -> None:
        first, moved = tmp_path / "weights.h5", tmp_path / "moved.h5"
        for path in (first, moved):
            path.write_bytes(b"abc")
        sha256 = "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        options = options_of(pictures, weights=str(first))
        write_plan(output, options, read_source(pictures), weights_from=sha256)
        assert is_planned(options, output, read_source(pictures))
        assert is_planned(options_of(pictures, weights=str(moved)), output, read_source(pictures))
        first.write_bytes(b"abd")
        with pytest.raises(OptionError, match="holds another data set"):
            is_planned(options, output, read_source(pictures))

    def test_a_data_set_of_pictures_is_not_written_over(self, pictures: str, tmp_path: Path) -> None:
        files.copy_tree(pictures, str(tmp_path / "other"))
        with pytest.raises(OptionError, match="holds another data set"):
            is_planned(options_of(pictures), str(tmp_path / "other"), read_source(pictures))


def refused(pictures: str, output: str, *more: str) -> str:
    """Returns why both phases refuse the options; nothing is written."""
    arguments = ["--dataset", pictures, "--output", output, "--backbone", "resnet50", "--weights", "none", *more]
    before = files.list_files(output)
    told = set()
    for phase in (prepare_phase, embed_phase):
        with pytest.raises(OptionError) as raised:
            phase(*parse_arguments(arguments))
        told.add(str(raised.value))
    assert files.list_files(output) == before
    (message,) = told
    return message


def test_a_data_set_that_is_not_finished(pictures: str, output: str) -> None:
    files.remove(files.join(pictures, COMPLETED_FILE))
    assert f"--dataset {pictures} is no finished data set" in refused(pictures, output)


def test_an_output_that_has_something_else(pictures: str, output: str) -> None:
    files.write_bytes(files.join(output, "thesis.txt"), b"")
    assert "it has 'thesis.txt'" in refused(pictures, output)


def test_no_wait_elsewhere_than_on_dataflow(pictures: str, output: str) -> None:
    assert "--no_wait is for --runner DataflowRunner" in refused(pictures, output, "--no_wait")


def test_an_option_that_nobody_knows(pictures: str, output: str) -> None:
    assert "unknown option '--bath_size'" in refused(pictures, output, "--bath_size", "3")


def test_paths_that_workers_cannot_reach(pictures: str, output: str) -> None:
    told = refused(pictures, output, "--runner", "FlinkRunner", "--flink_master", "flink.example:8081")
    assert f"--dataset {pictures} is on this machine, where FlinkRunner's workers are not" in told


def test_workers_on_dataflow_must_have_tensorflow(tmp_path: Path) -> None:
    setup_file = tmp_path / "setup.py"
    setup_file.touch()
    with object_store():
        told = refused(f"{BUCKET}/pictures", f"{BUCKET}/embeddings", *JOB, f"--setup_file={setup_file}")
        assert "have no TensorFlow" in told
        assert "--sdk_container_image" in told


def test_weights_in_the_cloud_must_be_there(pictures: str, output: str) -> None:
    with object_store():
        path = f"{BUCKET}/weights.h5"
        assert f"--weights {path} is not there" in refused(pictures, output, "--weights", path)


def test_what_is_complete_stays(pictures: str, output: str) -> None:
    write_plan(output, options_of(pictures), read_source(pictures))
    info = {**files.read_json(files.join(pictures, INFO_FILE)), "backbone": {"width": 2048}}
    files.write_json(files.join(output, INFO_FILE), info)
    files.write_bytes(files.join(output, COMPLETED_FILE), b"")
    arguments = ["--dataset", pictures, "--output", output, "--backbone", "resnet50", "--weights", "none"]
    before = files.list_files(output)
    told = embed_phase(*parse_arguments(arguments))
    assert told.startswith(f"{output} is complete, there is nothing to do\n2 rows read: 2 written")
    assert told.endswith("embedding width 2,048")
    assert files.list_files(output) == before
