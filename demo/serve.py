"""The museum's server, on loopback, as well and as badly behaved as real ones.

The first part of a path says how it behaves, the second names a picture: `/slow/100001-0.jpg`.
"""

import contextlib
import http
import http.server
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SLOW_SECONDS = 1.0
BLOCK_PAGE = b"<!DOCTYPE html><html><head><title>Request unsuccessful</title></head><body>Blocked.</body></html>"
BEHAVIOURS = ("pictures", "missing", "broken", "blocked", "slow", "flaky")


class MuseumServer(http.server.ThreadingHTTPServer):
    """Serves the files of one directory.

    Args:
        pictures: the directory.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, pictures: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path for path in pictures.iterdir()}
        self._asked_before: set[str] = set()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Keeps the screen for the commands when a client leaves early; other errors are shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def is_first_request(self, path: str) -> bool:
        """Says whether nobody has asked for `path` yet, and remembers that somebody has."""
        with self._lock:
            first = path not in self._asked_before
            self._asked_before.add(path)
            return first


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer on a kept connection waits 40 ms for an acknowledgement
    server: MuseumServer

    def do_GET(self) -> None:
        _, behaviour, name, *_ = [*self.path.split("/"), "", ""]
        file = self.server.files.get(name)
        if file is None or behaviour not in BEHAVIOURS or behaviour == "missing":
            self._answer(http.HTTPStatus.NOT_FOUND, b"no such picture", "text/plain")
        elif behaviour == "flaky" and self.server.is_first_request(self.path):
            self._answer(http.HTTPStatus.INTERNAL_SERVER_ERROR, b"try again", "text/plain")
        else:
            self._answer(http.HTTPStatus.OK, _body(behaviour, file), _content_type(name))

    def _answer(self, status: http.HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Keeps the screen for the commands."""


def _body(behaviour: str, file: Path) -> bytes:
    data = file.read_bytes()
    if behaviour == "broken":
        return data[: len(data) // 2]
    if behaviour == "blocked":
        return BLOCK_PAGE
    if behaviour == "slow":
        time.sleep(SLOW_SECONDS)
    return data


def _content_type(name: str) -> str:
    return "image/png" if name.endswith(".png") else "image/jpeg"


@contextlib.contextmanager
def serve(pictures: Path) -> Iterator[str]:
    """Serves the pictures in a directory until the block ends; gives the address, `http://127.0.0.1:port`."""
    with MuseumServer(pictures) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()
