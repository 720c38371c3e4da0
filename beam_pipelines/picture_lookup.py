"""A few pictures of a data set by their keys, small enough for a page. Imports neither Beam nor TensorFlow."""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

from beam_pipelines import files, images
from beam_pipelines.dataset import COMPLETED_FILE, INFO_FILE, Feature, Shard
from beam_pipelines.errors import OptionError
from beam_pipelines.plan_files import PlanFiles, PlannedPicture
from beam_pipelines.shards import read_rows
from beam_pipelines.tfrecords import CorruptRecordError, decode_example, read_records

SIDE = 128

_THREADS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture, small enough to be shown among many.

    Attributes:
        jpeg: its bytes, at most 128 pixels a side.
        width: pixels.
        height: pixels.
        uri: where it was fetched from.
        attributes: those of title, artist, date, credit_line, rights and department that are known.
    """

    jpeg: bytes
    width: int
    height: int
    uri: str
    attributes: Mapping[str, str]


def picture_data_set(directory: str, *, given: str = "") -> str:
    """Returns the data set that has the pictures of another; empty where there is none.

    Args:
        directory: of a data set of pictures, or of embeddings, which say what they were made from; empty for none.
        given: the directory that the user names, or empty.

    Raises:
        OptionError: what the user names is no data set of pictures.
    """
    if given:
        _check_given(given)
        return given
    info = _information(directory) if directory else {}
    if "backbone" not in info:
        return directory
    recorded = info.get("dataset", {})
    made_from = str(recorded.get("path", ""))
    is_same = made_from and _information(made_from).get("fingerprint") == recorded.get("fingerprint")
    return made_from if is_same else ""


def read_pictures(directory: str, keys: Collection[str]) -> dict[str, Picture]:
    """Returns the pictures of these keys, as far as they are there and can be decoded.

    Where the data set has its plan, only shards that hold one of them are read, and titles and the like are known.

    Args:
        directory: of a data set of pictures, local or gs://; empty for none.
        keys: of the pictures; empty ones name nothing.
    """
    wanted = frozenset(keys) - {""}
    if not directory or not wanted:
        return {}
    read_shard = functools.partial(_read_shard, PlanFiles(directory), wanted=wanted)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = [picture for shard in pool.map(read_shard, _shards(directory)) for picture in shard.items()]
    return dict(found)


def _read_shard(plan: PlanFiles, shard: Shard, *, wanted: frozenset[str]) -> dict[str, Picture]:
    rows = _planned(plan, shard, wanted)
    here = wanted if rows is None else wanted & rows.keys()
    found: dict[str, Picture] = {}
    left = set(here)
    if not left:
        return found
    with contextlib.suppress(CorruptRecordError), files.open_to_read(plan.shard(shard)) as file:
        for record in read_records(file):
            example = decode_example(record)
            key = _text(example.get(Feature.KEY, [b""])[0])
            if key not in left:
                continue
            left.remove(key)
            picture = _picture(example, rows[key].artwork.attributes if rows else {})
            if picture:
                found[key] = picture
            if not left:
                break
    return found


def _planned(plan: PlanFiles, shard: Shard, wanted: frozenset[str]) -> dict[str, PlannedPicture] | None:
    """Returns the wanted rows planned for a shard; None if its plan is not there."""
    try:
        return {row.artwork.key: row for row in read_rows(plan, shard) if row.artwork.key in wanted}
    except FileNotFoundError:
        return None


def _picture(example: Mapping[str, list[Any]], attributes: Mapping[str, str]) -> Picture | None:
    """Returns the picture of an example; None if it cannot be decoded."""
    try:
        small = images.thumbnail(example[Feature.ENCODED][0], side=SIDE)
    except (KeyError, IndexError, OSError, SyntaxError, ValueError):
        return None
    uri = _text(example.get(Feature.URI, [b""])[0])
    return Picture(jpeg=small.jpeg, width=small.width, height=small.height, uri=uri, attributes=attributes)


def _shards(directory: str) -> list[Shard]:
    found = []
    for name in files.list_directory(directory):
        with contextlib.suppress(ValueError):
            found.append(Shard.parse(name))
    return found


def _check_given(directory: str) -> None:
    if not files.exists(files.join(directory, COMPLETED_FILE)):
        raise OptionError(
            f"--pictures {directory} is no data set, it has no file {COMPLETED_FILE}: give ingest's --output"
        )
    if "backbone" in _information(directory):
        raise OptionError(f"--pictures {directory} has embeddings: give the data set of pictures that they are made of")


def _information(directory: str) -> dict[str, Any]:
    """Returns what a data set says of itself; empty if there is nothing to be read."""
    try:
        info = files.read_json(files.join(directory, INFO_FILE))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
