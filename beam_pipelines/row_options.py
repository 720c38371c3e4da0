"""The options that say which rows are read and what their labels are, shared by every command that reads metadata.

Imports neither Beam nor TensorFlow, so that a command can say what is wrong with its options at once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from beam_pipelines.command_options import Group, add_shared_filesystem, add_verbose, taken
from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.sources import IMAGES_FROM, MET_API, MET_MIRROR, SOURCE_NAMES, ReadOptions, RowOptions

BIGQUERY_METHODS = ("direct_read", "export")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourcedRows(RowOptions):
    """Rows of a named source, without those that the user excludes.

    Attributes:
        source: one of `SOURCE_NAMES`.
        exclude_file: rows to leave out, one a line: a key, a group or an address.
    """

    source: str
    exclude_file: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in SOURCE_NAMES:
            raise OptionError(f"unknown source {self.source!r}: choose one of {', '.join(SOURCE_NAMES)}")

    def worker_paths(self) -> dict[str, str]:
        """Returns the paths that workers read, by the names of their options."""
        tables = self.source == "bigquery"
        return {
            "input": "" if tables else self.input,
            "images_input": "" if tables else self.images_input,
            "exclude_file": self.exclude_file,
            "labels_file": self.labels_file if self.source == "idx" else "",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How a run reads and fetches; neither rows nor pictures depend on it.

    Attributes:
        fetch: bounds on every request.
        cache_dir: where fetched pictures and answers of the collection API are kept for later runs; empty for nowhere.
        bigquery_method: `direct_read` (the Storage Read API) or `export` (through files in `--temp_location`).
        max_bytes_billed: a query that would scan more is not started; 0 for no bound.
        shared_filesystem: workers on other machines see the same files under the same paths as this one.
        verbose: log more, and show errors whole.
    """

    fetch: FetchLimits = dataclasses.field(default_factory=FetchLimits)
    cache_dir: str = ""
    bigquery_method: str = BIGQUERY_METHODS[0]
    max_bytes_billed: int = 0
    shared_filesystem: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.bigquery_method not in BIGQUERY_METHODS:
            methods = ", ".join(BIGQUERY_METHODS)
            raise OptionError(f"unknown --bigquery_method {self.bigquery_method!r}: choose one of {methods}")
        if self.max_bytes_billed < 0:
            raise OptionError(f"--max_bytes_billed {self.max_bytes_billed} is negative")

    def read_options(self, *, project: str, answers: str) -> ReadOptions:
        """Returns what sources need of it.

        Args:
            project: the Google Cloud project that pays for queries.
            answers: where answers of the collection API are kept.
        """
        return ReadOptions(
            fetch=self.fetch,
            answers=answers,
            bigquery_method=self.bigquery_method,
            max_bytes_billed=self.max_bytes_billed,
            project=project,
        )


def fetch_limits(values: dict[str, Any], *, max_bytes: int) -> FetchLimits:
    """Returns the bounds on every request that parsed values ask for."""
    rates = parse_rates(values["max_requests_per_second"])
    return FetchLimits(**{**taken(values, FetchLimits), "requests_per_second": rates, "max_bytes": max_bytes})


