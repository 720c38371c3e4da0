"""JSON lines and TFRecords with pictures in them, as tests of their sources and of what fetches them write them."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beam_pipelines.dataset import Feature
from beam_pipelines.tfrecords import encode_example, frame


def json_line(image: bytes, **more: Any) -> bytes:
    """Returns a line, without its end, of a picture and what else is given."""
    return json.dumps({**more, "image_bytes": {"b64": base64.b64encode(image).decode()}}).encode()


def write_lines(path: Path, lines: Sequence[bytes]) -> Path:
    """Writes lines, each with its end."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def image_record(image: bytes, *, key: str = "", labels: Sequence[str] = ()) -> bytes:
    """Returns a framed image example; without a key it has no such feature."""
    features: dict[str, Any] = {Feature.ENCODED.value: image, Feature.TEXT.value: [label.encode() for label in labels]}
    if key:
        features[Feature.KEY.value] = key.encode("utf-8", "surrogatepass")
    return frame(encode_example(features))


def write_records(path: Path, records: Sequence[bytes]) -> Path:
    """Writes framed records."""
    path.write_bytes(b"".join(records))
    return path
