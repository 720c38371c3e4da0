"""What makes a row of a source: its label, cut or binned as asked, and whether it passes the filters."""

import difflib
import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from beam_pipelines.artwork import MAX_LABEL_CHARACTERS, Artwork, clean_labels, clean_text
from beam_pipelines.errors import OptionError
from beam_pipelines.rejects import Dropped, Reason
from beam_pipelines.rows import DroppedRow, drop
from beam_pipelines.sources import SourceOptions

Cell = Callable[[str], str]
# `int` takes more: `1_000`, `+5`, digits of every alphabet.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def check_attributes(options: SourceOptions, allowed: Collection[str]) -> None:
    """Raises OptionError unless the label's attribute, if one is asked for, and those of the filters are `allowed`."""
    asked = ([options.attribute] if options.attribute and not options.all_attributes else []) + [
        name for name, _ in parse_filters(options.filter)
    ]
    for name in asked:
        if name not in allowed:
            meant = "".join(f"did you mean {close!r}? " for close in difflib.get_close_matches(name, allowed, n=1))
            names = ", ".join(allowed)
            raise OptionError(f"unknown attribute {name!r} in {options.input}: {meant}choose one of {names}")


@functools.lru_cache
def parse_filters(texts: tuple[str, ...]) -> tuple[tuple[str, frozenset[str]], ...]:
    """Returns names and, of each, the values of which a row has to have one, in lower case."""
    filters: dict[str, set[str]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        filters.setdefault(name.strip(), set()).add(_comparable(value))
    return tuple((name, frozenset(values)) for name, values in filters.items())


def make_row(
    *,
    key: str,
    group: str,
    image_uri: str,
    values: Sequence[str],
    cell: Cell,
    attributes: Mapping[str, str],
    options: SourceOptions,
    split: str = "",
) -> Artwork | DroppedRow:
    """Returns the row, or why it is left out.

    Args:
        key: the row's.
        group: the row's.
        image_uri: the row's.
        values: of the label's attribute.
        cell: gives the row's text for the name of an attribute.
        attributes: what the row carries on.
        options: which rows are taken, and what is done with the values.
        split: the row's, where the source says; else that of the options.
    """
    for name, wanted in parse_filters(options.filter):
        if wanted.isdisjoint(_parts(cell(name), options.split_values)):
            return drop(Dropped(key=key, uri=image_uri, reason=Reason.NOT_MATCHING, detail=name))
    labels = clean_labels(list(values), separator=options.split_values)
    if options.bin:
        try:
            labels = tuple(sorted({bin_label(label, options.bin) for label in labels}))
        except ValueError as error:
            detail = clean_text(f"{options.attribute} {error}")
            return drop(Dropped(key=key, uri=image_uri, reason=Reason.NOT_A_NUMBER, detail=detail))
    return Artwork(
        key=key,
        group=group,
        image_uri=image_uri,
        labels=labels,
        attributes=attributes,
        split=options.split or split,
    )


def bin_label(value: str, size: int) -> str:
    """Returns the range that a whole number lies in: `1894` in bins of 100 is `1800 to 1899`.

    Raises:
        ValueError: the value is no whole number.
    """
    if not _WHOLE_NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is no whole number")
    low = int(value) // size * size
    return f"{low} to {low + size - 1}" if size > 1 else str(low)


def _parts(value: str, separator: str) -> set[str]:
    """Returns the values in `value`, in lower case; the empty one if there is no other."""
    parts = {_comparable(part) for part in (value.split(separator) if separator else [value])}
    return parts - {""} or {""}


def _comparable(value: str) -> str:
    return clean_text(value, max_characters=MAX_LABEL_CHARACTERS).casefold()
