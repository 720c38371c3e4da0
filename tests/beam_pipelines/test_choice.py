import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.artwork import Artwork, stable_hash
from beam_pipelines.choice import (
    LimitImages,
    MergeRowsOfOneAddress,
    RejectDuplicateKeys,
    assign_shard,
    assign_split,
    check_labels,
    count_shards,
    cross_split_losers,
    key_rank,
    merge_rows,
    order_in_shard,
    select_labels,
)
from beam_pipelines.dataset import Shard
from beam_pipelines.rejects import Dropped, Reason
from tests.beam_pipelines.builders import artwork, outcome, run_rows

few_labels = st.lists(st.sampled_from(["Japan", "China", "Iran"]), max_size=2, unique=True).map(sorted)
rows_of_one_address = st.lists(
    st.builds(
        artwork,
        key=st.sampled_from("abc"),
        group=st.sampled_from("gh"),
        uri=st.just("http://museum.example/1.jpg"),
        labels=few_labels,
        split=st.sampled_from(["", "train", "validation"]),
        attributes=st.dictionaries(st.sampled_from(["title", "artist"]), st.sampled_from("xy")),
    ),
    min_size=1,
    max_size=6,
)
equal_pictures = st.lists(
    st.tuples(st.sampled_from(["train", "validation"]), st.integers(0, 20)), min_size=1, unique_by=lambda item: item[1]
).map(lambda items: [(split, rank, f"{split}-{rank % 3:05d}-of-00003") for split, rank in items])


def only_dropped(rows: list[Artwork | Dropped]) -> Dropped:
    kept, (dropped,) = outcome(rows)
    assert not kept
    return dropped


def test_a_row_keeps_the_labels_that_are_allowed() -> None:
    row = artwork(labels=["China", "Iran", "Japan"])
    assert list(check_labels(row)) == [row]
    assert list(check_labels(row, allowed={"Japan", "Iran"})) == [artwork(labels=["Iran", "Japan"])]


def test_a_row_without_an_allowed_label_is_filtered_and_says_what_it_had() -> None:
    dropped = only_dropped(list(check_labels(artwork(labels=["China", "Iran"]), allowed={"Japan"})))
    assert (dropped.reason, dropped.detail) == (Reason.LABEL_NOT_SELECTED, "China, Iran")
    assert (dropped.key, dropped.uri) == ("1/0", "http://museum.example/1/0.jpg")


def test_of_many_labels_five_are_named() -> None:
    dropped = only_dropped(list(check_labels(artwork(labels="abcdefgh"), allowed={"Japan"})))
    assert dropped.detail == "a, b, c, d, e, …"


def test_a_row_without_a_label_is_rejected_or_gets_the_default_one() -> None:
    row = artwork(labels=[])
    assert only_dropped(list(check_labels(row))).reason is Reason.NO_LABEL
    assert list(check_labels(row, default_label="other")) == [artwork(labels=["other"])]
    assert only_dropped(list(check_labels(row, allowed={"Japan"}))).reason is Reason.NO_LABEL


def test_a_default_label_is_only_for_rows_without_one() -> None:
    row = artwork(labels=["China"])
    dropped = only_dropped(list(check_labels(row, allowed={"Japan", "other"}, default_label="other")))
    assert dropped.reason is Reason.LABEL_NOT_SELECTED


def test_rows_that_agree_become_one_picture_named_by_the_smallest_key() -> None:
    rows = [artwork(key, uri="u", attributes={"title": key}) for key in ("2/0", "1/1", "3/0")]
    kept, dropped = outcome(list(merge_rows(rows, multi_label=False)))
    assert kept == [artwork("1/1", uri="u", attributes={"title": "1/1"})]
    assert [(row.key, row.reason) for row in dropped] == [
        ("2/0", Reason.DUPLICATE_URI),
        ("3/0", Reason.DUPLICATE_URI),
    ]


def test_rows_that_disagree_are_all_ambiguous() -> None:
    rows = [artwork("1", uri="u", labels=["Japan"]), artwork("2", uri="u", labels=["China"])]
    kept, dropped = outcome(list(merge_rows(rows, multi_label=False)))
    assert kept == []
    assert {(row.key, row.reason, row.detail) for row in dropped} == {
        ("1", Reason.AMBIGUOUS_LABEL, "China, Japan"),
        ("2", Reason.AMBIGUOUS_LABEL, "China, Japan"),
    }


def test_one_row_of_two_labels_is_ambiguous_too() -> None:
    row = artwork(labels=["China", "Japan"])
    assert only_dropped(list(merge_rows([row], multi_label=False))).reason is Reason.AMBIGUOUS_LABEL
    assert list(merge_rows([row], multi_label=True)) == [row]


