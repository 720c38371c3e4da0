"""A data set of embeddings as something to search in: what it says of itself, and its vectors a block at a time.

Imports neither Beam nor TensorFlow. The vector of an example is taken from its bytes as it lies there, without a Python
object for each of its numbers.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, EMBEDDING, INFO_FILE, SPLITS
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.tfrecords import CorruptRecordError, decode_example, read_records

Vectors = npt.NDArray[np.float32]

# Such blocks stay in the processor's cache, and their memory is used again without the system being asked.
_BLOCK_BYTES = 2 << 20
# Tag and length of the example's only field and of the first entry of its map, each length of at most five bytes.
_MOST_BEFORE_ENTRY = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """A finished data set of embeddings.

    Attributes:
        directory: local or gs://.
        backbone: the name of what gave the vectors.
        weights_sha256: hex, of its weights.
        width: of the vectors.
        works: how many there are, in both splits.
        shards: the names of their files.
    """

    directory: str
    backbone: str
    weights_sha256: str
    width: int
    works: int
    shards: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """Some examples of a shard.

    Attributes:
        records: serialized examples.
        vectors: float32 [records, width].
    """

    records: list[bytes]
    vectors: Vectors

    def example(self, row: int) -> dict[str, list[Any]]:
        """Returns the features of an example."""
        return decode_example(self.records[row])


def read_collection(directory: str) -> Collection:
    """Reads what a data set of embeddings says of itself; raises OptionError if it is none, or not finished."""
    if not files.exists(files.join(directory, COMPLETED_FILE)):
        raise OptionError(
            f"--embeddings {directory} is no data set, it has no file {COMPLETED_FILE}: "
            "give the --output of beam_pipelines.embed"
        )
    try:
        info = files.read_json(files.join(directory, INFO_FILE))
        if "backbone" not in info:
            raise OptionError(
                f"--embeddings {directory} has pictures: give the data set of embeddings that "
                f"python -m beam_pipelines.embed --dataset {directory} makes of it"
            )
        return _collection(directory, info)
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise OptionError(
            f"{files.join(directory, INFO_FILE)} is damaged: see python -m beam_pipelines.verify {directory}"
        ) from error


def read_blocks(file: BinaryIO, *, width: int) -> Iterator[Block]:
    """Yields the examples of a shard, in blocks of about 2 MiB.

    Args:
        file: a shard of embeddings.
        width: of the vectors.

    Raises:
        CorruptRecordError: the file is not whole, or an example has no vector of this width.
    """
    rows = max(1, _BLOCK_BYTES // (4 * width))
    beginning = _entry_beginning(width)
    records: list[bytes] = []
    vectors: list[bytes] = []
    for record in read_records(file):
        records.append(record)
        vectors.append(_vector_bytes(record, beginning, width))
        if len(records) == rows:
            yield _block(records, vectors, width)
            records, vectors = [], []
    if records:
        yield _block(records, vectors, width)


def read_shard(collection: Collection, name: str) -> Iterator[Block]:
    """Yields the examples of a shard in blocks; raises RunError where it is damaged."""
    path = files.join(collection.directory, name)
    try:
        with files.open_to_read(path) as file:
            yield from read_blocks(file, width=collection.width)
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing: see python -m beam_pipelines.verify {collection.directory}") from error
    except CorruptRecordError as error:
        raise RunError(
            f"{path} is damaged ({error}): see python -m beam_pipelines.verify {collection.directory}"
        ) from error


def _collection(directory: str, info: Mapping[str, Any]) -> Collection:
    backbone = info["backbone"]
    shards = [shard for split in SPLITS for shard in info["splits"][split]["shards"]]
    return Collection(
        directory=directory,
        backbone=str(backbone["name"]),
        weights_sha256=str(backbone["weights_sha256"]),
        width=int(backbone["width"]),
        works=sum(int(shard["examples"]) for shard in shards),
        shards=tuple(str(shard["name"]) for shard in shards if shard["examples"]),
    )


def _block(records: list[bytes], vectors: list[bytes], width: int) -> Block:
    return Block(records, np.frombuffer(b"".join(vectors), "<f4").reshape(len(records), width))


def _vector_bytes(record: bytes, beginning: bytes, width: int) -> bytes:
    """Returns the float32 numbers of an example's vector as they lie in memory."""
    at = record.find(beginning, 0, _MOST_BEFORE_ENTRY + len(beginning))
    if at >= 0:
        start = at + len(beginning)
        return record[start : start + 4 * width]
    vector = decode_example(record).get(EMBEDDING, [])
    if len(vector) != width:
        raise CorruptRecordError(f"a vector of {len(vector)} numbers instead of {width}")
    return np.asarray(vector, "<f4").tobytes()


def _entry_beginning(width: int) -> bytes:
    """Returns the bytes between the length of the map's entry and the numbers of its vector.

    A writer that sorts the map's keys has it first. Fields 1 of an entry is the key and 2 the value, 2 of that is the
    list of floats, and 1 of that the packed numbers:
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
    """
    numbers = b"\x0a" + _varint(4 * width)
    floats = b"\x12" + _varint(len(numbers) + 4 * width) + numbers
    value = b"\x12" + _varint(len(floats) + 4 * width) + floats
    return b"\x0a" + _varint(len(EMBEDDING)) + EMBEDDING.encode() + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