def parse_rates(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Returns requests a second by host from `RATE` (every other host) and `HOST=RATE`, the defaults included."""
    rates = dict(FetchLimits().requests_per_second)
    for text in texts:
        host, _, rate = text.rpartition("=")
        try:
            rates[host] = float(rate)
        except ValueError:
            raise OptionError(f"--max_requests_per_second {text!r}: give a number, or HOST=NUMBER") from None
        if not rates[host] > 0:
            raise OptionError(f"--max_requests_per_second {text!r}: give a number greater than 0")
    return tuple(sorted(rates.items()))


def add_row_arguments(
    group: Group,
    *,
    attribute_default: str = "label",
    attribute_help: str = "whose values become the labels (default: %(default)s)",
) -> None:
    """Adds the options of `SourcedRows`."""
    group.add_argument("--source", required=True, help=f"what kind of metadata to read: {', '.join(SOURCE_NAMES)}")
    group.add_argument(
        "--input",
        required=True,
        help="the list, folder or catalogue, local or gs://, may be a pattern; bigquery: PROJECT.DATASET, or the "
        "objects' PROJECT.DATASET.TABLE",
    )
    group.add_argument("--attribute", default=attribute_default, help=attribute_help)
    group.add_argument(
        "--split_values", default="", metavar="SEPARATOR", help="cut a value into several, as '|' in the Met's"
    )
    group.add_argument(
        "--bin", type=int, default=0, metavar="SIZE", help="whole numbers become ranges: 100 makes centuries of years"
    )
    group.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only rows whose attribute has this value; the same name again: or that value, another name: and that too",
    )
    group.add_argument(
        "--exclude_file", default="", help="rows to leave out, one a line: a key, an object's id or an address"
    )
    group.add_argument(
        "--labels_file", default="", help="the classes, one a line, in the order of their ids; idx: the labels' names"
    )
    group.add_argument(
        "--include_restricted", action="store_true", help="the Met's: also works not in the public domain"
    )
    group.add_argument(
        "--images_from",
        default=IMAGES_FROM[0],
        help="the Met's: where pictures come from: the public mirror, the museum's own host (bigquery), or the "
        f"addresses that its collection API gives: {', '.join(IMAGES_FROM)} (default: %(default)s)",
    )
    group.add_argument(
        "--images_input",
        default="",
        help="open_access_csv: a CSV with columns object_id,image_uri; bigquery: the images' PROJECT.DATASET.TABLE",
    )
    group.add_argument(
        "--image_uri_template",
        default=MET_MIRROR,
        help="open_access_csv from the mirror: addresses by rule (default: %(default)s)",
    )
    group.add_argument(
        "--api_images", default="small", help="from the API: small, primary or all pictures (default: %(default)s)"
    )
    group.add_argument("--api_address", default=MET_API, help="the collection API (default: %(default)s)")


def add_reading_arguments(group: Group) -> None:
    """Adds the options of `Reading`, and those of `FetchLimits`."""
    group.add_argument("--cache_dir", default="", help="keep what is fetched here, for later runs; local or gs://")
    add_fetch_arguments(group)
    group.add_argument(
        "--bigquery_method",
        default=BIGQUERY_METHODS[0],
        help=f"how rows leave BigQuery: {' or '.join(BIGQUERY_METHODS)} (default: %(default)s)",
    )
    group.add_argument(
        "--max_bytes_billed", type=int, default=0, help="do not start a query that scans more (default: no bound)"
    )
    add_shared_filesystem(group)
    add_verbose(group)


def add_fetch_arguments(group: Group) -> None:
    """Adds the options of `FetchLimits`, which `fetch_limits` takes."""
    limits = FetchLimits()
    group.add_argument(
        "--max_requests_per_second",
        action="append",
        default=[],
        metavar="[HOST=]RATE",
        help="of the whole job, to one host, or to every host not named; may be repeated (default: "
        f"{', '.join(f'{host}={rate:g}' for host, rate in limits.requests_per_second)}, others unlimited)",
    )
    group.add_argument(
        "--allow_private_addresses", action="store_true", help="also fetch from loopback and private networks"
    )
    group.add_argument("--contact", default="", help="address or page that museums see in the user agent")
    for name, what in (
        ("connect_timeout", "seconds to connect"),
        ("read_timeout", "seconds without a byte"),
        ("total_timeout", "seconds for one try"),
        ("max_retries", "tries after the first, for failures that may pass"),
        ("backoff", "seconds before the first retry; doubles"),
        ("max_redirects", "redirects to follow"),
    ):
        value = getattr(limits, name)
        group.add_argument(f"--{name}", type=type(value), default=value, help=f"{what} (default: %(default)s)")