def test_with_several_labels_allowed_they_are_joined() -> None:
    rows = [artwork("1", uri="u", labels=["Japan", "x"]), artwork("2", uri="u", labels=["China", "x"])]
    kept, dropped = outcome(list(merge_rows(rows, multi_label=True)))
    assert kept == [artwork("1", uri="u", labels=["China", "Japan", "x"])]
    assert [row.reason for row in dropped] == [Reason.DUPLICATE_URI]


def test_a_picture_given_for_validation_stays_there() -> None:
    rows = [artwork("1", uri="u", split="train"), artwork("2", uri="u", split="validation")]
    kept, _ = outcome(list(merge_rows(rows, multi_label=False)))
    assert [(row.key, row.split) for row in kept] == [("1", "validation")]


def test_rows_that_differ_in_their_group_alone_take_the_same_one_in_any_order() -> None:
    rows = [artwork("1", group=group, uri="u") for group in ("h", "g", "i")]
    for some in (rows, rows[::-1]):
        (kept,), _ = outcome(list(merge_rows(some, multi_label=False)))
        assert kept.group == "g"


@given(rows_of_one_address, st.booleans(), st.randoms(use_true_random=False))
def test_every_row_of_an_address_has_one_outcome_in_any_order(
    rows: list[Artwork], multi_label: bool, drawn: random.Random
) -> None:
    outcomes = list(merge_rows(rows, multi_label=multi_label))
    kept, dropped = outcome(outcomes)
    assert len(kept) + len(dropped) == len(rows)
    assert sorted([row.key for row in kept] + [row.key for row in dropped]) == sorted(row.key for row in rows)
    assert len(kept) <= 1
    drawn.shuffle(rows)
    assert outcome(list(merge_rows(rows, multi_label=multi_label))) == (kept, dropped)


def test_rows_of_one_address_meet_in_a_pipeline(tmp_path: Path) -> None:
    rows = [
        artwork("1", uri="same", labels=["Japan"]),
        artwork("2", uri="same", labels=["Japan"]),
        artwork("3", uri="argued", labels=["Japan"]),
        artwork("4", uri="argued", labels=["China"]),
        artwork("5"),
    ]
    kept, dropped = run_rows(MergeRowsOfOneAddress(multi_label=False), tmp_path, rows=rows)
    assert kept == [rows[0], rows[4]]
    assert [(row.key, row.reason.value) for row in dropped] == [
        ("2", "duplicate_uri"),
        ("3", "ambiguous_label"),
        ("4", "ambiguous_label"),
    ]


def test_a_picture_keeps_those_of_its_labels_that_are_classes() -> None:
    row = artwork(labels=["China", "Japan"])
    assert list(select_labels(row, {"Japan", "Iran"})) == [artwork(labels=["Japan"])]
    dropped = only_dropped(list(select_labels(row, {"Iran"})))
    assert (dropped.reason, dropped.detail) == (Reason.LABEL_NOT_SELECTED, "China, Japan")


def some_pictures() -> list[Artwork]:
    labels = (["Japan"], ["China"], ["China", "Japan"], ["Iran"])
    return [artwork(str(number), labels=labels[number % 4]) for number in range(60)]


def test_each_label_has_its_limit_and_no_more_in_any_order(tmp_path: Path) -> None:
    rows = some_pictures()
    kept, dropped = run_rows(LimitImages(7, per_label=True), tmp_path / "1", rows=rows)
    counts = Counter(label for row in kept for label in row.labels)
    assert counts["Iran"] == 7
    assert 0 < counts["Japan"] <= 7
    assert 0 < counts["China"] <= 7
    assert len(kept) + len(dropped) == len(rows)
    assert {row.reason for row in dropped} == {Reason.OVER_MAX_IMAGES_PER_LABEL}
    random.Random(1).shuffle(rows)
    assert run_rows(LimitImages(7, per_label=True), tmp_path / "2", rows=rows) == (kept, dropped)


def test_a_limit_in_all_takes_the_smallest_hashes(tmp_path: Path) -> None:
    rows = some_pictures()
    kept, dropped = run_rows(LimitImages(7, per_label=False), tmp_path, rows=rows)
    assert {row.key for row in kept} == set(sorted([row.key for row in rows], key=key_rank)[:7])
    assert len(dropped) == 53
    assert {row.reason for row in dropped} == {Reason.OVER_MAX_IMAGES}


def test_a_limit_that_is_not_reached_drops_nothing(tmp_path: Path) -> None:
    kept, dropped = run_rows(LimitImages(61, per_label=True), tmp_path, rows=some_pictures())
    assert (len(kept), dropped) == (60, [])


def test_about_the_fraction_asked_for_validates() -> None:
    rows = [assign_split(artwork(str(number)), validation_fraction=0.25) for number in range(4000)]
    assert 900 < sum(row.split == "validation" for row in rows) < 1100
    assert {assign_split(row, validation_fraction=0).split for row in some_pictures()} == {"train"}


