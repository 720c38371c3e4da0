import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.dataset import Shard
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set
from trainer.card.data_set import DataFacts, read_data_facts, rights_of, sampled_examples
from trainer.data_files import read_data_set
from trainer.options import resolve
from trainer.run_directory import begin_run
from trainer.saved_run import SavedRun, read_saved_run

TRAIN, VALIDATION = Shard("train", 0, 1), Shard("validation", 0, 1)
LABELS = ("Japan", "Iran")


def pictures_in(path: Path) -> str:
    """Writes a data set of four pictures."""
    rows = {
        TRAIN: [artwork("1/0"), artwork("2/0"), artwork("3/0", labels=["Iran"])],
        VALIDATION: [artwork("4/0", labels=["Iran"])],
    }
    write_data_set(str(path), rows, labels=LABELS)
    return str(path)


def run_on(dataset: str, path: Path, **options: Any) -> SavedRun:
    begin_run(str(path), resolve({"dataset": dataset, **options}), read_data_set(dataset))
    return read_saved_run(str(path))


@pytest.fixture
def saved(tmp_path: Path) -> SavedRun:
    return run_on(pictures_in(tmp_path / "data"), tmp_path / "run")


def change_info(directory: str, /, **changes: Any) -> None:
    path = files.join(directory, "dataset_info.json")
    files.write_json(path, {**files.read_json(path), **changes})


def facts_with_options(saved: SavedRun, options: Mapping[str, Any]) -> DataFacts:
    info = files.read_json(files.join(saved.options.dataset, "dataset_info.json"))
    change_info(saved.options.dataset, options={**info["options"], **options})
    return read_data_facts(saved)


def test_what_a_data_set_says_of_itself(saved: SavedRun) -> None:
    found = read_data_facts(saved)
    assert (found.state, found.place, found.source, found.input) == (
        "known",
        saved.options.dataset,
        "manifest",
        "list.csv",
    )
    assert found.totals == {"train": 3, "validation": 1}
    assert found.counts == {"train": {"Japan": 2, "Iran": 1}, "validation": {"Iran": 1}}
    assert found.account
    assert (found.account.read, found.account.written, found.account.reasons) == (4, 4, ())
    assert found.fingerprint == saved.data_fingerprint
    assert (found.rights, found.embeddings, found.choices) == ("", None, {})
    assert found.options["image_size"] == "320"
    assert "tensorflow-transform" in found.versions


def test_choices_are_options_that_are_not_the_default(saved: SavedRun) -> None:
    found = facts_with_options(saved, {"attribute": "culture", "max_labels": 5, "filter": ["a=b", "c=d"]})
    assert (found.attribute, found.choices) == ("culture", {"max_labels": "5", "filter": "a=b, c=d"})


def test_rows_left_out_are_told_with_their_reasons(saved: SavedRun) -> None:
    change_info(saved.options.dataset, read=12, filtered={"no_image": 3}, rejected={"not_found": 5})
    account = read_data_facts(saved).account
    assert account
    assert [(row.reason.value, row.count) for row in account.reasons] == [("not_found", 5), ("no_image", 3)]


@pytest.mark.parametrize(
    ("options", "rights"),
    [
        ({"source": "open_access_csv"}, "open_access"),
        ({"source": "bigquery", "include_restricted": False}, "open_access"),
        ({"source": "object_list", "include_restricted": True}, "mixed"),
        ({"source": "directory"}, ""),
        ({}, ""),
    ],
)
def test_rights_are_known_of_the_met_alone(options: dict[str, Any], rights: str) -> None:
    assert rights_of(options) == rights


def test_a_data_set_that_is_gone_is_known_by_its_totals(saved: SavedRun) -> None:
    shutil.rmtree(saved.options.dataset)
    found = read_data_facts(saved)
    assert (found.state, found.totals, found.counts) == ("gone", {"train": 3, "validation": 1}, {})
    assert found.fingerprint == saved.data_fingerprint


