"""Pictures in JSON lines, as programs send them to a model: `{"key": "a", "image_bytes": {"b64": "/9j/4AA…"}}`.

That is the row format of TensorFlow Serving's and Vertex AI's JSON; `label` or `labels` may say what a picture shows.
"""

import base64
import dataclasses
import json
from typing import Any

from beam_pipelines.artwork import clean_text
from beam_pipelines.fetch.byte_streams import too_large
from beam_pipelines.fetch.file_ranges import FileRange, FileRanges
from beam_pipelines.rejects import Reason, RejectedError

SCHEME = "jsonl"

# Of a line, besides its picture.
_MORE_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonRow:
    """What a line has.

    Attributes:
        key: the picture's; empty if the line has none.
        labels: what it is said to show.
        image: the picture's file as it came.
    """

    key: str
    labels: tuple[str, ...]
    image: bytes


def max_line_bytes(max_image_bytes: int) -> int:
    """Returns the bytes of the longest line that is read, for pictures of so many bytes at most."""
    return 4 * -(-max_image_bytes // 3) + _MORE_BYTES


def parse_line(line: bytes) -> JsonRow:
    """Returns what a line has; raises RejectedError, BAD_ROW, if it is no such line."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _bad("the line is no UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _bad("the line is no JSON") from error
    if not isinstance(value, dict):
        raise _bad("the line is no JSON object")
    picture = value.get("image_bytes")
    encoded = picture.get("b64") if isinstance(picture, dict) else None
    if not isinstance(encoded, str):
        raise _bad('the line has no picture: give "image_bytes": {"b64": …}')
    try:
        image = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise _bad("the picture is no base64") from error
    return JsonRow(key=_key(value.get("key")), labels=_labels(value), image=image)


def read_picture(ranges: FileRanges, uri: str, *, max_bytes: int) -> bytes:
    """Returns the picture of the line at `jsonl:OFFSET:LENGTH:PATH`.

    Raises:
        RejectedError: as `FileRanges.read`; BAD_ROW or TOO_LARGE where the line is not what it was.
    """
    line = ranges.read(FileRange.parse(uri), max_bytes=max_line_bytes(max_bytes))
    image = parse_line(line).image
    if len(image) > max_bytes:
        raise too_large(max_bytes)
    return image


def _key(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise _bad("the key is neither a text nor a whole number")


def _labels(value: dict[str, Any]) -> tuple[str, ...]:
    given = value.get("labels", value.get("label"))
    labels = [] if given is None else [given] if isinstance(given, str) else given
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise _bad(f"the labels are no texts: {clean_text(str(given), max_characters=40)!r}")
    return tuple(labels)


def _bad(detail: str) -> RejectedError:
    return RejectedError(Reason.BAD_ROW, detail)
