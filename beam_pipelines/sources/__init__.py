"""Where metadata comes from: one module a source, each a PTransform that gives `Artwork` rows.

A source is constructed with `SourceOptions` alone. Its `check()` raises `OptionError` for what can be known to be wrong
before any work. Applied to a pipeline it gives two outputs: the rows (`artworks`), and those rows that it leaves out,
with the reason (`dropped`), so that every row read is accounted for.
"""

import dataclasses
import importlib
from typing import Any, Protocol, runtime_checkable

from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits

# Where pictures of the Met lie: https://console.cloud.google.com/storage/browser/gcs-public-data--met
MET_MIRROR = "gs://gcs-public-data--met/{object_id}/0.jpg"
# https://metmuseum.github.io/
MET_API = "https://collectionapi.metmuseum.org/public/collection/v1/objects/{object_id}"

_CLASSES = {
    "bigquery": "ReadBigQuery",
    "directory": "ReadDirectory",
    "idx": "ReadIdx",
    "jsonl": "ReadJsonLines",
    "manifest": "ReadManifest",
    "object_list": "ReadObjectList",
    "open_access_csv": "ReadOpenAccessCsv",
    "tfrecord": "ReadTfRecords",
}
SOURCE_NAMES = tuple(sorted(_CLASSES))
IMAGES_FROM = ("mirror", "museum", "api")
# How many pictures a value has to have to be called frequent in the summary of an attribute.
FREQUENT = 10
API_IMAGES = ("small", "primary", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Which rows are read, and what their labels are.

    Attributes:
        input: a path or pattern; `bigquery`: the data set, or its table of objects.
        attribute: whose values become the labels; empty where rows need none.
        split_values: cuts a value into several, as `|` does in the Met's catalogue; empty to take it as it stands.
        bin: makes ranges of this size of whole numbers; 0 to take values as they stand.
        filter: `NAME=VALUE`; a row is taken if, of every name given, it has one of the values.
        labels_file: the classes in the order of their ids; `idx`: the names of its labels.
        include_restricted: also take works that are not in the public domain.
        images_from: one of `IMAGES_FROM`.
        images_input: `open_access_csv`: a CSV `object_id,image_uri`; `bigquery`: the table of images.
        image_uri_template: `open_access_csv` from the mirror: an address with `{object_id}` in it.
        api_images: one of `API_IMAGES`.
        api_address: where the collection API tells of an object: an address with `{object_id}` in it.
    """

    input: str
    attribute: str = "label"
    split_values: str = ""
    bin: int = 0
    filter: tuple[str, ...] = ()
    labels_file: str = ""
    include_restricted: bool = False
    images_from: str = IMAGES_FROM[0]
    images_input: str = ""
    image_uri_template: str = MET_MIRROR
    api_images: str = API_IMAGES[0]
    api_address: str = MET_API

    def __post_init__(self) -> None:
        if self.bin < 0:
            raise OptionError(f"--bin {self.bin} is negative")
        for text in self.filter:
            name, equals, _ = text.partition("=")
            if not (name.strip() and equals):
                raise OptionError(f"--filter {text!r}: give NAME=VALUE")
        for name, allowed in (("images_from", IMAGES_FROM), ("api_images", API_IMAGES)):
            if getattr(self, name) not in allowed:
                raise OptionError(f"unknown --{name} {getattr(self, name)!r}: choose one of {', '.join(allowed)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a source reads; its rows do not depend on it.

    Attributes:
        fetch: bounds on requests.
        answers: directory in which answers of the collection API are kept; empty for nowhere.
        bigquery_method: `direct_read` or `export`.
        max_bytes_billed: a query that would scan more is not started; 0 for no bound.
        project: the Google Cloud project that pays for queries.
    """

    fetch: FetchLimits = dataclasses.field(default_factory=FetchLimits)
    answers: str = ""
    bigquery_method: str = "direct_read"
    max_bytes_billed: int = 0
    project: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions(RowOptions):
    """What a source reads and how.

    Attributes:
        split: marks all rows as of this split; empty to have it drawn later.
        all_attributes: rows carry every attribute that the source has, instead of those of `CARRIED_ATTRIBUTES`, and
            need not have the one of the labels.
        carry_attributes: rows carry attributes at all. Without it they are only fit to be counted by address: reading
            takes less time, bad rows may be passed over, and good ones may come twice.
        reading: how it goes about it.
    """

    split: str = ""
    all_attributes: bool = False
    carry_attributes: bool = True
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)

    @classmethod
    def of(cls, rows: RowOptions, **changes: Any) -> "SourceOptions":
        """Returns the options of a source that reads `rows`, with some of them changed."""
        given = {field.name: getattr(rows, field.name) for field in dataclasses.fields(RowOptions)}
        return cls(**{**given, **changes})


class Source(Protocol):
    """What every source is, besides a PTransform."""

    def check(self) -> None:
        """Raises OptionError if the source cannot be read as asked."""

    def attribute_names(self) -> list[str]:
        """Returns the attributes that can be labels and filters, in the source's order; raises as `check`."""

    def class_names(self) -> tuple[str, ...]:
        """Returns the labels in the order of their class ids, if the source has such an order; else nothing."""

    def __rrshift__(self, label: str) -> Any:
        """Labels the transform."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeSummary:
    """What an attribute offers as a label.

    Attributes:
        name: the attribute's.
        filled: pictures that have a value.
        distinct: how many values there are.
        frequent: how many values `FREQUENT` pictures or more have.
    """

    name: str
    filled: int
    distinct: int
    frequent: int


@runtime_checkable
class CountingSource(Source, Protocol):
    """A source that can count where its rows lie, so that none travel."""

    def count_values(self) -> dict[str, int]:
        """Returns the distinct pictures of each label."""

    def summarize_attributes(self) -> list[AttributeSummary]:
        """Returns what each attribute offers, in the source's order."""


def make_source(name: str, options: SourceOptions) -> Source:
    """Returns the source of that name, one of `SOURCE_NAMES`."""
    module = importlib.import_module(f"beam_pipelines.sources.{name}")
    source: Source = getattr(module, _CLASSES[name])(options)
    return source
