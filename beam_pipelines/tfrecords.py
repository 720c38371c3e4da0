"""TFRecord framing and `tf.train.Example` messages without TensorFlow, whose import costs seconds and hundreds of MB.

Formats: https://www.tensorflow.org/tutorials/load_data/tfrecord and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
# No message of protocol buffers is longer.
_MAX_RECORD_BYTES = 1 << 31
_PIECE_BYTES = 1 << 20

FeatureValue = bytes | int | Sequence[bytes] | Sequence[int] | Sequence[float]


class CorruptRecordError(ValueError):
    """A TFRecord file is cut short, or its checksums do not fit its bytes."""


class CorruptBytesError(CorruptRecordError):
    """The bytes of one record are damaged, not its length: the record behind it can be read."""


class LongRecordError(CorruptRecordError):
    """A record is longer than those that are read; the record behind it can be read."""


def frame(record: bytes) -> bytes:
    """Returns `record` framed as in a TFRecord file: length, its checksum, the bytes, their checksum."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOTER.pack(_masked_crc(length)), record, _FOOTER.pack(_masked_crc(record))))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records of a TFRecord file; raises `CorruptRecordError` where it is not whole.

    After a `CorruptBytesError` the file stands at the next record.
    """
    number = 0
    while header := file.read(_HEADER.size):
        length = _length_in(header, number)
        body = file.read(length + _FOOTER.size) if length <= _MAX_RECORD_BYTES else b""
        if len(body) < length + _FOOTER.size:
            raise CorruptRecordError(f"record {number}: the file ends within its bytes")
        yield _checked(body, number)
        number += 1


def unframe(framed: bytes) -> bytes:
    """Returns the record that `frame` framed; raises `CorruptRecordError` if it is not whole."""
    file = io.BytesIO(framed)
    records = list(read_records(file)) if framed else []
    if len(records) != 1:
        raise CorruptRecordError(f"{len(records)} records where one should be")
    return records[0]


def scan_records(file: BinaryIO, *, max_bytes: int) -> Iterator[tuple[int, int, bytes | CorruptRecordError]]:
    """Yields for each record of a TFRecord file where it is framed (offset, length), and the record or what is wrong.

    Where nobody can tell any more where a record begins, that is the last one.

    Args:
        file: it stands at its beginning.
        max_bytes: of a framed record; longer ones are passed over.
    """
    offset = number = 0
    while header := file.read(_HEADER.size):
        try:
            length = _HEADER.size + _length_in(header, number) + _FOOTER.size
            found = _scanned(header, file, length, number, max_bytes=max_bytes)
        except (CorruptBytesError, LongRecordError) as error:
            yield offset, length, error
        except CorruptRecordError as error:
            yield offset, 0, error
            return
        else:
            yield offset, length, found
        offset += length
        number += 1


def _scanned(header: bytes, file: BinaryIO, length: int, number: int, *, max_bytes: int) -> bytes:
    """Reads the rest of a framed record and returns the record; raises as `scan_records` yields."""
    left = length - len(header)
    if length <= max_bytes:
        body = file.read(left)
        if len(body) < left:
            raise CorruptRecordError(f"record {number}: the file ends within its bytes")
        return _checked(body, number)
    while left:
        piece = file.read(min(left, _PIECE_BYTES))
        if not piece:
            raise CorruptRecordError(f"record {number}: the file ends within its bytes")
        left -= len(piece)
    raise LongRecordError(f"record {number}: more than {max_bytes} bytes")


def count_records(file: BinaryIO) -> int:
    """Returns the number of records in a TFRecord file that can seek; of their bytes only the headers are checked.

    Raises:
        CorruptRecordError: a header is damaged, or the file ends within a record.
    """
    number = position = 0
    while header := file.read(_HEADER.size):
        length = _length_in(header, number)
        position += _HEADER.size + length + _FOOTER.size
        if length > _MAX_RECORD_BYTES or not _has_byte(file, position - 1):
            raise CorruptRecordError(f"record {number}: the file ends within its bytes")
        number += 1
    return number


def _checked(body: bytes, number: int) -> bytes:
    """Returns a record, from its bytes and their checksum; raises `CorruptBytesError` if they do not fit."""
    record = body[: -_FOOTER.size]
    if _masked_crc(record) != _FOOTER.unpack(body[-_FOOTER.size :])[0]:
        raise CorruptBytesError(f"record {number}: wrong checksum of its bytes")
    return record


def _length_in(header: bytes, number: int) -> int:
    """Returns the length that a record's header gives; raises `CorruptRecordError` if the header is not whole."""
    if len(header) < _HEADER.size:
        raise CorruptRecordError(f"record {number}: the file ends within its header")
    length, length_crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != length_crc:
        raise CorruptRecordError(f"record {number}: wrong checksum of its length")
    return int(length)


def _has_byte(file: BinaryIO, position: int) -> bool:
    """Tells whether the file is longer than `position`, and goes on behind it; any file can seek beyond its end."""
    file.seek(position)
    return len(file.read(1)) == 1


def encode_example(features: Mapping[str, FeatureValue]) -> bytes:
    """Returns a serialized `tf.train.Example`, the same bytes for the same features."""
    example = _Example()
    for name, value in features.items():
        values = [value] if isinstance(value, bytes | int) else list(value)
        feature = example.features.feature[name]
        first = values[0] if values else b""
        if isinstance(first, int):
            feature.int64_list.value.extend(values)
        elif isinstance(first, float):
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(values)
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def decode_example(record: bytes) -> dict[str, list[Any]]:
    """Returns the features of a serialized `tf.train.Example` as lists; raises `CorruptRecordError` if it is none."""
    try:
        example = _Example.FromString(record)
    except Exception as error:
        raise CorruptRecordError("a record is no tf.train.Example") from error
    decoded: dict[str, list[Any]] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        decoded[name] = list(getattr(feature, kind).value) if kind else []
    return decoded


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _example_class() -> Any:
    """Builds `tf.train.Example` in a descriptor pool of its own, where it cannot clash with TensorFlow's."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for list_name, scalar in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        file.message_type.add(name=list_name).field.add(name="value", number=1, type=scalar, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, list_name in enumerate(("BytesList", "FloatList", "Int64List"), start=1):
        feature.field.add(
            name=list_name.removesuffix("List").lower() + "_list",
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{list_name}",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry", options={"map_entry": True})
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    file.message_type.add(name="Example").field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features", label=field.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()
