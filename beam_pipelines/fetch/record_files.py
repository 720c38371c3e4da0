"""Pictures in TFRecord files of image examples, `tfrecord:OFFSET:LENGTH:PATH`: where a framed record lies."""

from typing import Any

from beam_pipelines.dataset import Feature
from beam_pipelines.fetch.byte_streams import too_large
from beam_pipelines.fetch.file_ranges import FileRange, FileRanges
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.tfrecords import CorruptRecordError, decode_example, unframe

SCHEME = "tfrecord"

# Of a record, besides its picture.
_MORE_BYTES = 1 << 20


def max_record_bytes(max_image_bytes: int) -> int:
    """Returns the bytes of the longest framed record that is read, for pictures of so many bytes at most."""
    return max_image_bytes + _MORE_BYTES


def parse_record(record: bytes) -> dict[str, list[Any]]:
    """Returns the features of an image example; raises RejectedError, CORRUPT_RECORD, if the record is none."""
    try:
        example = decode_example(record)
    except CorruptRecordError as error:
        raise RejectedError(Reason.CORRUPT_RECORD, str(error)) from error
    encoded = example.get(Feature.ENCODED, [])
    if len(encoded) != 1 or not isinstance(encoded[0], bytes):
        raise RejectedError(Reason.CORRUPT_RECORD, f"the example lacks {Feature.ENCODED}")
    return example


def read_picture(ranges: FileRanges, uri: str, *, max_bytes: int) -> bytes:
    """Returns the picture of the record at an address.

    Raises:
        RejectedError: as `FileRanges.read`; CORRUPT_RECORD or TOO_LARGE where the record is not what it was.
    """
    framed = ranges.read(FileRange.parse(uri), max_bytes=max_record_bytes(max_bytes))
    try:
        record = unframe(framed)
    except CorruptRecordError as error:
        raise RejectedError(Reason.CORRUPT_RECORD, str(error)) from error
    image: bytes = parse_record(record)[Feature.ENCODED][0]
    if len(image) > max_bytes:
        raise too_large(max_bytes)
    return image
