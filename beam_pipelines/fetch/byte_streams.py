"""Bounds on streams of bytes: how many come in, and how many come out of them when they are decompressed."""

import zlib
from collections.abc import Iterator

from beam_pipelines.fetch.failures import PassingError
from beam_pipelines.rejects import Reason, RejectedError


def at_most(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    """Gives the chunks as they are; raises TOO_LARGE once they are more than `max_bytes` together."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        yield chunk


def too_large(max_bytes: int) -> RejectedError:
    """Returns the error for a picture of more than `max_bytes`."""
    return RejectedError(Reason.TOO_LARGE, f"more than {max_bytes} bytes")


def inflate(chunks: Iterator[bytes], *, max_bytes: int) -> bytes:
    """Decompresses gzip (of any number of members), zlib or bare deflate, never beyond `max_bytes` + 1 bytes."""
    output = bytearray()
    decoder = None
    for chunk in chunks:
        while chunk:
            if decoder is None or decoder.eof:
                decoder = zlib.decompressobj(_window_bits(chunk))
            try:
                output += decoder.decompress(chunk, max_bytes + 1 - len(output))
            except zlib.error as error:
                raise PassingError(Reason.INCOMPLETE_BODY, "compressed data is broken") from error
            if len(output) > max_bytes:
                raise too_large(max_bytes)
            chunk = decoder.unused_data if decoder.eof else b""
    if decoder is not None and not decoder.eof:
        raise PassingError(Reason.INCOMPLETE_BODY, "compressed data broke off")
    return bytes(output)


def _window_bits(start: bytes) -> int:
    """Returns zlib's `wbits` for data that starts so: gzip, zlib, or deflate without a header."""
    if start[0] == 0x1F:
        return zlib.MAX_WBITS | 16
    return zlib.MAX_WBITS if start[0] & 0x0F == 8 else -zlib.MAX_WBITS
