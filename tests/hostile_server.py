"""The misbehaving museum: a web server on loopback with one address for each way that a fetch can go.

`CASES` says for each what must come of it. What takes a limit to happen supposes the limits named in `Case`. An
address with a query of its own is a visitor of its own: `?n=7` begins anew what goes wrong once and then goes well.

    with HostileServer() as server:
        server.url("/case/good")

or `python -m tests.hostile_server`, which prints its address and serves until it is interrupted.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import gzip
import http.server
import io
import os
import random
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image

from beam_pipelines.rejects import Reason

WRITTEN: Literal["written"] = "written"
Outcome = Reason | Literal["written"]

_HTML = b"<!DOCTYPE html><html><head><title>Pardon</title></head><body>Are you a robot?</body></html>"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"><circle cx="9" cy="9" r="9"/></svg>'
_BOMB_BYTES = 16 * 1024 * 1024
_DRIP_SECONDS = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One way for a fetch to go.

    Attributes:
        path: where it happens, unquoted.
        outcome: `written`, or why not; it supposes `max_bytes` of at most 4 MiB, a `total_timeout` of at most some
            seconds, at least one retry, `max_retry_after` of less than a day, and loopback addresses allowed.
        respond: sends the answer to a visit; the second argument counts the visits to path and query, from 1.
        needs_private_refused: the outcome supposes that 127.0.0.2 is refused, though this server is not.
    """

    path: str
    outcome: Outcome
    respond: "Callable[[Handler, int], None]"
    needs_private_refused: bool = False


class HostileServer:
    """Serves `CASES` and `/picture/<seed>.jpg?width=&height=` on loopback, on threads that end with it.

    Args:
        port: 0 takes a free one.
        certificate: PEM file with a certificate and its key; it serves https then.

    Attributes:
        visits: number of requests by path and query, as they were sent.
        arrivals: when (`time.monotonic()`) each request came, in order.
        user_agents: every user agent that came.
        connections: number of connections made.
    """

    def __init__(self, *, port: int = 0, certificate: Path | None = None) -> None:
        self.visits: collections.Counter[str] = collections.Counter()
        self.arrivals: list[float] = []
        self.user_agents: set[str] = set()
        self.connections = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), Handler, museum=self)
        self._scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            # The handshake is left to the thread of the connection, so that none holds up the others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "HostileServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Port on 127.0.0.1."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/") -> str:
        """Returns the address of `path` on this server, as it is, unquoted."""
        return f"{self._scheme}://127.0.0.1:{self.port}{path}"

    def visits_of(self, name: str, *, query: str | None = None) -> int:
        """Returns how often a case was visited: with this query, or with any."""
        with self._lock:
            visits = [(urlsplit(target), count) for target, count in self.visits.items()]
        return sum(
            count
            for parts, count in visits
            if parts.path.split("/")[1:3] == ["case", name] and query in (None, parts.query)
        )

    def record(self, target: str, user_agent: str) -> int:
        """Notes a request; returns how many there were to the same path and query."""
        with self._lock:
            self.visits[target] += 1
            self.arrivals.append(time.monotonic())
            self.user_agents.add(user_agent)
            return self.visits[target]

    def record_connection(self) -> None:
        """Notes a new connection."""
        with self._lock:
            self.connections += 1

    def close(self) -> None:
        """Stops serving; breaks every connection."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: "type[Handler]", *, museum: HostileServer) -> None:
        self.museum = museum
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        self.museum.record_connection()
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        visit = self.server.museum.record(self.path, self.headers.get("User-Agent", ""))
        parts = urlsplit(self.path)
        folder, _, name = parts.path.lstrip("/").partition("/")
        if folder == "picture":
            self._send_picture(name, parts.query)
        elif folder == "case" and (case := CASES.get(name.split("/")[0])):
            case.respond(self, visit)
        else:
            self.answer(_HTML, status=404, content_type="text/html")

    def answer(
        self, body: bytes, *, status: int = 200, content_type: str = "image/jpeg", headers: tuple[str, ...] = ()
    ) -> None:
        """Sends a whole, proper answer; `headers` are lines such as `X-Robots-Tag: noai`."""
        self.send(self.head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers) + body)

    def head(self, status: int, *headers: str) -> bytes:
        """Returns a status line and headers, ended by an empty line."""
        lines = (f"HTTP/1.1 {status} {self.responses.get(status, ('Odd', ''))[0]}", *headers, "", "")
        return "\r\n".join(lines).encode("latin-1")

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.wfile.write(data)

    def drip(self, data: bytes) -> None:
        """Sends a byte every now and then until all are sent or the server closes."""
        for index in range(len(data)):
            if self.server.museum.closing.wait(_DRIP_SECONDS):
                break
            self.send(data[index : index + 1])
        self.close_connection = True

    def reset(self) -> None:
        """Breaks the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _send_picture(self, name: str, query: str) -> None:
        options = parse_qs(query)
        width, height = (int(options.get(side, ["256"])[0]) for side in ("width", "height"))
        self.answer(jpeg(int(name.removesuffix(".jpg")), width=width, height=height))


