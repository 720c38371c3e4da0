"""The commands as users give them; what they say is compared with what the model says when it is asked itself."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines import files
from beam_pipelines.dataset import Shard
from serving.model import Model
from tests.beam_pipelines.builders import artwork
from tests.beam_pipelines.data_sets import write_data_set
from tests.beam_pipelines.html_pages import ATTACK, Page, text_of
from tests.hostile_server import CASES, HostileServer, png
from tests.serving import builders
from tests.serving.builders import BLACK, GREY, WHITE, embedding_example, write_collection

pytestmark = pytest.mark.slow

QUICK = ("--connect_timeout", "2", "--read_timeout", "1", "--total_timeout", "2", "--backoff", "0.01")
RED, ORANGE, GREEN, BLUE = (255, 0, 0), (255, 120, 0), (0, 255, 0), (0, 0, 255)


def run(module: str, *arguments: object, data: bytes = b"") -> tuple[int, str, str]:
    """Runs a command; returns its exit code, and what it says on stdout and on stderr."""
    command = [sys.executable, "-m", f"serving.{module}", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, input=data, check=False)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


@pytest.fixture(scope="module")
def museum() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pictures by their names."""
    folder = tmp_path_factory.mktemp("colours")
    named = {"black": BLACK, "grey é": GREY, "white": WHITE, "red": RED, "orange": ORANGE, "green": GREEN, "blue": BLUE}
    paths = {name: folder / f"{name}.png" for name in named}
    for name, path in paths.items():
        path.write_bytes(builders.png(named[name]))
    return paths


def test_classify_prints_a_table(colour: Path, museum: HostileServer, colours: dict[str, Path]) -> None:
    private, missing = museum.url("/case/good"), colours["black"].parent / "none.jpg"
    too_large = colours["black"].parent / "large.png"
    too_large.write_bytes(builders.png(WHITE, width=2001, height=500))
    code, out, err = run("classify", "--model", colour.parent, colours["black"], private, missing, too_large, "-",
                         data=builders.png(WHITE))  # fmt: skip
    assert code == 1
    width = len(str(too_large)) + 2
    lines = out.splitlines()
    assert [line[:width].rstrip() for line in lines] == ["KEY", str(colours["black"]), "", "-", ""]
    assert [line[width:].split()[0] for line in lines] == ["PREDICTION", "dark", "bright", "bright", "dark"]
    assert all(0 <= float(line.split()[-1]) <= 1 for line in lines[1:])
    assert err.splitlines() == [
        f"error: {private}: fetch: refused_address: the host's address is not public",
        f"error: {missing}: fetch: not_found: no such file",
        f"error: {too_large}: image: too_many_pixels: 2001x500 pixels",
    ]


def test_classify_says_what_the_model_says(
    colour: Path, colour_model: Model, museum: HostileServer, colours: dict[str, Path]
) -> None:
    names = ("good", "good_png", "animated_webp", "truncated_jpeg", "blocked_as_jpeg", "not_found")
    addresses = [museum.url(CASES[name].path) for name in names]
    paths = list(map(str, colours.values()))
    code, out, err = run(
        "classify", "--model", colour, "--json", "--allow_private_addresses", "--batch_size", 3, *QUICK,
        *addresses, *paths,
    )  # fmt: skip
    answers = {answer["key"]: answer for answer in map(json.loads, out.splitlines())}
    assert (code, err) == (1, "")
    assert list(answers) == [*addresses, *paths]
    reasons = {key: answer["error"]["reason"] for key, answer in answers.items() if "error" in answer}
    assert reasons == {
        address: CASES[name].outcome for name, address in zip(names, addresses, strict=True) if name in names[3:]
    }
    predictions = colour_model.predict(paths, [path.read_bytes() for path in colours.values()])
    found = [answers[path] for path in paths]
    assert [answer["prediction"] for answer in found] == predictions.class_ids.tolist()
    assert tuple(answer["label"] for answer in found) == predictions.labels
    np.testing.assert_allclose([answer["scores"] for answer in found], predictions.scores, atol=1e-6)
    np.testing.assert_allclose([answer["score"] for answer in found], predictions.top_scores, atol=1e-6)
    good = colour_model.predict([""], [png(2)])
    np.testing.assert_allclose(answers[addresses[1]]["scores"], good.scores[0], atol=1e-6)


