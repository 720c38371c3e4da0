"""Tables with the columns of `bigquery-public-data.the_met`, in their order."""

from collections.abc import Mapping
from typing import Any

_TYPES = {
    "is_highlight": "BOOL",
    "is_public_domain": "BOOL",
    "object_id": "INT64",
    "object_begin_date": "INT64",
    "object_end_date": "INT64",
    "metadata_date": "TIMESTAMP",
    "is_oasc": "BOOL",
}
_OBJECTS = """object_number is_highlight is_public_domain object_id department object_name title culture period dynasty
reign portfolio artist_role artist_prefix artist_display_name artist_display_bio artist_suffix artist_alpha_sort
artist_nationality artist_begin_date artist_end_date object_date object_begin_date object_end_date medium dimensions
credit_line geography_type city state county country region subregion locale locus excavation river classification
rights_and_reproduction link_resource metadata_date repository"""
_IMAGES = "object_id public_caption title original_image_url caption is_oasc gcs_url"

OBJECTS: Mapping[str, str] = {name: _TYPES.get(name, "STRING") for name in _OBJECTS.split()}
IMAGES: Mapping[str, str] = {name: _TYPES.get(name, "STRING") for name in _IMAGES.split()}


def object_row(object_id: int, **values: Any) -> dict[str, Any]:
    """Returns a work in the public domain; columns not given are NULL."""
    return {"object_id": object_id, "is_public_domain": True, "is_highlight": False, **values}


def image_row(object_id: int, number: int, *, url: str | None = None) -> dict[str, Any]:
    """Returns a picture at the mirror's address of that number, and at the museum's `url`."""
    return {
        "object_id": object_id,
        "is_oasc": False,
        "gcs_url": f"gs://gcs-public-data--met/{object_id}/{number}.jpg",
        "original_image_url": url or f"http://images.example/{object_id}/a view {number}.jpg",
    }
