"""The one record that flows through every pipeline: a picture of an artwork, before any byte of it is fetched."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping

# What examples and reports carry of a work besides its label; a source gives those that it has.
CARRIED_ATTRIBUTES = ("title", "artist", "date", "credit_line", "rights", "department")
MAX_ATTRIBUTE_CHARACTERS = 200
MAX_LABEL_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artwork:
    """One picture to be: where it is, what it shows and which pictures it belongs with.

    Attributes:
        key: unique and stable name of the picture: `<object_id>/<n>` for the Met, the address for a manifest,
            `LABEL/file` for a directory.
        group: pictures of one group never stand on both sides of a split: the object id, else the key.
        image_uri: `http://`, `https://`, `gs://` or a path.
        labels: the classes it is said to show; none where nobody said.
        attributes: those of `CARRIED_ATTRIBUTES` that the source has.
        split: `train` or `validation` where the source says which, else empty: it is drawn by hash of the group.
    """

    key: str
    group: str
    image_uri: str
    labels: tuple[str, ...] = ()
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    split: str = ""


def stable_hash(text: str, *, salt: str = "") -> int:
    """Returns a hash of `text`, from 0 to 2**63 - 1, the same in every process, on every machine, in every version."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=salt.encode()[:16]).digest()
    return int.from_bytes(digest, "big") >> 1


def clean_text(value: str, *, max_characters: int = MAX_ATTRIBUTE_CHARACTERS) -> str:
    """Returns `value` on one line, without padding or control characters, at most `max_characters` long."""
    if not (value.isascii() and value.isprintable()):
        value = "".join(character if character.isprintable() else " " for character in value)
    text = " ".join(value.split())
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def clean_labels(values: list[str], *, separator: str = "") -> tuple[str, ...]:
    """Returns the distinct labels in `values`, sorted; each value is cut at `separator` if one is given."""
    if len(values) == 1 and len(values[0]) <= MAX_LABEL_CHARACTERS:
        return _labels_in(values[0], separator)
    return tuple(sorted({label for value in values for label in _labels_in.__wrapped__(value, separator)}))


@functools.lru_cache(maxsize=1 << 14)  # rows have the same few values again and again
def _labels_in(value: str, separator: str) -> tuple[str, ...]:
    parts = value.split(separator) if separator else [value]
    return tuple(sorted({clean_text(part, max_characters=MAX_LABEL_CHARACTERS) for part in parts} - {""}))
