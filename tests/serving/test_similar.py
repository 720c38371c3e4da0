from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Reason
from serving.collection import Collection
from serving.nearest import Work
from serving.picture_options import PictureOptions
from serving.pictures import Refusal
from serving.similar import SimilarOptions, check_same_backbone, describe, embedded, parse_arguments
from tests.serving.builders import LengthModel, picture, png

COLLECTION = Collection(
    directory="d", backbone="resnet50", weights_sha256="ab" * 32, width=8, works=3, shards=("train-00000-of-00001",)
)


def work(key: str, similarity: float = 0.5, *labels: str) -> Work:
    return Work(similarity=similarity, key=key, labels=labels, uri="")


def test_options_are_those_of_the_command_line() -> None:
    given = parse_arguments(["--embeddings", "e", "a.jpg", "--model=m", "--top=3", "--output=p.html", "--pictures=p"])
    queries = PictureOptions(addresses=("a.jpg",))
    assert given == SimilarOptions(embeddings="e", model="m", queries=queries, top=3, output="p.html", pictures="p")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--embeddings=e", "--model=m"], "required: PICTURE"),
        (["--embeddings=e", "a.jpg"], "required: --model"),
        (["--model=m", "a.jpg"], "required: --embeddings"),
        (["--embeddings=e", "--model=m", "a.jpg", "--top=0"], "--top 0 is not positive"),
        (["--embeddings=e", "--model=m", "a.jpg", "--output="], "--output is empty: name a file for the page"),
        (["--embeddings=e", "--model=m", "a.jpg", "--output=/"], "--output / is a directory: name a file in it"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_arguments(arguments)
    assert message in str(caught.value)


def test_a_model_with_the_same_backbone_is_taken() -> None:
    check_same_backbone("m", {"embedding": {"backbone": "x", "weights_sha256": "ab" * 32, "width": 8}}, COLLECTION)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({}, r"model m does not say that it gives embeddings: give one of trainer.export with a backbone"),
        ({"embedding": None}, r"model m does not say that it gives embeddings"),
        (
            {"embedding": {"backbone": "vgg16", "weights_sha256": "cd" * 32, "width": 8}},
            r"model m gives vectors of vgg16 \(8 numbers, weights cdcdcdcdcdcd…\), and --embeddings d has those of "
            r"resnet50 \(8 numbers, weights abababababab…\): give a model that was trained on these embeddings, or emb",
        ),
        ({"embedding": {"backbone": "resnet50", "weights_sha256": "ab" * 32, "width": 9}}, r"\(9 numbers, .*\(8 num"),
    ],
)
def test_vectors_of_another_backbone_are_not_compared(info: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_same_backbone("m", info, COLLECTION)


def test_pictures_without_a_vector_are_not_looked_for() -> None:
    missing = Refusal(key="x", reason=Reason.NOT_FOUND)
    model: Any = LengthModel()
    queries, vectors, refused = embedded(model, [picture("one", b"1"), missing, picture("broken", b"123"), picture("")])
    assert [query.key for query in queries] == ["one"]
    assert [vector.tolist() for vector in vectors] == [[1, 1]]
    assert [refusal.key for refusal in refused] == ["x", "broken", ""]
    assert refused[1].reason is Reason.CORRUPT_IMAGE


def test_a_query_is_shown_small() -> None:
    model: Any = type("Ones", (), {"embed": lambda _, images: [__import__("numpy").ones(2)] * len(images)})()
    ((good, bad), _, _) = embedded(model, [picture("a", png((9, 9, 9), width=600, height=300)), picture("b")])
    assert good.picture
    assert (good.picture.width, good.picture.height) == (256, 128)
    assert bad.picture is None


def test_works_are_told_in_a_table() -> None:
    works = [work("a/1", 1.0, "hat"), work("b\n", -0.25, "hat", "shoe")]
    assert describe("q.jpg", works, {"a/1": "Wave"}).splitlines() == [
        "nearest to q.jpg",
        "RANK  SIMILARITY  KEY  LABEL      TITLE",
        "   1      1.0000  a/1  hat        Wave",
        "   2     -0.2500  b\\n  hat, shoe",
    ]


def test_without_titles_there_is_no_column_for_them() -> None:
    assert describe("q", [work("a", 0.5, "hat")], {"a": ""}).splitlines()[1:] == [
        "RANK  SIMILARITY  KEY  LABEL",
        "   1      0.5000  a    hat",
    ]
