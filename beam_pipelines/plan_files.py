"""Where the plan of a data set and the accounts of its shards lie (`.plan/`), and the records in them."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.dataset import PLAN_DIRECTORY, PLAN_FILE, Shard, shards_of
from beam_pipelines.rejects import Dropped, Reason

_ANSWERS = "answers"
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


class NamedShard(Protocol):
    """A shard of any kind: its name without an ending, and the name of its file."""

    @property
    def name(self) -> str: ...

    @property
    def file_name(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class PlanFiles:
    """The paths below `.plan/` of the data set in `directory`."""

    directory: str

    def path(self, *names: str) -> str:
        """Returns a path below `.plan/`."""
        return files.join(self.directory, PLAN_DIRECTORY, *names)

    @property
    def summary(self) -> str:
        """What was asked for and decided."""
        return self.path(PLAN_FILE)

    @property
    def rejected(self) -> str:
        """The rows rejected before any fetch, sorted, as in `rejected.jsonl`."""
        return self.path("rejected.jsonl")

    @property
    def answers(self) -> str:
        """The directory in which answers of the collection API are kept, also when the plan is made anew."""
        return self.path(_ANSWERS)

    def remove(self) -> None:
        """Deletes all but the answers."""
        for name in files.list_directory(self.path()):
            if name != _ANSWERS:
                files.remove_tree(self.path(name))
                files.remove(self.path(name))

    @property
    def progress(self) -> str:
        """The directory in which running workers say how far they are."""
        return self.path("progress")

    @property
    def counted(self) -> str:
        """What was counted in the finished shards."""
        return self.path("counted.json")

    @property
    def check_counted(self) -> str:
        """What was counted when the pictures were only checked."""
        return self.path("check-counted.json")

    def rows(self, shard: NamedShard) -> str:
        """The rows planned for a shard, one JSON object a line, in the order of its examples."""
        return self.path("rows", f"{shard.name}.jsonl")

    def check(self, shard: NamedShard) -> str:
        """What became of each row planned for a shard when its pictures were only checked."""
        return self.path("checks", f"{shard.name}.json")

    def thumbnails(self, shard: NamedShard) -> str:
        """Small pictures of the shard's that the report shows."""
        return self.path("thumbnails", f"{shard.name}.json")

    def samples(self, shard: NamedShard) -> str:
        """Embeddings of the shard's that the report shows, with small pictures, as TFRecords."""
        return self.path("samples", f"{shard.name}.tfrecord")

    def account(self, shard: NamedShard) -> str:
        """What became of each row planned for a shard."""
        return self.path("accounts", f"{shard.name}.json")

    def shard(self, shard: NamedShard) -> str:
        """The shard itself, in the data set directory."""
        return files.join(self.directory, shard.file_name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """A picture that belongs in a shard: where it is, and its classes."""

    artwork: Artwork
    class_ids: tuple[int, ...]

    def to_line(self) -> str:
        """Returns it as a line of JSON."""
        work = self.artwork
        value = {
            "key": work.key,
            "group": work.group,
            "uri": work.image_uri,
            "labels": work.labels,
            "class_ids": self.class_ids,
            "attributes": dict(work.attributes),
        }
        return _ENCODE(value)

    @classmethod
    def from_line(cls, line: str) -> "PlannedPicture":
        """Reads what `to_line` wrote."""
        value = json.loads(line)
        artwork = Artwork(
            key=value["key"],
            group=value["group"],
            image_uri=value["uri"],
            labels=tuple(value["labels"]),
            attributes=value["attributes"],
        )
        return cls(artwork=artwork, class_ids=tuple(value["class_ids"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DroppedPicture:
    """A planned picture that is not in its shard; with the hash of its bytes if they were fetched and usable."""

    dropped: Dropped
    sha256: str = ""


class WrittenPicture(NamedTuple):
    """A planned picture that is in its shard.

    Attributes:
        key: the picture's.
        sha256: of the bytes as fetched, hex.
        width: pixels of the picture as it came, upright.
        height: pixels of the picture as it came, upright.
        size: bytes as fetched.
    """

    key: str
    sha256: str
    width: int
    height: int
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """What became of each row planned for a shard, and the shard file that this is true of.

    Attributes:
        size: bytes in the shard file.
        sha256: of the shard file, hex.
        written: the picture of each example, in order.
        dropped: the other rows, in order.
    """

    size: int
    sha256: str
    written: tuple[WrittenPicture, ...]
    dropped: tuple[DroppedPicture, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        dropped = [
            [picture.dropped.key, picture.dropped.uri, picture.dropped.reason, picture.dropped.detail, picture.sha256]
            for picture in self.dropped
        ]
        return {"size": self.size, "sha256": self.sha256, "written": self.written, "dropped": dropped}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Account":
        """Reads what `to_json` returned."""
        return cls(
            size=value["size"],
            sha256=value["sha256"],
            written=tuple(WrittenPicture(*picture) for picture in value["written"]),
            dropped=tuple(
                DroppedPicture(dropped=Dropped(key=key, uri=uri, reason=Reason(reason), detail=detail), sha256=sha256)
                for key, uri, reason, detail, sha256 in value["dropped"]
            ),
        )

    def rejected(self) -> Iterator[Dropped]:
        """Yields the rows that go into `rejected.jsonl`."""
        return (picture.dropped for picture in self.dropped if picture.dropped.reason.kind == "rejected")


def read_account(path: str) -> Account | None:
    """Returns the account in that file, or None if there is none yet."""
    try:
        return Account.from_json(files.read_json(path))
    except FileNotFoundError:
        return None


def planned_shards(summary: dict[str, Any]) -> list[Shard]:
    """Returns the shards of the data set whose plan says `summary`."""
    return shards_of({split: value["shards"] for split, value in summary["splits"].items()})


def rejected_line(dropped: Dropped) -> str:
    """Returns the line of `rejected.jsonl` for a rejected row."""
    value = {
        "key": dropped.key,
        "uri": dropped.uri,
        "stage": dropped.reason.stage,
        "reason": dropped.reason,
        "detail": dropped.detail,
    }
    return json.dumps(value, ensure_ascii=True)
