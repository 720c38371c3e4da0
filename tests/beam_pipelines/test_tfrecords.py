import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.dataset import Feature, feature_spec
from beam_pipelines.tfrecords import (
    CorruptBytesError,
    CorruptRecordError,
    LongRecordError,
    count_records,
    decode_example,
    encode_example,
    frame,
    read_records,
    scan_records,
    unframe,
)

features = st.dictionaries(
    st.text(max_size=10),
    st.one_of(
        st.binary(max_size=20),
        st.integers(-(2**63), 2**63 - 1),
        st.lists(st.binary(max_size=20), min_size=1, max_size=3),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
        st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
    ),
    max_size=5,
)
EXAMPLE: dict[str, Any] = {
    Feature.ENCODED: b"\xff\xd8\xff",
    Feature.FORMAT: b"jpeg",
    Feature.HEIGHT: 240,
    Feature.WIDTH: 320,
    Feature.LABEL: [7],
    Feature.TEXT: ["Sèvres".encode()],
    Feature.KEY: b"435868/0",
    Feature.URI: b"http://museum.example/1.jpg",
    Feature.SHA256: b"00" * 32,
}


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def records(content: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(content)))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_records_come_back_as_they_were(contents: list[bytes]) -> None:
    assert records(b"".join(map(frame, contents))) == contents


def test_an_empty_file_has_no_records() -> None:
    assert records(b"") == []
    assert records(frame(b"")) == [b""]


def test_the_frame_is_that_of_the_format() -> None:
    """Length, its masked CRC-32C, the bytes, theirs; as TensorFlow 2.21 wrote it."""
    assert frame(b"museum").hex() == "06000000000000007369d5376d757365756dbd837150"


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=30), st.data())
def test_every_flipped_bit_is_noticed(content: bytes, data: st.DataObject) -> None:
    framed = bytearray(frame(b"first") + frame(content))
    place = data.draw(st.integers(0, len(framed) * 8 - 1))
    framed[place // 8] ^= 1 << place % 8
    with pytest.raises(CorruptRecordError):
        records(bytes(framed))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_cut_within_a_record_is_noticed_and_what_comes_before_it_is_read(content: bytes, data: st.DataObject) -> None:
    whole = frame(b"first")
    cut = data.draw(st.integers(1, len(frame(content)) - 1))
    found = read_records(io.BytesIO(whole + frame(content)[:cut]))
    assert next(found) == b"first"
    with pytest.raises(CorruptRecordError, match="record 1"):
        next(found)


def test_each_damage_is_named() -> None:
    framed = frame(b"museum")
    for damaged, message in (
        (framed[:5], "record 0: the file ends within its header"),
        (framed[:-1], "record 0: the file ends within its bytes"),
        (b"\xff" * 8 + framed[8:], "record 0: wrong checksum of its length"),
        (framed[:-5] + b"M" + framed[-4:], "record 0: wrong checksum of its bytes"),
        (framed + bytes(16), "record 1: wrong checksum of its length"),
    ):
        with pytest.raises(CorruptRecordError, match=message):
            records(damaged)


@settings(deadline=None)
@given(features)
def test_examples_come_back_as_they_were(values: dict[str, Any]) -> None:
    assert decode_example(encode_example(values)) == {name: listed(value) for name, value in values.items()}


@settings(deadline=None)
@given(features)
def test_equal_examples_have_equal_bytes_whatever_the_order_of_their_features(values: dict[str, Any]) -> None:
    assert encode_example(values) == encode_example(dict(reversed(values.items())))


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 60))
def test_records_are_counted_by_their_headers(records: list[bytes], cut: int) -> None:
    framed = [frame(record) for record in records]
    assert count_records(io.BytesIO(b"".join(framed))) == len(records)
    whole = b"".join(framed)[:-cut]
    try:
        expected = len(list(read_records(io.BytesIO(whole))))
    except CorruptRecordError as error:
        with pytest.raises(CorruptRecordError, match=f"^{error}$"):
            count_records(io.BytesIO(whole))
    else:
        assert count_records(io.BytesIO(whole)) == expected


def test_bytes_that_are_no_example() -> None:
    with pytest.raises(CorruptRecordError, match=r"no tf\.train\.Example"):
        decode_example(b"\xff\xff")


