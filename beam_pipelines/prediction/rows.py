"""The rows that are planned for a shard, the order they stand in, and the account of what became of them."""

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any

from beam_pipelines import files
from beam_pipelines.artwork import Artwork, stable_hash
from beam_pipelines.choice import key_rank
from beam_pipelines.rejects import Dropped, Reason

_ROWS_IN_SHARD = 500
_FEWEST_SHARDS = 8
_ROWS_WORTH_A_SHARD = 16

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


@dataclasses.dataclass(frozen=True)
class PlannedRow:
    """A row that belongs in a shard: what it is called, where its picture is, and what that is said to show."""

    key: str
    uri: str
    labels: tuple[str, ...] = ()

    def to_line(self) -> str:
        """Returns it as a line of JSON."""
        return _ENCODE([self.key, self.uri, self.labels])

    @classmethod
    def from_line(cls, line: str) -> "PlannedRow":
        """Reads what `to_line` wrote."""
        key, uri, labels = json.loads(line)
        return cls(key, uri, tuple(labels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RejectedRow:
    """A planned row that is not in its shard.

    Attributes:
        number: which one of the shard's, from 0.
        dropped: the row, and why it is not.
    """

    number: int
    dropped: Dropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionAccount:
    """What became of the rows planned for a shard, and the shard file that this is true of.

    Attributes:
        size: bytes in the file.
        sha256: of the file, hex.
        predicted: rows in the file.
        rejected: the other rows, in order.
    """

    size: int
    sha256: str
    predicted: int
    rejected: tuple[RejectedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        rejected = [
            [row.number, row.dropped.key, row.dropped.uri, row.dropped.reason, row.dropped.detail]
            for row in self.rejected
        ]
        return {"size": self.size, "sha256": self.sha256, "predicted": self.predicted, "rejected": rejected}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "PredictionAccount":
        """Reads what `to_json` returned."""
        return cls(
            size=value["size"],
            sha256=value["sha256"],
            predicted=value["predicted"],
            rejected=tuple(
                RejectedRow(number=number, dropped=Dropped(key=key, uri=uri, reason=Reason(reason), detail=detail))
                for number, key, uri, reason, detail in value["rejected"]
            ),
        )


def read_account(path: str) -> PredictionAccount | None:
    """Returns the account in that file, or None if there is none yet."""
    try:
        return PredictionAccount.from_json(files.read_json(path))
    except FileNotFoundError:
        return None


def bare_row(artwork: Artwork) -> Artwork:
    """Returns a row with no more than is planned of it, as it travels to its shard."""
    return Artwork(key=artwork.key, group=artwork.key, image_uri=artwork.image_uri, labels=artwork.labels)


def count_shards(rows: int, *, num_shards: int) -> int:
    """Returns how many shards there are: `num_shards`; if that is 0, about 500 rows each, and work for every core."""
    if num_shards:
        return num_shards
    return max(math.ceil(rows / _ROWS_IN_SHARD), min(_FEWEST_SHARDS, math.ceil(rows / _ROWS_WORTH_A_SHARD)), 1)


def shard_index(artwork: Artwork, count: int) -> int:
    """Returns the shard that a row belongs in, by hash of its key."""
    return stable_hash(artwork.key, salt="shard") % count


def in_order(artworks: Iterable[Artwork]) -> list[PlannedRow]:
    """Returns a shard's rows in their order, by hash of the key."""
    rows = (PlannedRow(artwork.key, artwork.image_uri, artwork.labels) for artwork in artworks)
    return sorted(rows, key=lambda row: (key_rank(row.key), row.key, row.uri, row.labels))