def test_what_images_to_json_writes_is_what_the_model_is_asked_with(
    tmp_path: Path, colour_model: Model, museum: HostileServer, colours: dict[str, Path]
) -> None:
    url = museum.url(CASES["good_png"].path)
    code, _, _ = run("images_to_json", "-o", tmp_path / "r.json", "--allow_private_addresses", *colours.values(), url)
    assert code == 0
    rows = [json.loads(line) for line in (tmp_path / "r.json").open()]
    assert [row["key"] for row in rows] == [*map(str, colours.values()), url]
    asked = [base64.b64decode(row["image_bytes"]["b64"]) for row in rows]
    assert asked == [*(path.read_bytes() for path in colours.values()), png(2)]
    assert -1 not in colour_model.predict([row["key"] for row in rows], asked).class_ids


WORKS = {"1/0": RED, "2/0": GREEN, "3/0": BLUE, "4/0": WHITE}


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of the mean colours of four works, one of which has a hostile title, and the pictures beside it."""
    folder = tmp_path_factory.mktemp("works")
    titles = {"1/0": ATTACK, "2/0": "Meadow", "3/0": "Wave", "4/0": ""}
    rows = [
        artwork(key, labels=("Japan",), attributes={"title": title, "artist": ATTACK} if title else {})
        for key, title in titles.items()
    ]
    shards = {Shard("train", 0, 1): rows[:3], Shard("validation", 0, 1): rows[3:]}
    write_data_set(str(folder / "pictures"), shards, fetch=lambda uri: builders.png(WORKS[uri[-7:-4]]))
    write_collection(
        folder / "embeddings",
        {
            shard.name: [embedding_example(row.key, [value / 255 for value in WORKS[row.key]]) for row in shard_rows]
            for shard, shard_rows in shards.items()
        },
        width=3,
        made_from={
            "path": str(folder / "pictures"),
            "fingerprint": files.read_json(str(folder / "pictures" / "dataset_info.json"))["fingerprint"],
        },
    )
    return folder / "embeddings"


def test_similar_finds_the_nearest_works_and_shows_them(
    tmp_path: Path, colour: Path, embeddings: Path, colours: dict[str, Path]
) -> None:
    page = tmp_path / "new" / "similar.html"
    code, out, err = run(
        "similar", "--embeddings", embeddings, "--model", colour, "--top", 3, "--output", page,
        colours["orange"], "/none.jpg", colours["blue"], colours["black"],
    )  # fmt: skip
    assert code == 1
    assert err.splitlines() == [
        "error: /none.jpg: fetch: not_found: no such file",
        f"error: {colours['black']}: image: corrupt_image: PNG: the model has no vector for it",
        f"searching 4 works of {embeddings}",
    ]
    lines = out.splitlines()
    assert lines[0] == f"nearest to {colours['orange']}"
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["1", "0.9048", "1/0"],
        ["2", "0.7682", "4/0"],
        ["3", "0.4258", "2/0"],
    ]
    assert lines[8].split() == ["1", "1.0000", "3/0", "hat", "Wave"]
    assert lines[-1] == f"see {page}"
    text = text_of(page.read_text())
    assert text.index(str(colours["orange"])) < text.index("1 0.9048") < text.index(str(colours["blue"]))
    assert text.count(" ".join(ATTACK.split())) >= 2
    parsed = Page(page.read_text())
    assert "script" not in parsed.tags
    assert parsed.tags.count("img") == 2 + 2 * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": "nowhere"}, "error: --embeddings nowhere is no data set, it has no file COMPLETED"),
        ({"model": "nowhere"}, "error: nowhere is no model, nothing is there"),
        ({"pictures": "nowhere"}, "error: --pictures nowhere is no data set"),
        ({"top": "0"}, "error: --top 0 is not positive"),
        ({"colour": ""}, "does not say that it gives embeddings"),
    ],
)
def test_similar_says_what_is_wrong_before_any_work(
    tmp_path: Path, colour: Path, brightness: Path, embeddings: Path, change: dict[str, str], message: str
) -> None:
    model = brightness if "colour" in change else colour
    given = {"embeddings": str(embeddings), "model": str(model), "output": str(tmp_path / "p.html"), **change}
    given.pop("colour", None)
    code = "import sys; sys.modules['tensorflow'] = None; import serving.similar as s; sys.exit(s.main(sys.argv[1:]))"
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    ended = subprocess.run([sys.executable, "-c", code, *options, "a.jpg"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert message in ended.stderr
    assert not (tmp_path / "p.html").exists()


def test_classify_says_what_is_wrong_before_any_work(tmp_path: Path) -> None:
    code, out, err = run("classify", "--model", tmp_path, "a.jpg")
    assert (code, out) == (2, "")
    assert err == (
        f"error: {tmp_path} is no model, nothing is there: give the directory of a SavedModel, which has a file "
        "saved_model.pb, or the one that has its versions, such as trainer.export leaves\n"
    )
