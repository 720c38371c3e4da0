import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from beam_pipelines import files
from beam_pipelines.dataset import EMBEDDING, Feature, Shard
from beam_pipelines.embedding import normalization
from beam_pipelines.embedding.projection import Projection
from beam_pipelines.embedding.report import ASPECT, publish_projection, scatter, shown_classes
from beam_pipelines.embedding.samples import Sample, read_samples
from beam_pipelines.embedding.writer import THUMBNAIL
from beam_pipelines.plan_files import Account, DroppedPicture, PlanFiles
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.sprite import Tile
from beam_pipelines.tfrecords import encode_example, frame
from tests.beam_pipelines.builders import hostile_text
from tests.beam_pipelines.html_pages import ATTACK, Page, policy, text_of

TRAIN, EMPTY, VALIDATION = Shard("train", 0, 2), Shard("train", 1, 2), Shard("validation", 0, 1)
SHARDS = [TRAIN, EMPTY, VALIDATION]
TILE = Tile(left=0, top=0, width=64, height=64)
RED = (200, 30, 30)


def jpeg(colour: tuple[int, int, int] = RED) -> bytes:
    """Returns a small picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (64, 40), colour).save(out, "JPEG")
    return out.getvalue()


def sample(*labels: str, key: str = "1/0", split: str = "train", thumbnail: bytes = b"") -> Sample:
    """Returns a sample, without a picture unless one is given."""
    return Sample(key=key, split=split, labels=labels, thumbnail=thumbnail)


def projected(*points: tuple[float, float]) -> Projection:
    """Returns a projection onto these points."""
    return Projection(points=np.array(points), explained=(0.5, 0.25))


def info(labels: Sequence[str] = ("Japan", "Iran"), **changes: Any) -> dict[str, Any]:
    """Returns what is known of a small data set of embeddings."""
    shards = [{"name": "train-00000-of-00002.tfrecord", "examples": 1500, "sha256": "0a1b"}]
    values: dict[str, Any] = {
        "format": 2,
        "fingerprint": "0123456789abcdef",
        "options": {"dataset": "/pictures", "backbone": "resnet50", "weights": "imagenet", "normalize": "none"},
        "versions": {"keras": "3.15"},
        "read": 2003,
        "written": 2000,
        "filtered": {},
        "rejected": {"corrupt_image": 2, "corrupt_record": 1},
        "splits": {
            "train": {"examples": 1500, "labels": {labels[0]: 1500}, "shards": shards},
            "validation": {"examples": 500, "labels": {labels[0]: 500}, "shards": []},
        },
        "labels": dict.fromkeys(labels, 0) | {labels[0]: 2000},
        "empty_labels": list(labels[1:]),
        "backbone": {
            "name": "resnet50",
            "weights": "imagenet",
            "weights_sha256": "fedcba9876543210" * 4,
            "input_size": 224,
            "width": 4,
        },
        "normalize": "none",
        "dataset": {"path": "/pictures", "fingerprint": "9999aaaabbbbcccc", "options": {}},
    }
    return {**values, **changes}


def write_samples(plan: PlanFiles, shard: Shard, samples: Sequence[Sample], vectors: np.ndarray[Any, Any]) -> None:
    """Writes the samples of a shard as the step does that embeds it."""
    examples = (
        {
            Feature.KEY.value: sample.key.encode("utf-8", "surrogatepass"),
            Feature.LABEL.value: [0 for _ in sample.labels],
            Feature.TEXT.value: [label.encode("utf-8", "surrogatepass") for label in sample.labels],
            EMBEDDING: vector.tolist(),
            THUMBNAIL: sample.thumbnail,
        }
        for sample, vector in zip(samples, vectors, strict=True)
    )
    files.write_bytes(plan.samples(shard), b"".join(frame(encode_example(example)) for example in examples))


def published(folder: Path, samples: Sequence[Sample], vectors: Any, values: dict[str, Any] | None = None) -> str:
    """Publishes a data set with these samples, each in its split, and returns the page."""
    plan, vectors = PlanFiles(str(folder)), np.array(vectors, np.float32)
    for shard in (TRAIN, VALIDATION):
        chosen = [place for place, sample in enumerate(samples) if sample.split == shard.split]
        if chosen:
            write_samples(plan, shard, [samples[place] for place in chosen], vectors[chosen])
    publish_projection(plan, SHARDS, values or info(), output=str(folder))
    return (folder / "report.html").read_text()


def drawn(number: int, labels: Sequence[str] = ("Japan", "Iran")) -> tuple[list[Sample], np.ndarray[Any, Any]]:
    """Returns samples of these labels in turn, and random vectors of width 4."""
    thumbnail = jpeg()
    splits = ("train", "train", "validation")
    samples = [
        sample(labels[place % len(labels)], key=f"key {place}", split=splits[place % 3], thumbnail=thumbnail)
        for place in range(number)
    ]
    return samples, np.random.default_rng(4).normal(size=(number, 4))


def test_samples_are_read_in_the_order_of_shards_and_some_shards_have_none(tmp_path: Path) -> None:
    plan = PlanFiles(str(tmp_path))
    first = [sample("a", "b", key="é\udc80", thumbnail=b"1"), sample(key="2", thumbnail=b"2")]
    last = [sample("c", key="3", split="validation", thumbnail=b"3")]
    vectors = np.arange(9).reshape(3, 3) / 2
    write_samples(plan, TRAIN, first, vectors[:2])
    write_samples(plan, VALIDATION, last, vectors[2:])
    samples, read = read_samples(plan, SHARDS, width=3)
    assert samples == first + last
    assert (read.dtype.name, read.tolist()) == ("float32", vectors.tolist())
    assert read_samples(plan, [EMPTY], width=3)[1].shape == (0, 3)


def test_the_commonest_classes_of_the_sample_have_colours_of_their_own() -> None:
    labels = [f"class {letter}" for letter in "kjihgfedcba"]
    samples = [sample(label) for label in labels for _ in range(2)] + [sample("class a")]
    classes = shown_classes(samples)
    assert [(shown.label[-1], shown.count, shown.colour) for shown in classes] == [
        *[(letter, 3 if letter == "a" else 2, f"c{place}") for place, letter in enumerate("abcdefgh")],
        *[(letter, 2, "other") for letter in "ijk"],
    ]
    chart = scatter(samples, projected(*[(0.0, 0.0)] * 23), [TILE] * 23)
    assert (len(chart.coloured), len(chart.classes), chart.others) == (8, 11, 6)
    assert [point.colour for point in chart.points[:6]] == ["other"] * 6
    assert "other" not in {point.colour for point in chart.points[6:]}


def test_a_picture_of_several_classes_has_the_colour_of_the_commonest() -> None:
    samples = [sample("rare", "common"), sample("common"), sample()]
    chart = scatter(samples, projected((0, 0), (1, 1), (2, 2)), [TILE] * 3)
    unlabelled, both, common = chart.points
    assert (both.colour, both.classes, both.label) == ("c0", [0, 1], "rare, common")
    assert (common.colour, common.classes) == ("c0", [0])
    assert (unlabelled.colour, unlabelled.classes, unlabelled.label) == ("other", [], "")


@pytest.mark.parametrize("points", [[(-2.0, 1.0), (2.0, -1.0)], [(0.0, -9.0), (0.0, 3.0)], [(5.0, 0.0), (6.0, 0.0)]])
def test_points_lie_inside_the_chart_and_a_unit_is_as_long_both_ways(points: list[tuple[float, float]]) -> None:
    chart = scatter([sample("a")] * 2, projected(*points), [TILE] * 2)
    places = [(point.x, point.y) for point in chart.points]
    assert all(0 < x < 100 and 0 < y < 100 for x, y in places)
    (x0, y0), (x1, y1) = places
    assert max(abs(x1 - x0), abs(y1 - y0)) > 90
    lengths = [abs(x1 - x0) * ASPECT, abs(y1 - y0)]
    units = [abs(points[1][axis] - points[0][axis]) for axis in (0, 1)]
    assert lengths[0] * units[1] == pytest.approx(lengths[1] * units[0], abs=0.1)
    assert np.sign(x1 - x0) == np.sign(points[1][0] - points[0][0])
    assert np.sign(y0 - y1) == np.sign(points[1][1] - points[0][1])


def test_one_point_is_in_the_middle() -> None:
    chart = scatter([sample("a")], projected((0, 0)), [TILE])
    assert [(point.x, point.y) for point in chart.points] == [(50, 50)]
    assert chart.origin == (50, 50)


def test_the_page_tells_what_the_embeddings_are(tmp_path: Path) -> None:
    samples, vectors = drawn(9)
    text = text_of(published(tmp_path, samples, vectors))
    for told in (
        "2,000 pictures in 2 classes",
        "Each as 4 numbers , by resnet50",
        "2,003 pictures read = 2,000 embedded + 0 filtered + 3 rejected",
        "9 of 2,000 pictures, chosen by hash",
        "Weights ImageNet fedcba9876543210",
        "Normalisation none",
        "Input size 224",
        "Data set of the pictures /pictures 9999aaaabbbbcccc",
        "Japan 1,500 500 2,000 100%",
        "Iran no picture 0 0 0 0%",
        "train-00000-of-00002.tfrecord 1,500 0a1b",
        "keras 3.15",
    ):
        assert told in text
    for share in re.findall(r"component, ([\d.]+)% of the variance", text):
        assert 25 < float(share) < 60


def test_what_was_rejected_is_shown_with_its_reason_and_examples(tmp_path: Path) -> None:
    dropped = Dropped(key="7/1", uri="http://museum.example/7.jpg", reason=Reason.CORRUPT_IMAGE, detail="broken at 9")
    account = Account(size=0, sha256="", written=(), dropped=(DroppedPicture(dropped=dropped),))
    files.write_json(PlanFiles(str(tmp_path)).account(TRAIN), account.to_json())
    text = text_of(published(tmp_path, *drawn(3)))
    assert "Rejected Could not be embedded. 3 rows of 2,003 (0.1%), the commonest reason first" in text
    assert "corrupt_image 2 " in text
    assert "7/1 http://museum.example/7.jpg broken at 9" in text
    assert "Left out by choice" not in text


def test_each_point_has_its_picture(tmp_path: Path) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    labels = ["b", "a", "b"]
    samples = [
        sample(label, key=f"{label}{place}", thumbnail=jpeg(colour))
        for place, (label, colour) in enumerate(zip(labels, colours, strict=True))
    ]
    page = published(tmp_path, samples, np.eye(3, 4))
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert data
    sprite = Image.open(io.BytesIO(base64.b64decode(data[1])))
    found = re.findall(r'class="(c\d)" cx.*data-classes="(\d)" data-tile="(.*)"><title>(.*)\n(.*)\n(.*)</title>', page)
    assert [(colour, rank, *told) for colour, rank, _, *told in found] == [
        ("c0", "0", "b", "b0", "train"),
        ("c1", "1", "a", "a1", "train"),
        ("c0", "0", "b", "b2", "train"),
    ]
    for (_, _, tile, *_), colour in zip(found, colours, strict=True):
        left, top, width, height = map(int, tile.split())
        assert (width, height) == (64, 40)
        shown = np.asarray(sprite)[top : top + height, left : left + width].mean(axis=(0, 1))
        assert np.abs(shown - colour).max() < 12


def test_entries_of_the_legend_lead_to_their_points(tmp_path: Path) -> None:
    page = Page(published(tmp_path, *drawn(40, [f"class {number}" for number in range(10)])))
    selectors = page.values("data-points")
    assert selectors == [*(f"[data-classes~='{rank}']" for rank in range(8)), ".other"]
    options = [value for tag, name, value in page.attributes if (tag, name) == ("option", "value")]
    assert sorted(filter(None, options)) == sorted(f"[data-classes~='{rank}']" for rank in range(10))
    assert set(page.values("data-classes")) == {str(rank) for rank in range(10)}


def test_few_classes_need_no_list_to_choose_from(tmp_path: Path) -> None:
    page = published(tmp_path, *drawn(9))
    assert "<select" not in page
    assert "other class" not in text_of(page)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_samples_are_enough(tmp_path: Path, number: int) -> None:
    text = text_of(published(tmp_path, *drawn(number)))
    assert ("No picture was sampled" in text) == (number == 0)
    assert (tmp_path / "projector").exists() == (number > 0)


def test_samples_that_are_all_alike_lie_on_one_point(tmp_path: Path) -> None:
    page = published(tmp_path, drawn(5)[0], np.ones((5, 4)))
    assert page.count('cx="50.0%" cy="50.0%" r="3.5"') == 5
    assert "0% in two dimensions" in text_of(page)


def test_vectors_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    samples, vectors = drawn(6)
    vectors[0, 2], vectors[3, 0] = np.nan, np.inf
    page = published(tmp_path, samples, vectors)
    assert "4 of 2,000 pictures" in text_of(page)
    assert len((tmp_path / "projector" / "vectors.tsv").read_text().splitlines()) == 4


def test_what_an_earlier_run_projected_is_gone(tmp_path: Path) -> None:
    files.write_bytes(str(tmp_path / "projector" / "left.tsv"), b"")
    published(tmp_path, *drawn(0))
    assert not (tmp_path / "projector").exists()


def test_publishing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    samples, vectors = drawn(30)
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        published(folder, samples, vectors)
        contents.append({name: (folder / name).read_bytes() for name in files.list_files(str(folder))})
    assert contents[0] == contents[1]
    assert {"report.html", "projector/vectors.tsv", "projector/sprite.png"} <= set(contents[0])


def test_many_points_of_many_long_classes_stay_small(tmp_path: Path) -> None:
    drawer = np.random.default_rng(1)
    thumbnails = []
    for _ in range(50):
        out = io.BytesIO()
        Image.fromarray(drawer.integers(0, 256, (64, 64, 3), np.uint8)).save(out, "JPEG", quality=95)
        thumbnails.append(out.getvalue())
    labels = [f"class {number} " + "😀" * 150 for number in range(600)]
    samples = [
        sample(labels[place % 600], key=f"{place}" + "\udc80" * 500, thumbnail=thumbnails[place % 50])
        for place in range(2_100)
    ]
    vectors = drawer.normal(size=(2_100, 4))
    page = published(tmp_path, samples, vectors, info(labels))
    assert len(page.encode()) < 8_000_000
    assert page.count("<circle class") == 2_100 + 9
    assert "592 other classes" in text_of(page)


def test_the_policy_allows_the_pages_own_styles_and_script_and_nothing_else(tmp_path: Path) -> None:
    page = published(tmp_path, *drawn(40, [f"class {number}" for number in range(10)]))
    allowed = policy(page)
    assert allowed["default-src"] == ["'none'"]
    assert allowed["img-src"] == ["data:"]
    for tag, number in (("style", 2), ("script", 1)):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(texts) == number
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert allowed[f"{tag}-src"] == [f"'sha256-{value}'" for value in hashes]
    assert not any(name == "style" or name.startswith("on") for _, name in Page(page).kinds())
    assert not {"link", "iframe", "object", "embed", "base", "form", "use", "image"} & set(Page(page).tags)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page)


def hostile(text: str) -> tuple[list[Sample], dict[str, Any]]:
    """Returns samples and information with `text` wherever text comes from outside."""
    values = info([text, "other"], options={"dataset": text, text: text}, fingerprint=text, versions={text: text})
    values["backbone"] = {**values["backbone"], "name": text, "weights": text}
    values["dataset"] = {**values["dataset"], "path": text}
    labels = [text, *(f"label {number}" for number in range(9))]
    return [sample(label, key=text, thumbnail=jpeg()) for label in labels], values


def shape(folder: Path, text: str) -> tuple[list[str], set[tuple[str, str]]]:
    """Returns the elements and kinds of attributes of a page with `text` everywhere."""
    samples, values = hostile(text)
    page = Page(published(folder, samples, np.ones((10, 4)), values))
    return page.tags, page.kinds()


@given(hostile_text)
@settings(max_examples=15, deadline=None)
def test_no_text_from_outside_changes_what_a_page_is_made_of(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    plain = shape(tmp_path_factory.mktemp("plain"), "plain")
    assert shape(tmp_path_factory.mktemp("attack"), f"{ATTACK}{text}") == plain


@pytest.mark.slow
def test_the_projection_is_of_vectors_as_the_transform_graph_gives_them(tmp_path: Path) -> None:
    """Of two elements that vary alike after normalisation, the large one would be all there is without it."""
    samples, vectors = drawn(12)
    vectors[:, 0] *= 1000
    plan = PlanFiles(str(tmp_path))
    rows = [frame(encode_example({EMBEDDING: row})) for row in vectors.tolist()]
    for shard in SHARDS:
        files.write_bytes(plan.shard(shard), b"".join(rows) if shard == TRAIN else b"")
    normalization.fit(plan, SHARDS, width=4, normalize="z_score", output=str(tmp_path))
    text = text_of(published(tmp_path, samples, vectors, info(normalize="z_score")))
    assert "Normalisation z-score" in text
    shares = [float(share) for share in re.findall(r"component, ([\d.]+)% of the variance", text)]
    assert max(shares) < 70
    written = np.loadtxt(tmp_path / "projector" / "vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(written.std(axis=0), 1, rtol=1e-3)
