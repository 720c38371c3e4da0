"""Turns pictures into the JSON that models are asked with: `python -m serving.images_to_json -o request.json a.jpg`.

jsonl        one line a picture, {"key": …, "image_bytes": {"b64": …}}: what beam_pipelines.batch_predict reads
vertex       the same lines, as the batch prediction of Vertex AI reads them
tf_serving   one document, {"instances": […]}, for POST /v1/models/NAME:predict

A picture goes in as it came, so that the model says of it what it says everywhere. Imports no TensorFlow.
"""

import base64
import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from beam_pipelines import files
from beam_pipelines.commands import run_command
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.option_parser import OptionParser
from serving.picture_options import PictureOptions, add_picture_arguments, picture_options
from serving.pictures import Picture, Refusal, complain, reading

FORMATS = ("jsonl", "vertex", "tf_serving")
STANDARD_OUTPUT = "-"
# What an endpoint takes in one request: https://cloud.google.com/vertex-ai/docs/predictions/get-online-predictions
VERTEX_REQUEST_BYTES = 1_500_000

# Named, because this module is `__main__` where it is the command.
_LOGGER = logging.getLogger("serving.images_to_json")

_SURROUNDINGS = {"jsonl": (b"", b"\n", b"\n"), "tf_serving": (b'{"instances": [\n', b",\n", b"\n]}\n")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonOptions:
    """Which pictures are written, how and where to.

    Attributes:
        output: a file, local or gs://; `-` for standard output.
        pictures: which ones.
        format: one of `FORMATS`.
        resize: pixels of the shorter side to shrink to; 0 leaves pictures as they came.
        verbose: log more, and show errors whole.
    """

    output: str
    pictures: PictureOptions
    format: str = FORMATS[0]
    resize: int = 0
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise OptionError(f"unknown --format {self.format!r}: choose one of {', '.join(FORMATS)}")
        if self.resize < 0:
            raise OptionError(f"--resize {self.resize} is negative")
        if not self.output:
            raise OptionError("--output is empty: name a file, or - for standard output")
        if os.path.isdir(self.output):
            raise OptionError(f"--output {self.output} is a directory: name a file in it")


@dataclasses.dataclass
class Written:
    """What was written, and what not.

    Attributes:
        pictures: how many were written.
        bytes: of all their lines.
        refused: how many pictures could not be had.
        too_large: how many are more than an endpoint of Vertex AI takes in a request.
    """

    pictures: int = 0
    bytes: int = 0
    refused: int = 0
    too_large: int = 0


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 every picture is written, 1 not all of them, 2 wrong options.
    """
    return run_command(lambda: _write(parse_arguments(arguments)), verbose="--verbose" in arguments)


def parse_arguments(arguments: Sequence[str]) -> JsonOptions:
    """Returns the options; raises OptionError for those that are unknown, missing or out of range."""
    values = make_parser().parse_options(arguments)
    own = {name: values[name] for name in ("output", "format", "resize", "verbose")}
    return JsonOptions(pictures=picture_options(values), **own)


def make_parser() -> OptionParser:
    """Returns the parser of `python -m serving.images_to_json`."""
    parser = OptionParser(
        prog="python -m serving.images_to_json",
        description="Turns pictures into the JSON that models are asked with.",
        epilog="Vertex AI's batch prediction shows a machine 64 lines at a time unless it is told another batch size, "
        "and they must fit into its memory; an endpoint takes requests of 1.5 MB. --resize makes lines shorter.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="local or gs://; - writes to standard output"
    )
    parser.add_argument(
        "--format",
        default=FORMATS[0],
        help="jsonl (of batch_predict) or vertex: a line a picture; tf_serving: one document for "
        "POST /v1/models/NAME:predict (default: %(default)s)",
    )
    parser.add_argument(
        "--resize",
        type=int,
        default=0,
        metavar="N",
        help="shrink to N pixels of the shorter side first, as JPEG: scores may then differ a little (default: do not)",
    )
    add_picture_arguments(parser)
    return parser


def write_json(pictures: Iterable[Picture | Refusal], output: BinaryIO, *, format_name: str) -> Written:
    """Writes pictures one after the other, and complains of those that cannot be had.

    Args:
        pictures: in the order in which they are written.
        output: takes the bytes.
        format_name: one of `FORMATS`.

    Raises:
        RunError: there is no picture to write.
    """
    before, between, after = _SURROUNDINGS["tf_serving" if format_name == "tf_serving" else "jsonl"]
    written = Written()
    for picture in pictures:
        if isinstance(picture, Refusal):
            complain(picture)
            written.refused += 1
            continue
        line = instance(picture)
        output.write(between if written.pictures else before)
        output.write(line)
        written.pictures += 1
        written.bytes += len(line)
        written.too_large += len(line) > VERTEX_REQUEST_BYTES
    if not written.pictures:
        raise RunError("none of the pictures can be used: nothing is written")
    output.write(after)
    return written


def instance(picture: Picture) -> bytes:
    """Returns a picture as one JSON object without a line end."""
    value = {"key": picture.key, "image_bytes": {"b64": base64.b64encode(picture.data).decode()}}
    return json.dumps(value).encode()


def _write(options: JsonOptions) -> int:
    with reading(options.pictures, resize=options.resize) as pictures, _opened(options.output) as output:
        written = write_json(pictures, output, format_name=options.format)
    place = "standard output" if options.output == STANDARD_OUTPUT else options.output
    noun = "picture" if written.pictures == 1 else "pictures"
    _LOGGER.info("%s %s, %s bytes, to %s", f"{written.pictures:,}", noun, f"{written.bytes:,}", place)
    if written.too_large and options.format == "vertex":
        _LOGGER.info(
            "%s of them are more than the 1.5 MB that an endpoint of Vertex AI takes in a request: try --resize",
            f"{written.too_large:,}",
        )
    return 1 if written.refused else 0


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Opens what is written to: a file that is there whole or not at all, or standard output."""
    if path == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with files.open_to_write(path) as file:
        yield file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
