from typing import Any

import pytest

from trainer.card.configuration import chosen_options, versions_table
from trainer.options import resolve


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, {}),
        ({"dropout": 0.25, "image_size": 64}, {"dropout": 0.25, "image_size": 64}),
        ({"optimizer": "sgd"}, {"optimizer": "sgd", "learning_rate": 0.01}),
        ({"steps": 500}, {"steps": 500}),
        ({"model": "head", "hidden_units": ()}, {"hidden_units": ()}),
        ({"model": "resnet50", "weights": "none"}, {"weights": "none"}),
        ({"model": "resnet50", "learning_rate": 0.1, "unfreeze_at": 2}, {"learning_rate": 0.1, "unfreeze_at": 2}),
    ],
)
def test_what_was_chosen_is_told_from_what_follows(given: dict[str, Any], chosen: dict[str, Any]) -> None:
    assert chosen_options(resolve({"dataset": "data", **given})) == chosen


def test_foreign_records_are_no_choice() -> None:
    options = resolve({"train_data_paths": ("a",), "labels_file": "b", "seed": 3})
    assert chosen_options(options) == {"seed": 3}


def test_versions_stand_side_by_side() -> None:
    stages, table = versions_table(
        {"data set": {}, "training": {"keras": "3.14"}, "export": {"keras": "3.15", "a": "1"}}
    )
    assert stages == ["training", "export"]
    assert table == {"a": ["", "1"], "keras": ["3.14", "3.15"]}
    assert list(table) == ["a", "keras"]
