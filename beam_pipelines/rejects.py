"""Why a row is not in the data set: the closed list of reasons, and the record that accounts for one such row."""

import dataclasses
import enum


class Kind(enum.StrEnum):
    """Whether a row was left out by choice, or could not be had."""

    FILTERED = "filtered"
    REJECTED = "rejected"


class Stage(enum.StrEnum):
    """Where in the flow the row ended."""

    SOURCE = "source"
    CHOICE = "choice"
    FETCH = "fetch"
    IMAGE = "image"
    PUBLISH = "publish"


class Reason(enum.StrEnum):
    """Every way for a row to end outside the data set.

    Attributes:
        kind: filtered by choice, or rejected.
        stage: where it happens.
        passing: whether a later try may go better; `--retry_rejected` tries these again.
    """

    kind: Kind
    stage: Stage
    passing: bool

    def __new__(
        cls, value: str, kind: Kind = Kind.REJECTED, stage: Stage = Stage.FETCH, passing: bool = False
    ) -> "Reason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind, member.stage, member.passing = kind, stage, passing
        return member

    NOT_PUBLIC_DOMAIN = "not_public_domain", Kind.FILTERED, Stage.SOURCE
    NO_IMAGE = "no_image", Kind.FILTERED, Stage.SOURCE
    NO_OBJECT = "no_object", Kind.FILTERED, Stage.SOURCE
    NOT_MATCHING = "not_matching", Kind.FILTERED, Stage.SOURCE
    BAD_ROW = "bad_row", Kind.REJECTED, Stage.SOURCE
    NOT_A_NUMBER = "not_a_number", Kind.REJECTED, Stage.SOURCE
    API_FAILED = "api_failed", Kind.REJECTED, Stage.SOURCE
    CORRUPT_RECORD = "corrupt_record", Kind.REJECTED, Stage.SOURCE

    EXCLUDED = "excluded", Kind.FILTERED, Stage.CHOICE
    DUPLICATE_URI = "duplicate_uri", Kind.FILTERED, Stage.CHOICE
    LABEL_NOT_SELECTED = "label_not_selected", Kind.FILTERED, Stage.CHOICE
    OVER_MAX_IMAGES_PER_LABEL = "over_max_images_per_label", Kind.FILTERED, Stage.CHOICE
    OVER_MAX_IMAGES = "over_max_images", Kind.FILTERED, Stage.CHOICE
    NO_LABEL = "no_label", Kind.REJECTED, Stage.CHOICE
    AMBIGUOUS_LABEL = "ambiguous_label", Kind.REJECTED, Stage.CHOICE
    DUPLICATE_KEY = "duplicate_key", Kind.REJECTED, Stage.CHOICE

    BAD_URI = "bad_uri", Kind.REJECTED, Stage.FETCH
    REFUSED_ADDRESS = "refused_address", Kind.REJECTED, Stage.FETCH
    NOT_FOUND = "not_found", Kind.REJECTED, Stage.FETCH
    FORBIDDEN = "forbidden", Kind.REJECTED, Stage.FETCH, True
    HTTP_ERROR = "http_error", Kind.REJECTED, Stage.FETCH
    TOO_MANY_REDIRECTS = "too_many_redirects", Kind.REJECTED, Stage.FETCH
    TOO_LARGE = "too_large", Kind.REJECTED, Stage.FETCH
    OPTED_OUT = "opted_out", Kind.REJECTED, Stage.FETCH
    RATE_LIMITED = "rate_limited", Kind.REJECTED, Stage.FETCH, True
    SERVER_ERROR = "server_error", Kind.REJECTED, Stage.FETCH, True
    TIMED_OUT = "timed_out", Kind.REJECTED, Stage.FETCH, True
    CONNECTION_FAILED = "connection_failed", Kind.REJECTED, Stage.FETCH, True
    INCOMPLETE_BODY = "incomplete_body", Kind.REJECTED, Stage.FETCH, True

    EMPTY = "empty", Kind.REJECTED, Stage.IMAGE
    HTML_PAGE = "html_page", Kind.REJECTED, Stage.IMAGE, True
    NOT_AN_IMAGE = "not_an_image", Kind.REJECTED, Stage.IMAGE
    CORRUPT_IMAGE = "corrupt_image", Kind.REJECTED, Stage.IMAGE
    TOO_SMALL = "too_small", Kind.REJECTED, Stage.IMAGE
    TOO_MANY_PIXELS = "too_many_pixels", Kind.REJECTED, Stage.IMAGE
    EXTREME_SHAPE = "extreme_shape", Kind.REJECTED, Stage.IMAGE

    DUPLICATE_CONTENT = "duplicate_content", Kind.FILTERED, Stage.PUBLISH


class RejectedError(Exception):
    """One picture cannot be used; never more than that picture.

    Args:
        reason: why, from the closed list.
        detail: more, for people; it must come out the same on every try (no clock, port or address of memory).
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> "tuple[type[RejectedError], tuple[Reason, str]]":
        return type(self), (self.reason, self.detail)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped:
    """A row that is not in the data set, and why; one line of `rejected.jsonl` if its reason's kind is rejected."""

    key: str
    uri: str
    reason: Reason
    detail: str = ""