def test_another_data_set_in_its_place_is_not_taken_for_it(saved: SavedRun, tmp_path: Path) -> None:
    shutil.rmtree(saved.options.dataset)
    write_data_set(saved.options.dataset, {TRAIN: [artwork("9/0")], VALIDATION: [artwork("8/0")]}, labels=LABELS)
    found = read_data_facts(saved)
    assert (found.state, found.counts, found.source) == ("changed", {}, "")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"labels": {}, "splits": {"train": 1, "validation": 2}}'])
def test_a_damaged_data_set_is_as_if_it_were_gone(saved: SavedRun, content: bytes) -> None:
    (Path(saved.options.dataset) / "dataset_info.json").write_bytes(content)
    assert read_data_facts(saved).state == "gone"


def test_an_account_that_cannot_be_read_is_left_out(saved: SavedRun) -> None:
    change_info(saved.options.dataset, rejected={"a reason of another version": 5})
    found = read_data_facts(saved)
    assert (found.state, found.account) == ("known", None)


def test_foreign_records(tmp_path: Path, saved: SavedRun) -> None:
    options = resolve({"train_data_paths": ("a-*", "b-*"), "labels_file": "c"})
    begin_run(str(tmp_path / "foreign"), options, read_data_set(saved.options.dataset))
    found = read_data_facts(read_saved_run(str(tmp_path / "foreign")))
    assert (found.state, found.place, found.totals) == ("foreign", "a-*", {"train": 3, "validation": 1})


def embeddings_of(saved: SavedRun, path: Path) -> str:
    """Writes what makes a data set of embeddings out of that of a run."""
    made_from = files.read_json(files.join(saved.options.dataset, "dataset_info.json"))
    shutil.copytree(saved.options.dataset, path)
    change_info(
        str(path),
        backbone={"name": "resnet50", "weights": "imagenet", "weights_sha256": "ab", "width": 2048},
        normalize="z_score",
        options={"dataset": saved.options.dataset, "backbone": "resnet50"},
        read=4,
        dataset={
            "path": saved.options.dataset,
            "fingerprint": made_from["fingerprint"],
            "options": {**made_from["options"], "source": "bigquery"},
        },
    )
    return str(path)


def test_embeddings_tell_their_backbone_and_the_pictures_they_are_of(saved: SavedRun, tmp_path: Path) -> None:
    of_embeddings = run_on(embeddings_of(saved, tmp_path / "embeddings"), tmp_path / "head", model="head")
    change_info(saved.options.dataset, read=9, rejected={"not_found": 5})
    found = read_data_facts(of_embeddings)
    assert found.embeddings
    assert (found.embeddings.backbone, found.embeddings.width, found.embeddings.normalize) == (
        "resnet50",
        2048,
        "z_score",
    )
    assert (found.source, found.rights) == ("bigquery", "open_access")
    assert found.account
    assert found.account.read == 9
    shutil.rmtree(saved.options.dataset)
    found = read_data_facts(of_embeddings)
    assert (found.state, found.source) == ("known", "bigquery")
    assert found.account
    assert found.account.read == 4


def test_pictures_are_sampled_from_the_plan_of_validation(saved: SavedRun) -> None:
    (found,) = sampled_examples(saved.options.dataset, LABELS)
    assert (found.key, found.labels, found.top) == ("4/0", ("Iran",), ())
    files.remove(files.join(saved.options.dataset, VALIDATION.file_name))
    assert {example.key for example in sampled_examples(saved.options.dataset, LABELS)} == {"1/0", "2/0", "3/0"}


def test_without_a_plan_there_is_no_sample(saved: SavedRun, tmp_path: Path) -> None:
    shutil.rmtree(files.join(saved.options.dataset, ".plan"))
    assert sampled_examples(saved.options.dataset, LABELS) == ()
    assert sampled_examples(str(tmp_path / "nowhere"), LABELS) == ()
    assert sampled_examples("", LABELS) == ()
