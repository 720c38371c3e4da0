"""The finished data set of pictures that embeddings are made from, read one shard at a time, damage and all."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.dataset import COMPLETED_FILE, INFO_FILE, LABELS_FILE, TRAIN, Feature, Shard
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.plan_files import PlanFiles, PlannedPicture, read_account
from beam_pipelines.shards import read_rows
from beam_pipelines.tfrecords import CorruptBytesError, CorruptRecordError, decode_example, read_records

Example = dict[str, list[Any]]
# A record of a shard, or what is wrong with it.
Record = bytes | CorruptRecordError

_DAMAGED = "its bytes do not have their checksum"
_LOST = "the shard ends before it, or is damaged where it begins or before"


@dataclasses.dataclass(frozen=True)
class SourceShard:
    """A shard of pictures; its length is how many it has.

    Attributes:
        name: the shard's, without an ending.
        pictures: how many the data set says it has.
    """

    name: str
    pictures: int

    def __len__(self) -> int:
        return self.pictures

    @property
    def shard(self) -> Shard:
        """The shard itself."""
        return Shard.parse(self.name)


def read_source(directory: str) -> dict[str, Any]:
    """Returns `dataset_info.json` of a finished data set of pictures.

    Raises:
        OptionError: there is none in the directory.
    """
    if not files.exists(files.join(directory, COMPLETED_FILE)):
        raise OptionError(
            f"--dataset {directory} is no finished data set, it has no file {COMPLETED_FILE}: give the command that "
            "makes it, again if it was stopped"
        )
    info: dict[str, Any] = files.read_json(files.join(directory, INFO_FILE))
    if "backbone" in info:
        raise OptionError(
            f"--dataset {directory} has embeddings already, of {info['backbone']['name']}: give the data set of "
            f"pictures that they were made from, {info['dataset']['path']}"
        )
    if not info["splits"][TRAIN]["examples"]:
        raise OptionError(f"--dataset {directory} has no picture in the training split: give one that has some")
    return info


def read_label_file(directory: str) -> bytes:
    """Returns the bytes of the data set's file of labels."""
    return files.read_bytes(files.join(directory, LABELS_FILE))


def source_shards(info: Mapping[str, Any]) -> list[SourceShard]:
    """Returns the shards of the data set that `info` tells of, in order."""
    return [
        SourceShard(Shard.parse(told["name"]).name, told["examples"])
        for split in info["splits"].values()
        for told in split["shards"]
    ]


def read_source_records(directory: str, source: SourceShard) -> Iterator[Record]:
    """Yields a record, or an error in its place, for each picture that the shard is said to have.

    Where a record's bytes are damaged the next one follows. Where nobody can tell any more where a record begins, or
    the shard ends too early, that and all that follow are errors.

    Raises:
        RunError: the shard is not there, or has more records than the data set says.
    """
    name, count = source.shard.file_name, 0
    try:
        with files.open_to_read(files.join(directory, name)) as file:
            for count, record in enumerate(_records_in(file), start=1):
                if count > source.pictures:
                    raise RunError(
                        f"{name} of {directory} has more than the {source.pictures} examples of {INFO_FILE}: make that "
                        "data set anew"
                    )
                yield record
    except FileNotFoundError as error:
        raise RunError(
            f"{name} of {directory} is missing: delete its {COMPLETED_FILE} and give the command that made it again"
        ) from error
    for _ in range(count, source.pictures):
        yield CorruptRecordError(_LOST)


def read_planned(directory: str, source: SourceShard) -> list[PlannedPicture]:
    """Returns the rows of the shard's pictures, in order; none where the data set came without its plan."""
    plan = PlanFiles(directory)
    account = read_account(plan.account(source.shard))
    if account is None or len(account.written) != source.pictures:
        return []
    try:
        rows = {row.artwork.key: row for row in read_rows(plan, source.shard)}
    except FileNotFoundError:
        return []
    return [rows[picture.key] for picture in account.written]


def picture_of(example: Example) -> PlannedPicture:
    """Returns what an example itself tells of its picture."""
    key = example[Feature.KEY][0].decode("utf-8", "surrogatepass")
    artwork = Artwork(
        key=key,
        group=key,
        image_uri=example[Feature.URI][0].decode("utf-8", "surrogatepass"),
        labels=tuple(label.decode() for label in example[Feature.TEXT]),
    )
    return PlannedPicture(artwork=artwork, class_ids=tuple(example[Feature.LABEL]))


def decode_picture(record: Record) -> Example:
    """Returns the features of a picture's record.

    Raises:
        CorruptRecordError: the record is damaged, or lacks a feature.
    """
    if isinstance(record, CorruptRecordError):
        raise record
    example = decode_example(record)
    missing = [feature.value for feature in Feature if not example.get(feature)]
    if missing:
        raise CorruptRecordError(f"the example lacks {', '.join(missing)}")
    return example


def _records_in(file: BinaryIO) -> Iterator[Record]:
    """Yields the records of a file, with an error in place of a damaged one, as far as they can be told apart."""
    while True:
        try:
            yield from read_records(file)
            return
        except CorruptBytesError:
            yield CorruptRecordError(_DAMAGED)
        except CorruptRecordError:
            return