@given(st.text(max_size=20), st.lists(st.text(max_size=5), min_size=2, max_size=5), st.floats(0, 0.999))
def test_a_group_is_never_on_both_sides(group: str, keys: list[str], fraction: float) -> None:
    rows = [Artwork(key=key, group=group, image_uri=key) for key in keys]
    assert len({assign_split(row, validation_fraction=fraction).split for row in rows}) == 1


def test_a_given_split_stays() -> None:
    for split in ("train", "validation"):
        row = artwork(split=split)
        assert assign_split(row, validation_fraction=0.5) == row


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(0, 99_999).filter(lambda number: number != 1))
def test_shards_add_up_and_both_splits_have_some(train: int, validation: int, num_shards: int) -> None:
    counts = count_shards({"train": train, "validation": validation}, num_shards)
    assert counts["train"] >= 1
    assert counts["validation"] >= 1
    if num_shards:
        assert sum(counts.values()) == num_shards


@pytest.mark.parametrize(
    ("pictures", "num_shards", "expected"),
    [
        ({"train": 750, "validation": 250}, 8, (6, 2)),
        ({"train": 99_999, "validation": 1}, 32, (31, 1)),
        ({"train": 10, "validation": 0}, 3, (3, 0)),
        ({"train": 10}, 1, (1, 0)),
        ({"validation": 10}, 3, (0, 3)),
        ({"train": 150_000, "validation": 50_000}, 0, (300, 100)),
        ({"train": 750, "validation": 250}, 0, (6, 2)),
        ({"train": 30, "validation": 10}, 0, (2, 1)),
        ({"train": 1}, 0, (2, 0)),
    ],
)
def test_shards_are_counted_in_proportion(pictures: dict[str, int], num_shards: int, expected: tuple[int, int]) -> None:
    counts = count_shards(pictures, num_shards)
    assert (counts["train"], counts["validation"]) == expected


def test_a_shard_is_drawn_by_the_key_within_the_split() -> None:
    names = Counter(assign_shard(artwork(str(n), split="train"), {"train": 3, "validation": 1}) for n in range(3000))
    assert {Shard.parse(name).count for name in names} == {3}
    assert all(900 < count < 1100 for count in names.values())
    one = artwork("435868/0", split="validation")
    assert assign_shard(one, {"train": 3, "validation": 4}) == assign_shard(one, {"train": 30, "validation": 4})
    expected = stable_hash("435868/0", salt="shard") % 4
    assert assign_shard(one, {"validation": 4}) == f"validation-{expected:05d}-of-00004"


def test_a_shard_is_in_order_of_hashes_whatever_the_order_of_arrival() -> None:
    rows = some_pictures()
    ordered = order_in_shard(rows)
    assert [row.key for row in ordered] == sorted([row.key for row in rows], key=key_rank)
    random.Random(1).shuffle(rows)
    assert order_in_shard(rows) == ordered


def test_a_key_stands_once_for_the_smallest_address(tmp_path: Path) -> None:
    """Also where its rows say different groups, so that they would be on both sides of the split."""
    rows = [artwork("1", uri=uri, group=uri) for uri in ("c", "a", "b")]
    kept, dropped = run_rows(RejectDuplicateKeys(), tmp_path, rows=[*rows, artwork("2")])
    assert sorted(row.image_uri for row in kept) == ["a", "http://museum.example/2.jpg"]
    assert sorted((row.uri, row.reason, row.detail) for row in dropped) == [
        ("b", Reason.DUPLICATE_KEY, "a has it too"),
        ("c", Reason.DUPLICATE_KEY, "a has it too"),
    ]


def test_of_equal_pictures_on_both_sides_the_smallest_stays() -> None:
    pictures = [("validation", 5, "v"), ("train", 3, "t"), ("train", 9, "t")]
    assert cross_split_losers(pictures) == [("v", 5), ("t", 9)]


def test_equal_pictures_on_one_side_all_stay() -> None:
    assert cross_split_losers([("train", 5, "t0"), ("train", 3, "t1")]) == []
    assert cross_split_losers([("validation", 5, "v")]) == []


@given(equal_pictures, st.randoms(use_true_random=False))
def test_survivors_are_never_on_both_sides(pictures: list[tuple[str, int, str]], drawn: random.Random) -> None:
    losers = cross_split_losers(pictures)
    survivors = [picture for picture in pictures if (picture[2], picture[1]) not in losers]
    assert len(survivors) + len(losers) == len(pictures)
    assert len({split for split, _, _ in survivors}) == 1
    drawn.shuffle(pictures)
    assert cross_split_losers(pictures) == losers
    assert cross_split_losers([*pictures, *pictures]) == losers