def _picture(seed: int, *, width: int, height: int) -> Image.Image:
    """Draws soft blots of colour, the same for the same seed."""
    blots = Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(8 * 8 * 3))
    return blots.resize((width, height), Image.Resampling.BICUBIC)


def _encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@functools.lru_cache(maxsize=4096)
def jpeg(seed: int, *, width: int = 256, height: int = 256) -> bytes:
    """Returns a JPEG of `width` x `height` pixels, the same for the same seed."""
    return _encode(_picture(seed, width=width, height=height), "JPEG", quality=90)


def png(seed: int, *, width: int = 256, height: int = 256) -> bytes:
    """Returns a PNG of `width` x `height` pixels, the same for the same seed."""
    return _encode(_picture(seed, width=width, height=height), "PNG")


def _converted(mode: str, image_format: str, **options: object) -> bytes:
    return _encode(_picture(len(mode), width=120, height=80).convert(mode), image_format, **options)


def _animated(image_format: str) -> bytes:
    frames = [_picture(seed, width=64, height=64) for seed in range(3)]
    return _encode(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)


def _turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encode(_picture(6, width=120, height=80), "JPEG", exif=exif)


def _deep_png() -> bytes:
    pixels = random.Random(16).randbytes(64 * 64 * 2)
    return _encode(Image.frombytes("I;16", (64, 64), pixels), "PNG")


def _transparent_png() -> bytes:
    image = _picture(4, width=100, height=100).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return _encode(image, "PNG")


