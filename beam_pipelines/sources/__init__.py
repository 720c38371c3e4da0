"""Where metadata comes from: one module a source, each a PTransform that gives `Artwork` rows.

A source is constructed with `SourceOptions` alone. Its `check()` raises `OptionError` for what can be known to be wrong
before any work. Applied to a pipeline it gives two outputs: the rows (`artworks`), and those rows that it leaves out,
with the reason (`dropped`), so that every row read is accounted for.
"""

import dataclasses
import importlib
from typing import Any, Protocol

from beam_pipelines.errors import OptionError

# Where pictures of the Met lie: https://console.cloud.google.com/storage/browser/gcs-public-data--met
MET_MIRROR = "gs://gcs-public-data--met/{object_id}/0.jpg"

_CLASSES = {
    "directory": "ReadDirectory",
    "manifest": "ReadManifest",
    "open_access_csv": "ReadOpenAccessCsv",
}
SOURCE_NAMES = tuple(sorted(_CLASSES))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a source reads and how.

    Attributes:
        input: a path or pattern.
        attribute: whose values become the labels.
        split_values: cuts a value into several, as `|` does in the Met's catalogue; empty to take it as it stands.
        include_restricted: also take works that are not in the public domain.
        images_input: `open_access_csv`: a CSV `object_id,image_uri`; empty to build addresses by the rule below.
        image_uri_template: `open_access_csv`: an address with `{object_id}` in it.
        split: marks all rows as of this split; empty to have it drawn later.
    """

    input: str
    attribute: str = "label"
    split_values: str = ""
    include_restricted: bool = False
    images_input: str = ""
    image_uri_template: str = MET_MIRROR
    split: str = ""


class Source(Protocol):
    """What every source is, besides a PTransform."""

    def check(self) -> None:
        """Raises OptionError if the source cannot be read as asked."""

    def __rrshift__(self, label: str) -> Any:
        """Labels the transform."""


def make_source(name: str, options: SourceOptions) -> Source:
    """Returns the source of that name, one of `SOURCE_NAMES`."""
    module = importlib.import_module(f"beam_pipelines.sources.{name}")
    source: Source = getattr(module, _CLASSES[name])(options)
    return source


def check_label_attribute(options: SourceOptions, allowed: list[str]) -> None:
    """Raises OptionError unless the attribute is one of `allowed`."""
    if options.attribute not in allowed:
        names = ", ".join(allowed)
        raise OptionError(f"unknown attribute {options.attribute!r} in {options.input}: choose one of {names}")
