"""Texts from outside as the pages show them: cut where they are long, and linked where they are addresses."""

import dataclasses
import re

_MAX_SHOWN_CHARACTERS = 300
_MAX_LINK_CHARACTERS = 2_000
_WEB_ADDRESS = re.compile(r"https?://[^\s/?#\\]", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where a picture is: what is shown of it, and where a link leads if it is an address of the web."""

    text: str
    link: str


def address(uri: str) -> Address:
    """Returns how the page shows an address: a link if it is one of the web and can be read as it stands."""
    is_link = bool(_WEB_ADDRESS.match(uri)) and uri.isprintable() and len(uri) <= _MAX_LINK_CHARACTERS
    return Address(text=clipped(uri), link=uri if is_link else "")


def clipped(text: str, most: int = _MAX_SHOWN_CHARACTERS) -> str:
    """Returns a text of at most so many characters, which ends in an ellipsis where it was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
