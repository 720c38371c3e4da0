"""TensorFlow takes seconds to import, and each analysis some more: few tests, and no import before they run."""

import random
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines import files
from beam_pipelines.errors import RunError
from beam_pipelines.label_choice import LabelChoice

pytestmark = pytest.mark.slow

_ROWS = 200_074
_ROWS_WITHOUT_CULTURE = 85_447
_CULTURES = 4_258
_CULTURES_OF_TEN = 573


def museum_like_counts() -> dict[str, int]:
    """Returns pictures of each culture, long-tailed as at the Met: of 4,258 cultures 573 have ten or more."""
    drawn = random.Random(573)
    few = [9, *(drawn.choice((1, 1, 1, 1, 2, 2, 3, 4, 6, 9)) for _ in range(_CULTURES - _CULTURES_OF_TEN - 1))]
    many = [10, 10, *(10 + int(12_000 / rank) for rank in range(2, _CULTURES_OF_TEN))]
    left = _ROWS - _ROWS_WITHOUT_CULTURE - sum(few) - sum(many)
    many[2] += left
    names = ["French, Sèvres", "日本", "American or European", "a|b", "Greek, Attic"]
    names += [f"culture {number}" for number in range(_CULTURES - len(names))]
    drawn.shuffle(names)
    counts = dict(zip(names, [*few, *many], strict=True))
    assert sum(counts.values()) + _ROWS_WITHOUT_CULTURE == _ROWS
    assert min(counts.values()) > 0
    return counts


def class_ids(folder: Path, labels: list[str]) -> list[int]:
    """Returns what the saved graph says of labels, as a trainer would ask it, without TensorFlow Transform."""
    import tensorflow as tf

    graph = tf.saved_model.load(str(folder / "transform_fn"))
    found: list[int] = graph.transform_fn({"label": tf.constant(labels)})["label"].numpy().tolist()
    return found


def test_classes_of_a_museum(tmp_path: Path) -> None:
    import tensorflow_transform as tft

    from beam_pipelines.vocabulary import choose_labels

    counts = museum_like_counts()
    labels = choose_labels(counts, LabelChoice(min_images=10), output=str(tmp_path))
    assert len(labels) == _CULTURES_OF_TEN
    by_size = sorted((label for label in counts if counts[label] >= 10), key=str.encode, reverse=True)
    assert labels == sorted(by_size, key=lambda label: -counts[label])
    assert list(files.read_lines(str(tmp_path / "labels.txt"))) == labels

    output = tft.TFTransformOutput(str(tmp_path))
    assert [label.decode() for label in output.vocabulary_by_name("labels")] == labels
    assert set(output.transformed_feature_spec()) == {"label"}
    left_out = next(label for label in counts if counts[label] == 9)
    assert class_ids(tmp_path, [labels[0], labels[-1], left_out, "", labels[7]]) == [0, 572, -1, -1, 7]


def test_only_the_commonest_and_odd_names(tmp_path: Path) -> None:
    from beam_pipelines.vocabulary import choose_labels

    counts = {"French, Sèvres": 4, "日本": 4, "two words": 4, '"quoted"': 3, "a|b": 4, "x" * 200: 9, "few": 1}
    labels = choose_labels(counts, LabelChoice(min_images=1, max_labels=5), output=str(tmp_path))
    assert labels == ["x" * 200, "日本", "two words", "a|b", "French, Sèvres"]
    assert class_ids(tmp_path, [*labels, '"quoted"']) == [0, 1, 2, 3, 4, -1]


def test_classes_that_are_given_keep_their_order_and_a_picture_may_have_several(tmp_path: Path) -> None:
    import tensorflow as tf

    from beam_pipelines.vocabulary import choose_labels

    given = ("tulip", "French, Paris", "daisy", "other")
    files.write_bytes(str(tmp_path / "transform_fn" / "left by a killed run"), b"")
    choice = LabelChoice(fixed=given, multi_label=True, min_images=100)
    assert choose_labels({"daisy": 7, "tulip": 1, "rose": 900}, choice, output=str(tmp_path)) == list(given)
    assert list(files.read_lines(str(tmp_path / "labels.txt"))) == list(given)
    graph: Any = tf.saved_model.load(str(tmp_path / "transform_fn"))
    several = tf.sparse.from_dense([["daisy", "rose"], ["French, Paris", ""]])
    found = tf.sparse.to_dense(graph.transform_fn({"label": several})["label"], default_value=-9)
    assert found.numpy().tolist() == [[2, -1], [1, -9]]
    assert not (tmp_path / "transform_fn" / "left by a killed run").exists()


def test_no_class_at_all(tmp_path: Path) -> None:
    from beam_pipelines.vocabulary import choose_labels

    with pytest.raises(RunError) as caught:
        choose_labels({"Iran": 3, "Japan": 9}, LabelChoice(min_images=10), output=str(tmp_path))
    assert str(caught.value) == (
        "no label has 10 pictures; the commonest, 'Japan', has 9: lower --min_images_per_label"
    )
    with pytest.raises(RunError, match="no picture has a label: see what was filtered and rejected, or name another"):
        choose_labels({}, LabelChoice(), output=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_label_columns_hold_every_label_as_often_as_it_was_counted() -> None:
    from beam_pipelines.vocabulary import label_batches

    batches = list(label_batches({"a": 25_000, "b": 1, "c": 0, "é": 4_999}))
    column = [row for batch in batches for row in batch.column(0).to_pylist()]
    assert [len(batch.column(0)) for batch in batches] == [10_000, 10_000, 10_000]
    assert column == [[b"a"]] * 25_000 + [[b"b"]] + [["é".encode()]] * 4_999
