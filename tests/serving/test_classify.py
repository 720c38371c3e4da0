import json
from typing import Any

import numpy as np
import pytest

from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Reason
from serving.classify import Answer, ClassifyOptions, answers, parse_arguments, table_rows
from serving.picture_options import PictureOptions
from serving.pictures import Picture, Refusal
from tests.serving.builders import LengthModel, picture


def answer(scores: list[float], key: str = "a.jpg") -> Answer:
    values = np.array(scores, np.float32)
    return Answer(key=key, class_id=int(values.argmax()), label="b", scores=values)


def test_options_are_those_of_the_command_line() -> None:
    given = parse_arguments(["a.jpg", "--model", "m", "--top=2", "--json", "--batch_size=3", "b.jpg"])
    pictures = PictureOptions(addresses=("a.jpg", "b.jpg"))
    assert given == ClassifyOptions(model="m", pictures=pictures, top=2, json=True, batch_size=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a.jpg", "required: --model"),
        ("--model m", "required: PICTURE"),
        ("--model m a.jpg --top 0", "--top 0 is not positive"),
        ("--model m a.jpg --batch_size 0", "--batch_size 0 is not positive"),
        ("--model m a.jpg --tops 3", "did you mean --top?"),
    ],
)
def test_what_is_wrong_is_named(arguments: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_arguments(arguments.split())
    assert message in str(caught.value)


def test_every_picture_has_its_answer_in_its_place() -> None:
    missing = Refusal(key="x", reason=Reason.NOT_FOUND, detail="no such file")
    pictures: list[Picture | Refusal] = [
        picture("one", b"1"), missing, picture("broken", b"123"), picture("two", b"12"), picture("none", b"")
    ]  # fmt: skip
    model: Any = LengthModel()
    found = [one for batch in answers(model, pictures, batch_size=2) for one in batch]
    assert [(one.key, one.label) if isinstance(one, Answer) else one for one in found] == [
        ("one", "one"),
        missing,
        Refusal(key="broken", reason=Reason.CORRUPT_IMAGE, detail="JPEG: cannot be decoded"),
        ("two", "two"),
        ("none", "none"),
    ]
    assert model.batches == [["one"], ["broken", "two"], ["none"]]


def test_the_likeliest_come_first_and_equals_in_the_order_of_the_classes() -> None:
    assert answer([0.1, 0.4, 0.1, 0.4]).likeliest(3) == [1, 3, 0]
    assert answer([0.25, 0.75]).likeliest(5) == [1, 0]
    assert answer([0.1, 0.2] * 50).likeliest(50) == list(range(1, 100, 2))


def test_rows_name_their_picture_once() -> None:
    rows = table_rows(answer([0.25, 0.7], key="a\udc80.jpg"), ("cat\n", "dog"), top=5)
    assert rows == [("a\\udc80.jpg", "dog", "0.7000"), ("", "cat\\n", "0.2500")]


def test_an_object_has_all_scores_as_short_as_they_can_be() -> None:
    value = json.loads(json.dumps(answer([0.1, 0.9]).to_json()))
    assert value == {"key": "a.jpg", "prediction": 1, "label": "b", "score": 0.9, "scores": [0.1, 0.9]}
    third = answer([1 / 3]).to_json()["scores"]
    assert np.float32(third[0]) == np.float32(1 / 3)
