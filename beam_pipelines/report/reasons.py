"""Why rows are not in the data set: each reason in words, how often it came, and a few rows of it."""

import dataclasses
from collections.abc import Mapping, Sequence

from beam_pipelines.charts import Part, stacked
from beam_pipelines.rejects import Dropped, Kind, Reason
from beam_pipelines.report.texts import Address, address, clipped

# What each reason means to people; names of options stand between backquotes.
EXPLANATIONS: Mapping[Reason, str] = {
    Reason.NOT_PUBLIC_DOMAIN: "The catalogue does not say that the work is in the public domain.",
    Reason.NO_IMAGE: "The object is in the catalogue, but no picture of it is listed.",
    Reason.NO_OBJECT: "The picture is listed, but its object is not among the rows taken.",
    Reason.NOT_MATCHING: "An attribute does not have a value that `--filter` asks for.",
    Reason.BAD_ROW: "The row could not be read: its address, its object id or some of its columns are missing.",
    Reason.NOT_A_NUMBER: "The label is not a whole number, so that `--bin` has no range for it.",
    Reason.API_FAILED: "The collection API gave no usable answer about the object.",
    Reason.EXCLUDED: "`--exclude_file` names it.",
    Reason.DUPLICATE_URI: "Another row has the same address; the two became one picture.",
    Reason.LABEL_NOT_SELECTED: "None of its labels is a class: they have too few pictures, or were not asked for.",
    Reason.OVER_MAX_IMAGES_PER_LABEL: "Its class has as many pictures as `--max_images_per_label` allows.",
    Reason.OVER_MAX_IMAGES: "There are as many pictures as `--max_images` allows.",
    Reason.NO_LABEL: "The row has no value for the attribute that labels are taken from.",
    Reason.AMBIGUOUS_LABEL: "Its rows give one picture several labels, which takes `--multi_label`.",
    Reason.DUPLICATE_KEY: "Another picture goes by the same key.",
    Reason.BAD_URI: "The address is none that a picture could be fetched from.",
    Reason.REFUSED_ADDRESS: "The address leads to this machine or to a private network, where nothing is fetched.",
    Reason.NOT_FOUND: "There is nothing at the address (any more).",
    Reason.FORBIDDEN: "The host or the file system does not let the picture be read.",
    Reason.HTTP_ERROR: "The host answered with an error, or in a form that cannot be used.",
    Reason.TOO_MANY_REDIRECTS: "The address leads on to another one more often than `--max_redirects` allows.",
    Reason.TOO_LARGE: "The file is larger than `--max_image_bytes`.",
    Reason.OPTED_OUT: "Its host asks machines, by `X-Robots-Tag`, to leave the picture alone.",
    Reason.RATE_LIMITED: "The host asked for fewer requests until no tries were left.",
    Reason.SERVER_ERROR: "The host failed on every try.",
    Reason.TIMED_OUT: "The host took too long on every try.",
    Reason.CONNECTION_FAILED: "The host could not be reached, or the connection broke.",
    Reason.INCOMPLETE_BODY: "The file broke off before its end, or came damaged.",
    Reason.EMPTY: "The file has no bytes.",
    Reason.HTML_PAGE: "A web page came instead of a picture, as hosts send when they block for a while.",
    Reason.NOT_AN_IMAGE: "The file is not a JPEG, PNG, GIF, BMP or WebP.",
    Reason.CORRUPT_IMAGE: "The file begins like a picture, but is damaged.",
    Reason.TOO_SMALL: "A side of the picture has fewer pixels than `--min_image_side`.",
    Reason.TOO_MANY_PIXELS: "The picture has more pixels than `--max_image_pixels`.",
    Reason.EXTREME_SHAPE: "The picture is so long and thin that a JPEG cannot hold it at `--image_size`.",
    Reason.CORRUPT_RECORD: "The shard is damaged where this picture lay in it.",
    Reason.DUPLICATE_CONTENT: "The very same file is on the other side of the split, where it stays.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A row that was left out."""

    key: str
    address: Address
    detail: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasonRow:
    """A reason and the rows that ended with it.

    Attributes:
        part: the bar of its rows, against those of all reasons of its kind.
    """

    reason: Reason
    count: int
    explanation: str
    part: Part
    examples: list[Example]


def reason_rows(counts: Mapping[str, int], kind: Kind, examples: Mapping[str, Sequence[Dropped]]) -> list[ReasonRow]:
    """Returns the reasons of a kind, the commonest first."""
    whole = sum(counts.values())
    return [
        ReasonRow(
            reason=Reason(name),
            count=count,
            explanation=EXPLANATIONS[Reason(name)],
            part=stacked({name: count}, whole=whole)[0],
            examples=[_example(dropped) for dropped in examples.get(name, ())],
        )
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _example(dropped: Dropped) -> Example:
    return Example(key=clipped(dropped.key), address=address(dropped.uri), detail=clipped(dropped.detail))
