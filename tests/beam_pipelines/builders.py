"""What several tests build: rows, plans on disk, a pipeline run on rows, an object store."""

import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.testing.test_pipeline import TestPipeline
from gcp_storage_emulator.server import create_server
from hypothesis import strategies as st

from beam_pipelines import files
from beam_pipelines.artwork import CARRIED_ATTRIBUTES, Artwork
from beam_pipelines.dataset import Shard
from beam_pipelines.images import Picture
from beam_pipelines.plan_files import PlanFiles, PlannedPicture
from beam_pipelines.rejects import Dropped
from beam_pipelines.rows import ARTWORKS, DROPPED
from beam_pipelines.runners import LocalRunner

BUCKET = "gs://a-bucket"


# Any text, also what cannot be UTF-8 (file names), and the characters that break lines and tables.
hostile_text = st.lists(st.characters() | st.sampled_from("\n\r\t\0\"',|[]\u2028\ufeff\udc80\udcff"), max_size=30).map(
    "".join
)


def artwork(
    key: str = "1/0",
    *,
    group: str = "",
    uri: str = "",
    labels: Sequence[str] = ("Japan",),
    split: str = "",
    attributes: Mapping[str, str] | None = None,
) -> Artwork:
    """Returns a row; what is not given follows from its key."""
    return Artwork(
        key=key,
        group=group or key,
        image_uri=uri or f"http://museum.example/{key}.jpg",
        labels=tuple(labels),
        attributes=attributes or {},
        split=split,
    )


@st.composite
def hostile_artworks(draw: st.DrawFn) -> Artwork:
    """Draws rows with any text anywhere; often the group or the address repeats the key."""
    key = draw(hostile_text)
    names = st.sampled_from((*CARRIED_ATTRIBUTES, "object_id", ""))
    attributes = draw(st.dictionaries(names, hostile_text.filter(bool)))
    return Artwork(
        key=key,
        group=draw(st.just(key) | hostile_text),
        image_uri=draw(st.just(key) | hostile_text),
        labels=tuple(draw(st.lists(hostile_text, max_size=3))),
        attributes=attributes,
        split=draw(st.sampled_from(["", "train", "validation"])),
    )


def run_rows(
    transform: Any, folder: Path, *, rows: Sequence[Artwork] | None = None
) -> tuple[list[Artwork], list[Dropped]]:
    """Runs a pipeline of one transform, on `rows` or as a source; returns what it keeps and drops, sorted by key."""
    folder.mkdir(parents=True, exist_ok=True)
    with TestPipeline(runner=LocalRunner()) as pipeline:
        start = pipeline if rows is None else pipeline | "Rows" >> beam.Create(list(rows))
        outputs = start | transform
        for name in (ARTWORKS, DROPPED):
            listed = outputs[name] | f"List_{name}" >> beam.combiners.ToList()
            listed | f"Keep_{name}" >> beam.Map(_keep, path=str(folder / name))
    kept, dropped = (pickle.loads((folder / name).read_bytes()) for name in (ARTWORKS, DROPPED))
    return sorted(kept, key=lambda row: (row.key, row.image_uri)), sorted(dropped, key=lambda row: (row.key, row.uri))


def _keep(rows: list[Any], *, path: str) -> None:
    Path(path).write_bytes(pickle.dumps(rows))


def outcome(rows: Sequence[Any]) -> tuple[list[Artwork], list[Dropped]]:
    """Parts what a function yields into rows that go on and rows that end."""
    kept = [row for row in rows if isinstance(row, Artwork)]
    return kept, [row.value for row in rows if not isinstance(row, Artwork)]


def planned(*artworks: Artwork) -> list[PlannedPicture]:
    """Returns rows of a plan in which `Japan` is class 0 and anything else class 1."""
    return [
        PlannedPicture(artwork=row, class_ids=tuple(0 if label == "Japan" else 1 for label in row.labels))
        for row in artworks
    ]


def write_rows(plan: PlanFiles, shard: Shard, rows: Sequence[PlannedPicture]) -> None:
    """Writes the rows planned for a shard."""
    files.write_lines(plan.rows(shard), (row.to_line() for row in rows))


def fake_shrink(data: bytes) -> Picture:
    """Stands in for decoding: the JPEG is the bytes backwards."""
    return Picture(jpeg=data[::-1], width=len(data), height=1, original_size=(2 * len(data), 2))


class Museum:
    """Addresses and what is behind them: bytes, or what is raised; remembers what it was asked for."""

    def __init__(self, pictures: Mapping[str, bytes | Exception]) -> None:
        self.pictures = dict(pictures)
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda uri: None
        self._lock = threading.Lock()

    def fetch(self, uri: str) -> bytes:
        with self._lock:
            self.asked.append(uri)
        self.before(uri)
        found = self.pictures[uri]
        if isinstance(found, Exception):
            raise found
        return found

    def take_asked(self) -> list[str]:
        asked, self.asked = sorted(self.asked), []
        return asked


def uri(key: str) -> str:
    """Returns the address that a row has if none is given."""
    return f"http://museum.example/{key}.jpg"


def content(keys: list[str]) -> dict[str, bytes | Exception]:
    """Returns a picture of its own for each key, by address."""
    return {uri(key): b"picture " + key.encode("utf-8", "surrogatepass") for key in keys}


@contextlib.contextmanager
def killed_at(replace: int) -> Iterator[None]:
    """Lets the process die, as it were, just before that file (from 1) appears under its name."""
    real, calls = os.replace, iter(range(1, 100))

    def replace_or_die(source: str, target: str) -> None:
        if next(calls) == replace:
            raise KeyboardInterrupt
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        try:
            yield
        except KeyboardInterrupt:
            return
    pytest.fail("nobody wrote as many files")


@contextlib.contextmanager
def object_store() -> Iterator[None]:
    """Lets `gs://` lead to an empty store in this process while the block runs, with the bucket `BUCKET`."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET.removeprefix("gs://"))
    server.start()
    port = server._api._httpd.server_address[1]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            patch.setattr(auth._Credentials, "_credentials_init", True)
            patch.setattr(auth._Credentials, "_credentials", None)
            yield
    finally:
        server.stop()


class FakeTime:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds
