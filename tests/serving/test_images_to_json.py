import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.rejects import Reason
from serving.images_to_json import JsonOptions, Written, main, parse_arguments, write_json
from serving.picture_options import PictureOptions
from serving.pictures import Refusal
from tests.serving.builders import BLACK, WHITE, noisy_png, picture, png

MISSING = Refusal(key="x", reason=Reason.NOT_FOUND, detail="no such file")


def value(key: str, data: bytes) -> dict[str, Any]:
    return {"key": key, "image_bytes": {"b64": base64.b64encode(data).decode()}}


def test_options_are_those_of_the_command_line() -> None:
    given = parse_arguments(["-o", "r.json", "a.jpg", "--format=vertex", "--resize", "64"])
    pictures = PictureOptions(addresses=("a.jpg",))
    assert given == JsonOptions(output="r.json", pictures=pictures, format="vertex", resize=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jpg"], "required: -o/--output"),
        (
            ["a.jpg", "-o", "r.json", "--format", "csv"],
            "unknown --format 'csv': choose one of jsonl, vertex, tf_serving",
        ),
        (["a.jpg", "-o", "r.json", "--resize", "-1"], "--resize -1 is negative"),
        (["a.jpg", "-o", ""], "--output is empty: name a file, or - for standard output"),
        (["a.jpg", "-o", "/"], "--output / is a directory: name a file in it"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_arguments(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("format_name", ["jsonl", "vertex"])
def test_lines_are_one_object_each(format_name: str) -> None:
    out = io.BytesIO()
    written = write_json([picture("a"), MISSING, picture('"é\udc80', b"\0\xff")], out, format_name=format_name)
    lines = out.getvalue().splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == [value("a", b"bytes"), value('"é\udc80', b"\0\xff")]
    assert all(line.endswith(b"\n") for line in lines)
    assert written == Written(pictures=2, bytes=len(out.getvalue()) - 2, refused=1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_request_of_tensorflow_serving_is_one_document(count: int) -> None:
    out = io.BytesIO()
    write_json([MISSING, *(picture(str(number)) for number in range(count))], out, format_name="tf_serving")
    assert json.loads(out.getvalue()) == {"instances": [value(str(number), b"bytes") for number in range(count)]}


@pytest.mark.parametrize("format_name", ["jsonl", "tf_serving"])
def test_without_a_picture_nothing_is_written(format_name: str) -> None:
    out = io.BytesIO()
    with pytest.raises(RunError, match="none of the pictures can be used: nothing is written"):
        write_json([MISSING], out, format_name=format_name)
    assert out.getvalue() == b""


def test_one_picture_is_held_at_a_time() -> None:
    out = io.BytesIO()
    sizes = []

    def pictures() -> Any:
        for number in range(3):
            sizes.append(len(out.getvalue()))
            yield picture(str(number))

    write_json(pictures(), out, format_name="jsonl")
    assert sizes == sorted(set(sizes))


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """A black picture, a white one, and one that is not there."""
    for name, data in {"a.png": png(BLACK), "b.png": png(WHITE)}.items():
        (tmp_path / name).write_bytes(data)
    return [str(tmp_path / name) for name in ("a.png", "b.png", "none.png")]


def test_a_file_has_the_pictures_that_could_be_had(
    tmp_path: Path, paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "request.json"
    assert main(["-o", str(output), *paths]) == 1
    assert [json.loads(line) for line in output.open()] == [value(paths[0], png(BLACK)), value(paths[1], png(WHITE))]
    assert f"error: {paths[2]}: fetch: not_found: no such file\n" in capsys.readouterr().err
    assert main(["-o", str(output), *paths[:2]]) == 0
    assert [path.name for path in output.parent.iterdir()] == ["request.json"]


def test_a_file_that_cannot_be_made_anew_stays(tmp_path: Path, paths: list[str]) -> None:
    (tmp_path / "request.json").write_text("before")
    assert main(["-o", str(tmp_path / "request.json"), paths[2]]) == 1
    assert (tmp_path / "request.json").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "request.json"]


def test_what_is_too_large_for_an_endpoint_of_vertex_is_told(
    tmp_path: Path, paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "large.png").write_bytes(noisy_png(seed=2, side=640))
    large = [str(tmp_path / "large.png"), "-o", str(tmp_path / "r.json"), "--format", "vertex"]
    assert main([*large, paths[0]]) == 0
    assert "1 of them are more than the 1.5 MB that an endpoint of Vertex AI takes" in caplog.text
    caplog.clear()
    assert main([*large, paths[0], "--resize=64"]) == 0
    assert "1.5 MB" not in caplog.text


def test_what_is_written_to_standard_output_can_be_read_on(paths: list[str]) -> None:
    code = (
        "import sys, serving.images_to_json as command\n"
        "exit_code = command.main(sys.argv[1:])\n"
        "assert not {'apache_beam', 'tensorflow', 'keras', 'trainer'} & set(sys.modules)\n"
        "sys.exit(exit_code)"
    )
    command = [sys.executable, "-c", code, "-o", "-", "--format", "tf_serving", *paths[:2]]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [row["key"] for row in json.loads(ended.stdout)["instances"]] == paths[:2]
    assert ended.stderr.endswith("bytes, to standard output\n")
