"""Google Cloud Storage on loopback, for this process and those it starts: an emulator that misbehaves on demand.

with CloudStorageServer() as server:
    server.put("list.csv", b"uri,label")
    server.answer = lambda asked: 403 if asked.operation == "write" else None
    subprocess.run(..., env={**os.environ, **server.environment()})
"""

import contextlib
import dataclasses
import functools
import http.server
import io
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, BinaryIO, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

BUCKET = "a-bucket"

Operation = Literal["list", "stat", "read", "write", "delete", "batch", "other"]
# A status to refuse with, the connection reset when half of the request has come, or no answer at all.
Answer = int | Literal["break off", "hold"] | None

_QUIET_SECONDS = 60.0

_OBJECT = re.compile(r"(?P<kind>/download|/upload)?/storage/v1/b/[^/]+/o(?:/(?P<name>[^/]+))?$")
_NAME_IN_BODY = re.compile(rb'"name": ?("(?:[^"\\]|\\.)*")')
_OPERATIONS: dict[str, Operation] = {"DELETE": "delete", "GET": "stat"}


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request: what it does, and to which object or, for a list, below which prefix."""

    operation: Operation
    name: str


class CloudStorageServer:
    """Serves the bucket `BUCKET`, on threads that end with it.

    Attributes:
        answer: says for each request how to misbehave; None lets the emulator answer.
        asked: the requests that came, in order, those of an upload's later pieces included.
        held: set once a request got no answer.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Answer] = lambda asked: None
        self.asked: list[Asked] = []
        self.held = threading.Event()
        self.closing = threading.Event()
        self.lock = threading.RLock()
        self.at_work = _AtWork()
        self.storage = Storage(use_memory_fs=True)
        buckets.create_bucket(BUCKET, self.storage)
        self._server = _Server(("127.0.0.1", 0), functools.partial(_Handler, self), self.at_work)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """Returns the variables that lead Google's libraries here."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    def put(self, name: str, content: bytes) -> str:
        """Makes an object; returns its address."""
        described = objects._make_object_resource(self.url, BUCKET, name, "image/jpeg", str(len(content)))
        with self.lock:
            self.storage.create_file(BUCKET, name, content, objects._checksums(content, described))
        return f"gs://{BUCKET}/{name}"

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Returns the objects whose names begin with `prefix`, by the rest of their names."""
        with self.lock:
            found, _ = self.storage.get_file_list(BUCKET, prefix, None)
            return {
                item["name"].removeprefix(prefix): self.storage.get_file(BUCKET, item["name"])
                for item in sorted(found, key=lambda item: item["name"])
            }

    def count(self, operation: Operation, prefix: str = "") -> int:
        """Returns how often something was asked of names that begin with `prefix`."""
        return sum(asked.operation == operation and asked.name.startswith(prefix) for asked in list(self.asked))

    def forget_the_dead(self) -> None:
        """Returns when all that killed clients had sent is done, and forgets it; other clients must have ended."""
        # Connections are accepted in order: once this one is answered, all made before it have their threads.
        with socket.create_connection(("127.0.0.1", self._server.server_port)) as last:
            last.sendall(b"GET /last HTTP/1.0\r\n\r\n")
            while last.recv(4096):
                pass
        self.at_work.wait_for_none()
        self.asked.clear()

    def upload_of(self, upload_id: str) -> str:
        """Returns the name of the object that an upload in pieces makes."""
        with self.lock, contextlib.suppress(NotFound):
            return str(self.storage.get_resumable_file_obj(upload_id)["name"])
        return ""

    def __enter__(self) -> "CloudStorageServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class _AtWork:
    """Counts the connections whose threads may still do something."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connections = 0

    def add(self, connections: int) -> None:
        with self._changed:
            self._connections += connections
            self._changed.notify_all()

    def wait_for_none(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self._connections, timeout=_QUIET_SECONDS), "clients are at work"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any, at_work: _AtWork) -> None:
        self._at_work = at_work
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._at_work.add(1)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._at_work.add(-1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients are killed here."""


class _Handler(RequestHandler):
    """Reads a request whole, or half of it, and answers as asked or as the emulator does."""

    rfile: BinaryIO

    def __init__(self, store: CloudStorageServer, *args: Any) -> None:
        self._store = store
        super().__init__(store.storage, *args)

    def do_GET(self) -> None:  # noqa: N802
        self._answer(super().do_GET)

    def do_POST(self) -> None:  # noqa: N802
        self._answer(super().do_POST)

    def do_PUT(self) -> None:  # noqa: N802
        self._answer(super().do_PUT)

    def do_DELETE(self) -> None:  # noqa: N802
        self._answer(super().do_DELETE)

    def _answer(self, emulate: Callable[[], None]) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        half = self.rfile.read(length // 2)
        asked = self._asked(half)
        answer = self._store.answer(asked)
        if answer == "break off":
            self._store.asked.append(asked)
            return self._reset()
        body = half + self.rfile.read(length - len(half))
        if asked.operation == "write" and not asked.name:
            asked = self._asked(body)
            answer = self._store.answer(asked)
        self._store.asked.append(asked)
        if answer == "hold":
            self._store.held.set()
            self._store.at_work.add(-1)
            self._store.closing.wait()
            self._store.at_work.add(1)
            return self._reset()
        if isinstance(answer, int):
            return self._refuse(answer, asked)
        self.rfile = io.BytesIO(body)
        with self._store.lock:
            emulate()
        return None

    def _asked(self, body: bytes) -> Asked:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        if address.path.startswith("/batch/"):
            return Asked("batch", "")
        found = _OBJECT.match(address.path)
        if not found:
            return Asked("other", address.path)
        if "upload_id" in query:
            return Asked("write", self._store.upload_of(query["upload_id"][0]))
        if found["kind"] == "/upload":
            named = _NAME_IN_BODY.search(body)
            return Asked("write", query.get("name", [json.loads(named[1]) if named else ""])[0])
        if found["kind"] == "/download":
            return Asked("read", unquote(found["name"] or ""))
        if not found["name"]:
            return Asked("list", query.get("prefix", [""])[0])
        return Asked(_OPERATIONS.get(self.command, "other"), unquote(found["name"]))

    def _refuse(self, status: int, asked: Asked) -> None:
        message = f"nobody does not have storage.objects.{asked.operation} access to {asked.name}"
        body = json.dumps({"error": {"code": status, "message": message}}, indent=1).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        """Ends the connection so that the client notices at once."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
