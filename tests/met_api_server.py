"""A stand-in of the Met's collection API on loopback, which blocks and fails as it is told."""

import dataclasses
import http.server
import json
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

_PATH = "/public/collection/v1/objects/"
_PAGE = b"<html><head><title>Pardon Our Interruption</title></head><body>Are you a robot?</body></html>"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent: a status, a body, and what the header says that it is."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


BLOCK = Reply(status=403, body=_PAGE, content_type="text/html")
PAGE = Reply(body=_PAGE, content_type="text/html")


def met_object(object_id: int, **changes: Any) -> dict[str, Any]:
    """Returns what the API tells of an object in the public domain with three pictures."""
    images = "https://images.metmuseum.example/CRDImages"
    return {
        "objectID": object_id,
        "isHighlight": False,
        "accessionNumber": "JP1847",
        "accessionYear": "1929",
        "isPublicDomain": True,
        "primaryImage": f"{images}/as/original/DP {object_id}.jpg",
        "primaryImageSmall": f"{images}/as/web-large/DP {object_id}.jpg",
        "additionalImages": [f"{images}/as/original/{object_id}b.jpg", f"{images}/as/original/{object_id}c.jpg"],
        "constituents": [{"constituentID": 14064, "role": "Artist", "name": "Katsushika Hokusai"}],
        "department": "Asian Art",
        "objectName": "Print",
        "title": "Under the Wave off Kanagawa",
        "culture": "Japan",
        "period": "Edo period (1615–1868)",
        "artistDisplayName": "Katsushika Hokusai",
        "artistWikidata_URL": "https://www.wikidata.org/wiki/Q5586",
        "objectDate": "ca. 1830–32",
        "objectBeginDate": 1825,
        "objectEndDate": 1835,
        "medium": "Woodblock print; ink and color on paper",
        "creditLine": "H. O. Havemeyer Collection",
        "rightsAndReproduction": "",
        "tags": [{"term": "Waves", "AAT_URL": "u://1"}, {"term": "Boats", "AAT_URL": "u://2"}],
        "objectURL": f"https://www.metmuseum.org/art/collection/search/{object_id}",
        "GalleryNumber": "",
        **changes,
    }


class MetApiServer:
    """Serves objects, on threads that end with it.

    Args:
        objects: what it tells of each, by id; of others it says that there are none.

    Attributes:
        instead: what it answers in place of an object, by id.
        first: what the next requests are answered, in order, whatever they ask for.
        asked: the ids that were asked for, in order.
        accepted: every `Accept` header that came.
        answers_left: requests that are answered before those that come are left waiting; None for all.
    """

    def __init__(self, objects: Mapping[int, Any] | None = None) -> None:
        self.objects = dict(objects or {})
        self.instead: dict[int, Reply] = {}
        self.first: list[Reply] = []
        self.asked: list[str] = []
        self.accepted: set[str] = set()
        self.answers_left: int | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "MetApiServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """What `--api_address` is given."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{_PATH}{{object_id}}"

    def take_asked(self) -> list[str]:
        """Returns the ids that were asked for since the last time, sorted."""
        with self._lock:
            asked, self.asked = sorted(self.asked), []
        return asked

    def reply(self, path: str, accept: str) -> Reply:
        """Returns the answer to a request, in its turn; waits for the end if none is left."""
        object_id = path.removeprefix(_PATH)
        with self._lock:
            self.asked.append(object_id)
            self.accepted.add(accept)
            is_left = self.answers_left is None or self.answers_left > 0
            if self.answers_left:
                self.answers_left -= 1
            if is_left and self.first:
                return self.first.pop(0)
        if not is_left:
            self._closing.wait()
        number = int(object_id)
        if number in self.instead:
            return self.instead[number]
        if number in self.objects:
            return Reply(body=json.dumps(self.objects[number]).encode())
        return Reply(status=404, body=b'{"message":"ObjectID not found"}')


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    api: MetApiServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go in one packet; in two, each answer would wait for the acknowledgement of the first.
    wbufsize = 1 << 16
    server: _Server

    def do_GET(self) -> None:
        reply = self.server.api.reply(self.path, self.headers.get("Accept", ""))
        self.send_response(reply.status)
        for name, value in (("Content-Type", reply.content_type), *reply.headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