@pytest.mark.slow
def test_tensorflow_reads_what_we_write_and_would_write_the_same(tmp_path: Path) -> None:
    import tensorflow as tf

    several = {**EXAMPLE, Feature.LABEL: [7, 2], Feature.TEXT: [b"a", b"b"]}
    path = tmp_path / "train-00000-of-00001.tfrecord"
    path.write_bytes(frame(encode_example(EXAMPLE)) + frame(encode_example(EXAMPLE)))
    batch = next(iter(tf.data.TFRecordDataset([str(path)]).batch(3)))
    parsed = tf.io.parse_example(batch, feature_spec())
    assert parsed[Feature.LABEL].numpy().tolist() == [7, 7]
    assert parsed[Feature.ENCODED].numpy().tolist() == [b"\xff\xd8\xff"] * 2
    assert parsed[Feature.TEXT].numpy()[0].decode() == "Sèvres"
    assert parsed[Feature.WIDTH].numpy().tolist() == [320, 320]
    assert set(parsed) == set(Feature)

    path.write_bytes(frame(encode_example(several)) + frame(encode_example(EXAMPLE)))
    batch = next(iter(tf.data.TFRecordDataset([str(path)]).batch(3)))
    parsed = tf.io.parse_example(batch, feature_spec(multi_label=True))
    assert tf.sparse.to_dense(parsed[Feature.LABEL], default_value=-1).numpy().tolist() == [[7, 2], [7, -1]]
    assert tf.sparse.to_dense(parsed[Feature.TEXT]).numpy().tolist() == [[b"a", b"b"], ["Sèvres".encode(), b""]]

    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"museum")
    assert path.read_bytes() == frame(b"museum")
    for values in (EXAMPLE, several):
        theirs = tf.train.Example()
        for name, value in values.items():
            feature = theirs.features.feature[name]
            kind = feature.int64_list if isinstance(listed(value)[0], int) else feature.bytes_list
            kind.value.extend(listed(value))
        assert encode_example(values) == theirs.SerializeToString(deterministic=True)


class TestScanning:
    @given(records=st.lists(st.binary(max_size=40), max_size=5))
    def test_every_record_is_where_it_is_told_to_be(self, records: list[bytes]) -> None:
        content = b"".join(map(frame, records))
        found = list(scan_records(io.BytesIO(content), max_bytes=1000))
        assert [record for _, _, record in found] == records
        assert [unframe(content[offset : offset + length]) for offset, length, _ in found] == records

    @given(content=st.binary(max_size=60))
    def test_whatever_the_bytes_are_it_ends(self, content: bytes) -> None:
        found = list(scan_records(io.BytesIO(content), max_bytes=30))
        assert all(offset <= len(content) for offset, _, _ in found)
        assert bool(found) == bool(content)

    def test_the_records_behind_a_damaged_and_a_long_one_are_found(self) -> None:
        damaged = frame(b"damaged").replace(b"dam", b"mad")
        content = frame(b"a") + damaged + frame(b"x" * 5_000_000) + frame(b"b")
        found = [record for _, _, record in scan_records(io.BytesIO(content), max_bytes=1000)]
        assert (found[0], found[3]) == (b"a", b"b")
        assert isinstance(found[1], CorruptBytesError)
        assert isinstance(found[2], LongRecordError)

    @pytest.mark.parametrize("length", [1 << 31, 1 << 62, (1 << 64) - 1])
    def test_a_length_beyond_all_bounds_ends_the_file(self, length: int) -> None:
        """Its checksum is right, so that only the end of the file tells."""
        header = struct.pack("<Q", length)
        content = header + frame(header)[-4:] + b"no more"
        ((offset, _, record),) = scan_records(io.BytesIO(content), max_bytes=1000)
        assert (offset, type(record)) == (0, CorruptRecordError)
        with pytest.raises(CorruptRecordError, match="ends within its bytes"):
            unframe(content)

    @pytest.mark.parametrize("framed", [b"", frame(b"a")[:-1], frame(b"a") + b"x", frame(b"a") * 2])
    def test_what_is_not_one_record_is_told(self, framed: bytes) -> None:
        with pytest.raises(CorruptRecordError):
            unframe(framed)
