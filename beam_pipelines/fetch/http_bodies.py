"""The bodies of web answers: whether their pictures may be used, and their bytes, within bounds."""

import contextlib
import http.client

from beam_pipelines.artwork import clean_text
from beam_pipelines.fetch.byte_streams import at_most, inflate, too_large
from beam_pipelines.fetch.web_session import Answer
from beam_pipelines.rejects import Reason, RejectedError

# Of an answer that is no picture, this much is read so that the connection can be used again.
_MAX_DISCARDED_BYTES = 64 * 1024
_MAX_DISCARD_SECONDS = 1.0

# https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag; `noai` and `noimageai`: DeviantArt's.
_OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
_ROBOTS_RULES_WITH_VALUE = frozenset({"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"})


def respect_opt_out(answer: Answer, *, agent_name: str) -> None:
    """Raises OPTED_OUT if an `X-Robots-Tag` for everybody, or for `agent_name`, keeps the picture from machines.

    A header is a list of rules; `somebot: noindex` addresses, from there on, only that bot.
    """
    for header in answer.headers.get_all("X-Robots-Tag", ()):
        agent = "*"
        for part in header.lower().split(","):
            name, colon, rule = (text.strip() for text in part.partition(":"))
            if colon and name not in _ROBOTS_RULES_WITH_VALUE:
                agent = name
            elif not colon:
                rule = name
            if rule in _OPT_OUTS and agent in ("*", agent_name):
                raise RejectedError(Reason.OPTED_OUT, f"X-Robots-Tag {rule}")


def read_body(answer: Answer, *, max_bytes: int) -> bytes:
    """Reads and decodes a body to its end.

    Raises:
        RejectedError: TOO_LARGE, INCOMPLETE_BODY or HTTP_ERROR (an encoding nobody asked for).
        OSError, http.client.HTTPException: the connection failed.
    """
    if (answer.length or 0) > max_bytes:
        raise too_large(max_bytes)
    pieces = at_most(answer.pieces(), max_bytes)
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return b"".join(pieces)
    if encoding in ("gzip", "x-gzip", "deflate"):
        return inflate(pieces, max_bytes=max_bytes)
    raise RejectedError(Reason.HTTP_ERROR, f"content encoding {clean_text(encoding, max_characters=40)}")


def discard_body(answer: Answer) -> None:
    """Reads the rest of a short answer, for a moment, so that its connection can be used again."""
    if not answer.keeps_connection:
        return
    answer.hurry(_MAX_DISCARD_SECONDS)
    with contextlib.suppress(OSError, http.client.HTTPException, RejectedError):
        for _ in at_most(answer.pieces(), _MAX_DISCARDED_BYTES):
            pass
