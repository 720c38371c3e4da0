"""What the Met's collection API tells of an object: whether it is an answer at all, its attributes, its pictures.

https://metmuseum.github.io/. Nothing in an answer is taken on trust: any field may be missing or of another type.
"""

import json
from collections.abc import Mapping
from typing import Any

from beam_pipelines.artwork import clean_text
from beam_pipelines.rejects import Reason, RejectedError
from beam_pipelines.sources.csv_rows import snake_case

# Those of one value, and the tags, in the order of the documentation.
_FIELDS = (
    *("objectID", "isHighlight", "accessionNumber", "accessionYear", "isPublicDomain", "department", "objectName"),
    *("title", "culture", "period", "dynasty", "reign", "portfolio", "artistRole", "artistPrefix"),
    *("artistDisplayName", "artistDisplayBio", "artistSuffix", "artistAlphaSort", "artistNationality"),
    *("artistBeginDate", "artistEndDate", "artistGender", "artistWikidata_URL", "artistULAN_URL", "objectDate"),
    *("objectBeginDate", "objectEndDate", "medium", "dimensions", "creditLine", "geographyType", "city", "state"),
    *("county", "country", "region", "subregion", "locale", "locus", "excavation", "river", "classification"),
    *("rightsAndReproduction", "linkResource", "metadataDate", "repository", "objectURL", "tags"),
    *("objectWikidata_URL", "isTimelineWork", "GalleryNumber"),
)
_FIELD_OF = {snake_case(field): field for field in _FIELDS}
_TAGS = "tags"
_TAG_SEPARATOR = "|"
_JSON_STARTS = (b"{", b"[")
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_MAX_ADDRESS_CHARACTERS = 2000

ATTRIBUTE_NAMES = tuple(_FIELD_OF)
# What rows carry on, and what it is called in the catalogue and the API.
CARRIED_COLUMNS = {
    "title": "title",
    "artist": "artist_display_name",
    "date": "object_date",
    "credit_line": "credit_line",
    "rights": "rights_and_reproduction",
    "department": "department",
}
# What is kept of an object that the API does not have; the API's own words.
NO_OBJECT = b'{"message":"ObjectID not found"}'

MetObject = Mapping[str, Any]


class BlockedError(Exception):
    """The answer is no word of the API but a page in its place, as those get who asked too often."""


def read_answer(body: bytes, object_id: str) -> MetObject | None:
    """Returns what the API tells of an object, by its own names; None if it says that there is no such object.

    Raises:
        BlockedError: the answer is not JSON, nor meant to be.
        RejectedError: API_FAILED, the answer cannot be made sense of.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        if not body.lstrip(_BEFORE_JSON).startswith(_JSON_STARTS):
            raise BlockedError from None
        raise RejectedError(Reason.API_FAILED, "the answer is broken JSON") from None
    if not isinstance(answer, dict):
        raise RejectedError(Reason.API_FAILED, "the answer is no JSON object")
    found = answer.get("objectID", 0 if "message" in answer else None)
    if type(found) is int and found == 0:
        return None
    if str(found) != object_id:
        raise RejectedError(Reason.API_FAILED, "the answer is not about this object")
    return answer


def attribute_text(found: MetObject, name: str) -> str:
    """Returns the value of an attribute, one of `ATTRIBUTE_NAMES`, as text; tags as `Waves|Boats`; empty for none."""
    value = found.get(_FIELD_OF[name])
    if name == _TAGS:
        tags = value if isinstance(value, list) else []
        terms = [tag.get("term") for tag in tags if isinstance(tag, dict)]
        return _TAG_SEPARATOR.join(term for term in terms if isinstance(term, str))
    return str(value) if isinstance(value, str | bool | int | float) else ""


def attributes_of(found: MetObject, *, every: bool) -> dict[str, str]:
    """Returns the attributes that have a value: all of them if `every`, else those of `CARRIED_COLUMNS`."""
    columns = {name: name for name in ATTRIBUTE_NAMES} if every else CARRIED_COLUMNS
    texts = {name: clean_text(attribute_text(found, column)) for name, column in columns.items()}
    return {name: text for name, text in texts.items() if text}


def picture_addresses(found: MetObject, which: str) -> list[str]:
    """Returns the web addresses of an object's pictures, without repeats; what is no web address is passed over.

    Args:
        found: what the API tells of the object.
        which: one of `API_IMAGES`: `small` is the first picture, reduced to some 600 pixels where there is that;
            `primary` the first one in full; `all` the first and the others, in full.
    """
    primary, small = _web_address(found.get("primaryImage")), _web_address(found.get("primaryImageSmall"))
    if which == "small":
        addresses = [small or primary]
    else:
        more = found.get("additionalImages") if which == "all" else None
        addresses = [primary, *map(_web_address, more if isinstance(more, list) else [])]
    return [address for address in dict.fromkeys(addresses) if address]


def is_public_domain(found: MetObject) -> bool:
    """Tells whether the work is in the public domain."""
    return found.get("isPublicDomain") is True


def _web_address(value: object) -> str:
    if not isinstance(value, str):
        return ""
    address = value.strip()
    is_web = address.lower().startswith(("http://", "https://")) and len(address) <= _MAX_ADDRESS_CHARACTERS
    return address if is_web else ""