def _png_bomb() -> bytes:
    """Returns a PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(60_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@functools.cache
def _gzip_bomb() -> bytes:
    return gzip.compress(bytes(_BOMB_BYTES), 1, mtime=0)


def _good(handler: Handler, _visit: int) -> None:
    handler.answer(jpeg(1))


def _sends(
    make: Callable[[], bytes], *, status: int = 200, content_type: str = "image/jpeg", headers: tuple[str, ...] = ()
) -> Callable[[Handler, int], None]:
    made = functools.cache(make)

    def respond(handler: Handler, _visit: int) -> None:
        handler.answer(made(), status=status, content_type=content_type, headers=headers)

    return respond


def _page(status: int, *headers: str) -> Callable[[Handler, int], None]:
    return _sends(lambda: _HTML, status=status, content_type="text/html", headers=headers)


def _then_good(first: Callable[[Handler, int], None]) -> Callable[[Handler, int], None]:
    """Goes wrong on the first visit, well on those after."""

    def respond(handler: Handler, visit: int) -> None:
        (first if visit == 1 else _good)(handler, visit)

    return respond


def _reset_midway(handler: Handler, _visit: int) -> None:
    body = jpeg(1)
    handler.send(handler.head(200, f"Content-Length: {len(body)}") + body[: len(body) // 2])
    handler.reset()


def _reset_at_once(handler: Handler, _visit: int) -> None:
    handler.reset()


def _drip_body(handler: Handler, _visit: int) -> None:
    body = jpeg(1)
    handler.send(handler.head(200, "Content-Type: image/jpeg", f"Content-Length: {len(body)}"))
    handler.drip(body)


def _drip_headers(handler: Handler, _visit: int) -> None:
    handler.drip(handler.head(200, *(f"X-Filler-{n}: {'z' * 40}" for n in range(90))))


def _endless_body(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    handler.send(handler.head(200, "Content-Type: image/jpeg"))
    while not handler.server.museum.closing.is_set():
        handler.send(bytes(64 * 1024))


def _huge_length(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    handler.send(handler.head(200, "Content-Length: 1099511627776") + jpeg(1))


def _length_too_long(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    body = jpeg(1)
    handler.send(handler.head(200, f"Content-Length: {len(body) + 1000}") + body)


def _length_too_short(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    body = jpeg(1)
    handler.send(handler.head(200, f"Content-Length: {len(body) // 2}") + body)


def _chunked(handler: Handler, _visit: int) -> None:
    body = jpeg(1)
    pieces = [body[start : start + 500] for start in range(0, len(body), 500)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    handler.send(handler.head(200, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")


def _broken_chunks(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    handler.send(handler.head(200, "Transfer-Encoding: chunked") + b"5\r\nabcde\r\nno number\r\n")


def _chunks_break_off(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    handler.send(handler.head(200, "Transfer-Encoding: chunked") + b"5000\r\n" + jpeg(1)[:500])


def _not_http(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    handler.send(b"220 museum.example ESMTP ready\r\n")


def _hangs_up_idle(handler: Handler, visit: int) -> None:
    """Answers as if the connection stayed open, and closes it."""
    handler.close_connection = True
    _good(handler, visit)


def _redirect(status: int, location: str) -> Callable[[Handler, int], None]:
    def respond(handler: Handler, _visit: int) -> None:
        port = handler.server.server_address[1]
        handler.answer(b"", status=status, headers=(f"Location: {location.format(port=port)}",))

    return respond


def _redirect_with_endless_body(handler: Handler, _visit: int) -> None:
    handler.close_connection = True
    handler.send(handler.head(302, "Location: ../case/good", "Content-Length: 1099511627776"))
    while not handler.server.museum.closing.is_set():
        handler.send(bytes(64 * 1024))


def _sets_a_cookie(handler: Handler, _visit: int) -> None:
    """Answers well only to those who bring no cookie."""
    if "Cookie" in handler.headers:
        handler.answer(_HTML, status=400, content_type="text/html")
    else:
        handler.answer(jpeg(1), headers=("Set-Cookie: visitor=1; Path=/",))


def _only_at(path: str) -> Callable[[Handler, int], None]:
    """Answers well only if what was asked for, unquoted once, is `path`."""

    def respond(handler: Handler, visit: int) -> None:
        if unquote(urlsplit(handler.path).path) == path and handler.path.isascii():
            _good(handler, visit)
        else:
            handler.answer(_HTML, status=400, content_type="text/html")

    return respond


def _make_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}

    def add(
        name: str,
        outcome: Outcome,
        respond: Callable[[Handler, int], None],
        *,
        rest: str = "",
        needs_private_refused: bool = False,
    ) -> None:
        path = f"/case/{name}{rest}"
        cases[name] = Case(path=path, outcome=outcome, respond=respond, needs_private_refused=needs_private_refused)

    add("good", WRITTEN, _good)
    add("good_png", WRITTEN, _sends(lambda: png(2), content_type="image/png"))
    add("sets_a_cookie", WRITTEN, _sets_a_cookie)

    add("not_found", Reason.NOT_FOUND, _page(404))
    add("gone", Reason.NOT_FOUND, _page(410))
    add("blocked_with_page", Reason.FORBIDDEN, _page(403))
    add("forbidden", Reason.FORBIDDEN, _sends(lambda: b"", status=403))
    add("unauthorized", Reason.FORBIDDEN, _page(401, 'WWW-Authenticate: Basic realm="depot"'))
    add("teapot", Reason.HTTP_ERROR, _page(418))
    add("no_content", Reason.HTTP_ERROR, lambda handler, _: handler.send(handler.head(204)))
    add("partial_content", Reason.HTTP_ERROR, _sends(lambda: jpeg(1)[:100], status=206))
    add("not_modified", Reason.HTTP_ERROR, lambda handler, _: handler.send(handler.head(304)))

    add("rate_limited_then_good", WRITTEN, _then_good(_page(429, "Retry-After: 1")))
    add("rate_limited_for_ever", Reason.RATE_LIMITED, _page(429, "Retry-After: 0"))
    add("rate_limited_for_a_day", Reason.RATE_LIMITED, _page(429, "Retry-After: 86400"))
    add("server_error_then_good", WRITTEN, _then_good(_page(500)))
    add("request_timeout_then_good", WRITTEN, _then_good(_page(408)))
    add("unavailable_for_ever", Reason.SERVER_ERROR, _page(503))
    add("reset_then_good", WRITTEN, _then_good(_reset_midway))
    add("reset_for_ever", Reason.CONNECTION_FAILED, _reset_midway)
    add("reset_at_once", Reason.CONNECTION_FAILED, _reset_at_once)
    add("not_http", Reason.CONNECTION_FAILED, _not_http)
    add("hangs_up_idle", WRITTEN, _hangs_up_idle)

    add("drips_body", Reason.TIMED_OUT, _drip_body)
    add("drips_headers", Reason.TIMED_OUT, _drip_headers)
    add("endless_body", Reason.TOO_LARGE, _endless_body)
    add("huge_length", Reason.TOO_LARGE, _huge_length)
    add("length_too_long", Reason.INCOMPLETE_BODY, _length_too_long)
    add("length_too_short", Reason.CORRUPT_IMAGE, _length_too_short)
    add("chunked", WRITTEN, _chunked)
    add("broken_chunks", Reason.INCOMPLETE_BODY, _broken_chunks)
    add("chunks_break_off", Reason.INCOMPLETE_BODY, _chunks_break_off)
    add("gzip", WRITTEN, _sends(lambda: gzip.compress(jpeg(1), mtime=0), headers=("Content-Encoding: gzip",)))
    add("deflate", WRITTEN, _sends(lambda: zlib.compress(jpeg(1)), headers=("Content-Encoding: deflate",)))
    add("gzip_bomb", Reason.TOO_LARGE, _sends(_gzip_bomb, headers=("Content-Encoding: gzip",)))
    add(
        "gzip_breaks_off",
        Reason.INCOMPLETE_BODY,
        _sends(lambda: gzip.compress(jpeg(1), mtime=0)[:-9], headers=("Content-Encoding: gzip",)),
    )
    add("unknown_encoding", Reason.HTTP_ERROR, _sends(lambda: jpeg(1), headers=("Content-Encoding: br",)))

    add("redirect", WRITTEN, _redirect(302, "../case/good"))
    add("redirect_to_two_places", WRITTEN, _page(302, "Location: ../case/good", "Location: ../case/gone"))
    add("redirect_with_endless_body", WRITTEN, _redirect_with_endless_body)
    add("redirect_loop", Reason.TOO_MANY_REDIRECTS, _redirect(301, "/case/redirect_loop"))
    add("redirect_to_file", Reason.REFUSED_ADDRESS, _redirect(302, "file:///etc/passwd"))
    add("redirect_to_bucket", Reason.REFUSED_ADDRESS, _redirect(307, "gs://bucket/object"))
    add("redirect_nowhere", Reason.HTTP_ERROR, _page(302))
    add(
        "redirect_to_private",
        Reason.REFUSED_ADDRESS,
        _redirect(302, "http://127.0.0.2:{port}/case/good"),
        needs_private_refused=True,
    )

    add("noai", Reason.OPTED_OUT, _sends(lambda: jpeg(1), headers=("X-Robots-Tag: noai",)))
    add(
        "noindex_among_others",
        Reason.OPTED_OUT,
        _sends(lambda: jpeg(1), headers=("X-Robots-Tag: max-snippet: 20", "X-Robots-Tag: nofollow, NoImageIndex")),
    )
    add(
        "noindex_for_us",
        Reason.OPTED_OUT,
        _sends(lambda: jpeg(1), headers=("X-Robots-Tag: museum-image-classifier: noindex",)),
    )
    add(
        "noindex_for_another",
        WRITTEN,
        _sends(lambda: jpeg(1), headers=("X-Robots-Tag: otherbot: noindex, nofollow", "X-Robots-Tag: noarchive")),
    )

    add("space", WRITTEN, _only_at("/case/space/The Harvesters.jpg"), rest="/The Harvesters.jpg")
    add("non_ascii", WRITTEN, _only_at("/case/non_ascii/Vénus 草.jpg"), rest="/Vénus 草.jpg")
    add("quoted", WRITTEN, _only_at("/case/quoted/a b%.jpg"), rest="/a%20b%25.jpg")
    add("wrong_type_and_name", WRITTEN, _sends(lambda: jpeg(1), content_type="text/plain"), rest="/picture.png")

    add("blocked_as_jpeg", Reason.HTML_PAGE, _sends(lambda: _HTML))
    add("html_as_png", Reason.HTML_PAGE, _sends(lambda: b"\n  " + _HTML, content_type="image/png"))
    add("text_as_png", Reason.NOT_AN_IMAGE, _sends(lambda: b"no picture today\n" * 20, content_type="image/png"))
    add("svg", Reason.NOT_AN_IMAGE, _sends(lambda: _SVG, content_type="image/svg+xml"))
    add("empty", Reason.EMPTY, _sends(lambda: b""))
    add("truncated_jpeg", Reason.CORRUPT_IMAGE, _sends(lambda: jpeg(1)[: len(jpeg(1)) * 2 // 3]))
    add("truncated_png", Reason.CORRUPT_IMAGE, _sends(lambda: png(2)[: len(png(2)) * 2 // 3]))
    add("one_pixel", Reason.TOO_SMALL, _sends(lambda: png(3, width=1, height=1), content_type="image/png"))
    add("png_bomb", Reason.TOO_MANY_PIXELS, _sends(_png_bomb, content_type="image/png"))

    add("cmyk_jpeg", WRITTEN, _sends(lambda: _converted("CMYK", "JPEG")))
    add("grey_jpeg", WRITTEN, _sends(lambda: _converted("L", "JPEG")))
    add("turned_jpeg", WRITTEN, _sends(_turned_jpeg))
    add("deep_png", WRITTEN, _sends(_deep_png, content_type="image/png"))
    add("palette_png", WRITTEN, _sends(lambda: _converted("P", "PNG", transparency=0), content_type="image/png"))
    add("transparent_png", WRITTEN, _sends(_transparent_png, content_type="image/png"))
    add("animated_gif", WRITTEN, _sends(lambda: _animated("GIF"), content_type="image/gif"))
    add("webp", WRITTEN, _sends(lambda: _converted("RGB", "WEBP"), content_type="image/webp"))
    add("animated_webp", WRITTEN, _sends(lambda: _animated("WEBP"), content_type="image/webp"))
    add("bmp", WRITTEN, _sends(lambda: _converted("RGB", "BMP"), content_type="image/bmp"))
    return cases


CASES = _make_cases()


def main() -> None:
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(description="Serves the misbehaving museum on loopback.")
    parser.add_argument("--port", type=int, default=0, help="port; 0, the default, takes a free one")
    with HostileServer(port=parser.parse_args().port) as server:
        lines = [server.url(), *(f"{case.outcome:<20} {server.url(case.path)}" for case in CASES.values())]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
