import contextlib
import gzip
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from gcp_storage_emulator.server import create_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_pipelines.errors import OptionError
from beam_pipelines.fetch import addresses, cloud_storage, transport
from beam_pipelines.fetch.byte_streams import inflate
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.rejects import Reason, RejectedError, Stage
from tests.beam_pipelines.builders import FakeTime
from tests.hostile_server import CASES, HostileServer, jpeg

MAX_BYTES = 1024 * 1024


def limits(**changes: Any) -> FetchLimits:
    chosen: dict[str, Any] = {
        "connect_timeout": 10.0,
        "read_timeout": 10.0,
        "total_timeout": 20.0,
        "max_bytes": MAX_BYTES,
        "max_retries": 1,
        "backoff": 0.001,
        "allow_private_addresses": True,
        "requests_per_second": (),
    }
    return FetchLimits(**(chosen | changes))


def impatient(**changes: Any) -> Fetcher:
    """Returns a fetcher that never really waits for its turn or between tries."""
    fake = FakeTime()
    return Fetcher(limits(**changes), clock=fake.clock, sleep=fake.sleep)


def rejection(fetcher: Fetcher, uri: str) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        fetcher.fetch(uri)
    assert caught.value.reason.stage is Stage.FETCH
    return caught.value


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with HostileServer() as running:
        yield running


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with impatient() as open_fetcher:
        yield open_fetcher


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.needs_private_refused])
def test_every_case_of_the_misbehaving_museum_has_its_outcome(name: str, server: HostileServer) -> None:
    case = CASES[name]
    with impatient(total_timeout=0.3 if case.outcome is Reason.TIMED_OUT else 20.0) as fetcher:
        if isinstance(case.outcome, Reason) and case.outcome.stage is Stage.FETCH:
            assert rejection(fetcher, server.url(case.path)).reason is case.outcome
        else:
            body = fetcher.fetch(server.url(case.path))
            assert fetcher.bytes == len(body)


@pytest.mark.parametrize("name", ["drips_body", "drips_headers"])
def test_a_server_that_drips_is_left_when_the_time_is_over(name: str, server: HostileServer) -> None:
    with impatient(total_timeout=0.2, max_retries=0) as fetcher:
        started = time.monotonic()
        assert rejection(fetcher, server.url(CASES[name].path)).reason is Reason.TIMED_OUT
        assert time.monotonic() - started >= 0.2


def test_redirects_share_the_time_of_a_try(
    server: HostileServer, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float] = []
    ask = fetcher._session.ask

    def observed(address: addresses.HttpAddress, *, timeout: float) -> requests.Response:
        timeouts.append(timeout)
        return ask(address, timeout=timeout)

    monkeypatch.setattr(fetcher._session, "ask", observed)
    rejection(fetcher, server.url("/case/redirect_loop"))
    assert timeouts == sorted(set(timeouts), reverse=True)


@pytest.mark.parametrize("name", ["good", "chunked", "gzip", "deflate", "redirect", "reset_then_good", "space"])
def test_the_bytes_are_those_of_the_picture(name: str, server: HostileServer, fetcher: Fetcher) -> None:
    assert fetcher.fetch(server.url(f"{CASES[name].path}?n=bytes")) == jpeg(1)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("not_found", "status 404"),
        ("unavailable_for_ever", "status 503 after 3 tries"),
        ("reset_for_ever", "connection broken after 3 tries"),
        ("drips_body", "took too long after 3 tries"),
        ("length_too_long", "the body broke off after 3 tries"),
        ("rate_limited_for_a_day", "status 429, to be left alone for too long"),
        ("endless_body", "more than 1048576 bytes"),
        ("noai", "X-Robots-Tag noai"),
    ],
)
def test_details_come_out_the_same_every_time(name: str, detail: str, server: HostileServer) -> None:
    with impatient(max_retries=2, total_timeout=0.2 if name == "drips_body" else 20.0) as fetcher:
        assert [rejection(fetcher, server.url(CASES[name].path)).detail for _ in range(2)] == [detail, detail]


@pytest.mark.parametrize(
    ("name", "visits"),
    [
        ("not_found", 1),
        ("forbidden", 1),
        ("teapot", 1),
        ("noai", 1),
        ("huge_length", 1),
        ("gzip_bomb", 1),
        ("rate_limited_for_a_day", 1),
        ("unavailable_for_ever", 4),
        ("rate_limited_for_ever", 4),
        ("broken_chunks", 4),
        ("server_error_then_good", 2),
    ],
)
def test_only_what_may_pass_is_tried_again(name: str, visits: int, server: HostileServer) -> None:
    with impatient(max_retries=3) as fetcher, contextlib.suppress(RejectedError):
        fetcher.fetch(server.url(f"{CASES[name].path}?n=retries"))
    assert fetcher.requests == visits
    assert server.visits_of(name, query="n=retries") == visits


class HighestDraw:
    """Draws random numbers as high as they can be."""

    def uniform(self, _low: float, high: float) -> float:
        return high


@pytest.mark.parametrize("unlucky", [True, False])
def test_waits_between_tries_are_random_parts_of_a_doubling_time(
    unlucky: bool, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTime()
    with Fetcher(limits(max_retries=7, backoff=2.0), clock=fake.clock, sleep=fake.sleep) as fetcher:
        if unlucky:
            monkeypatch.setattr(fetcher, "_random", HighestDraw())
        rejection(fetcher, server.url("/case/unavailable_for_ever"))
    longest = [2, 4, 8, 16, 30, 30, 30]
    assert fetcher.retries == 7
    if unlucky:
        assert fake.naps == longest
    else:
        assert len(set(fake.naps)) == 7
        assert all(0 <= nap <= most for nap, most in zip(fake.naps, longest, strict=True))


def test_retry_after_pauses_the_host_for_every_thread(server: HostileServer) -> None:
    fake = FakeTime()
    with Fetcher(limits(max_retry_after=5, backoff=0.0), clock=fake.clock, sleep=fake.sleep) as fetcher:
        fetcher.fetch(server.url("/case/rate_limited_then_good?n=pause"))
        assert fake.now == 101.0
        fetcher.pause(server.url("/case/good"), 9)
        with ThreadPoolExecutor(1) as other_thread:
            other_thread.submit(fetcher.fetch, server.url("/case/good")).result()
    assert fake.now == 110.0


def test_a_host_is_asked_no_faster_than_its_rate(server: HostileServer) -> None:
    fake = FakeTime()
    chosen = limits(requests_per_second=(("127.0.0.1", 2.0),), max_processes=4)
    with Fetcher(chosen, clock=fake.clock, sleep=fake.sleep) as fetcher:
        fetcher.fetch(server.url("/case/redirect"))
        fetcher.fetch(server.url("/case/good"))
    assert fake.now == 104.0


def test_connections_are_used_again(server: HostileServer, fetcher: Fetcher) -> None:
    before = server.connections
    for path in ("/case/good", "/case/not_found", "/case/redirect", "/case/chunked", "/case/noai", "/case/gzip"):
        with contextlib.suppress(RejectedError):
            fetcher.fetch(server.url(path))
    # An opted-out picture's body is not read, so its connection cannot serve again.
    assert server.connections - before == 2


def test_a_dead_idle_connection_is_no_failure(server: HostileServer, fetcher: Fetcher) -> None:
    for _ in range(5):
        assert fetcher.fetch(server.url("/case/hangs_up_idle")) == jpeg(1)
    assert fetcher.retries == 0


def test_many_threads_share_a_fetcher(server: HostileServer) -> None:
    with Fetcher(limits(total_timeout=20.0)) as fetcher, ThreadPoolExecutor(32) as threads:
        uris = [server.url(f"/picture/{n % 10}.jpg?width=64&height=48") for n in range(400)]
        bodies = list(threads.map(fetcher.fetch, uris))
    assert bodies == [jpeg(n % 10, width=64, height=48) for n in range(400)]
    assert fetcher.requests == 400
    assert fetcher.bytes == sum(map(len, bodies))


def test_requests_say_who_asks(server: HostileServer) -> None:
    server.user_agents.clear()
    with impatient(contact="mailto:images@museum.example") as fetcher:
        fetcher.fetch(server.url("/case/good"))
    (sent,) = server.user_agents
    assert re.fullmatch(r"museum-image-classifier/[0-9.]+ \(\+mailto:images@museum\.example\)", sent)


def test_opt_outs_are_for_pictures_and_not_for_what_is_made_for_machines(server: HostileServer) -> None:
    with Fetcher(limits(), heeds_opt_outs=False) as fetcher:
        assert fetcher.fetch(server.url("/case/noai")) == jpeg(1)


def test_proxies_and_cookies_are_left_alone(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with impatient() as fetcher:
        assert [fetcher.fetch(server.url("/case/sets_a_cookie")) for _ in range(2)] == [jpeg(1)] * 2


def test_a_rejection_keeps_its_fields_on_its_way_to_another_process(fetcher: Fetcher) -> None:
    error = pickle.loads(pickle.dumps(rejection(fetcher, "gs://bucket")))
    assert (error.reason, error.detail) == (Reason.BAD_URI, "give gs://bucket/object")


def test_neither_beam_nor_tensorflow_is_imported_and_googles_storage_only_for_its_addresses() -> None:
    program = "import sys, beam_pipelines.fetch.fetcher; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert "requests" in modules
    assert not {"apache_beam", "tensorflow", "google.cloud.storage", "google.auth"} & set(modules)


def test_a_decompressed_picture_is_held_within_the_limit() -> None:
    bomb = gzip.compress(bytes(64 * MAX_BYTES), 1)
    tracemalloc.start()
    try:
        with pytest.raises(RejectedError) as caught:
            inflate(iter([bomb]), max_bytes=MAX_BYTES)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE
    assert most < 4 * MAX_BYTES


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_compressed_bytes_come_out_whole_however_they_are_cut(size: int) -> None:
    data = jpeg(1)[:size]
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for packed in (gzip.compress(data), zlib.compress(data), bare.compress(data) + bare.flush()):
        for step in (1, 7, 100_000):
            pieces = (packed[start : start + step] for start in range(0, len(packed), step))
            assert inflate(pieces, max_bytes=1000) == data
    twice = gzip.compress(data) + gzip.compress(data)
    assert inflate(iter([twice]), max_bytes=2000) == data * 2


def test_private_addresses_are_refused_before_anything_is_sent(server: HostileServer) -> None:
    with impatient(allow_private_addresses=False) as fetcher:
        before = server.connections
        for host in ("127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"):
            error = rejection(fetcher, f"http://{host}:{server.port}/case/good")
            assert error.reason is Reason.REFUSED_ADDRESS
        assert server.connections == before
        assert fetcher.retries == 0


def test_a_name_that_resolves_to_a_private_address_is_refused(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(["127.0.0.1"]))
    with impatient(allow_private_addresses=False) as fetcher:
        error = rejection(fetcher, f"http://museum.example:{server.port}/case/good")
    assert error.reason is Reason.REFUSED_ADDRESS


def test_a_redirect_to_a_private_address_is_refused(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public", lambda ip: ip == "127.0.0.1")
    case = CASES["redirect_to_private"]
    with impatient(allow_private_addresses=False) as fetcher:
        assert fetcher.fetch(server.url("/case/good")) == jpeg(1)
        assert rejection(fetcher, server.url(case.path)).reason is case.outcome


def test_the_address_connected_to_is_the_one_that_was_checked(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(["127.0.0.1"], ["10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(addresses, "is_public", lambda ip: ip == "127.0.0.1")
    with impatient(allow_private_addresses=False) as fetcher:
        assert fetcher.fetch(f"http://rebinding.example:{server.port}/case/good") == jpeg(1)
        assert resolver.calls == 1


def test_the_next_address_of_a_host_is_tried(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(["127.0.0.3", "127.0.0.1"]))
    with impatient() as fetcher:
        assert fetcher.fetch(f"http://museum.example:{server.port}/case/good") == jpeg(1)
        assert fetcher.retries == 0


class Resolver:
    """Answers like a name server: the first list of addresses first, then the second, the last for ever."""

    def __init__(self, *lists: list[str]) -> None:
        self.calls = 0
        self._lists = lists

    def __call__(self, _host: str, port: int, **_: object) -> list[Any]:
        ips = self._lists[min(self.calls, len(self._lists) - 1)]
        self.calls += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ips]


def no_such_host(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_hosts_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert str(rejection(fetcher, f"http://127.0.0.1:{port}/")) == "connection_failed: connection refused after 2 tries"
    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    assert str(rejection(fetcher, "http://nowhere.example/")) == "connection_failed: host name not found after 2 tries"


def test_a_server_without_tls_and_one_that_never_shakes_hands(server: HostileServer, fetcher: Fetcher) -> None:
    error = rejection(fetcher, f"https://127.0.0.1:{server.port}/case/good")
    assert str(error) == "connection_failed: no TLS connection after 2 tries"
    with impatient(connect_timeout=0.1) as hasty, socket.create_server(("127.0.0.1", 0)) as silent:
        error = rejection(hasty, f"https://127.0.0.1:{silent.getsockname()[1]}/")
    assert str(error) == "timed_out: took too long after 2 tries"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Returns a file with a certificate for `museum.example` that nobody vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "museum.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("museum.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + signed.public_bytes(Encoding.PEM))
    return path


def test_https_takes_only_certificates_that_are_vouched_for_and_name_the_host(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(["127.0.0.1"]))
    with HostileServer(certificate=certificate) as server, impatient() as fetcher:
        uri = f"https://museum.example:{server.port}/case/good"
        assert str(rejection(fetcher, uri)) == "connection_failed: certificate not accepted"
        trusting = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(transport, "_tls_context", lambda: trusting)
        assert [fetcher.fetch(uri), fetcher.fetch(uri)] == [jpeg(1), jpeg(1)]
        error = rejection(fetcher, uri.replace("museum", "other"))
        assert str(error) == "connection_failed: certificate not accepted"
        assert fetcher.retries == 0
        assert server.connections == 3


def test_a_server_that_drips_over_https_is_left_when_the_time_is_over(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(["127.0.0.1"]))
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(transport, "_tls_context", lambda: trusting)
    with HostileServer(certificate=certificate) as server, impatient(total_timeout=0.3, max_retries=0) as fetcher:
        error = rejection(fetcher, f"https://museum.example:{server.port}/case/drips_body")
        assert error.reason is Reason.TIMED_OUT


def test_a_server_that_accepts_and_says_nothing_runs_into_the_read_timeout() -> None:
    with impatient(total_timeout=60.0, read_timeout=0.1) as fetcher, socket.create_server(("127.0.0.1", 0)) as silent:
        assert rejection(fetcher, f"http://127.0.0.1:{silent.getsockname()[1]}/").reason is Reason.TIMED_OUT


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "  ",
        "http://",
        "https:///x",
        "http://user:geheim@museum.example/1.jpg",
        "ftp://museum.example/1.jpg",
        "data://x",
        "javascript://%0a",
        "gs://bucket",
        "gs://Bad Bucket/x",
        "gs://bucket/a\nb",
        "gs://bucket/\ud800",
        "file://other.example/x",
        "file:///a%00b",
        "/a\x00b",
        "/\ud800",
    ],
)
def test_bad_addresses(uri: str, fetcher: Fetcher) -> None:
    error = rejection(fetcher, uri)
    assert error.reason is Reason.BAD_URI
    assert "geheim" not in str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.tuples(st.sampled_from(["http://", "https://", "file://"]), st.text()).map("".join)))
def test_any_text_is_fetched_or_rejected(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    with impatient(max_retries=0) as fetcher, contextlib.suppress(RejectedError):
        fetcher.fetch(uri)


ANSWER_PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"HTTP/1.1 ",
            b"200 OK\r\n",
            b"302 Found\r\n",
            b"429 Slow\r\n",
            b"100 Continue\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"Location: ",
            b"http://[::",
            b"/x",
            b"Content-Length: ",
            b"-5",
            b"99",
            b"Content-Encoding: gzip\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"5\r\nabcde\r\n",
            b"-1\r\n",
            b"0\r\n",
            b"Retry-After: ",
            b"X-Robots-Tag: a:,:noai",
        ]
    ),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANSWER_PIECES, max_size=12).map(b"".join))
def test_any_answer_is_a_body_or_rejected(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    def connected(*_: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 200 OK\r\n" * (len(answer) % 2) + answer)
        theirs.shutdown(socket.SHUT_WR)
        peers.append(theirs)
        return ours

    peers: list[socket.socket] = []
    monkeypatch.setattr(transport.Connection, "_connect_to", connected)
    with impatient(max_bytes=50) as fetcher, contextlib.suppress(RejectedError):
        assert len(fetcher.fetch("http://127.0.0.1/x")) <= 50
    for peer in peers:
        peer.close()


def test_files_and_paths(tmp_path: Path, fetcher: Fetcher) -> None:
    picture = tmp_path / "Vénus à 100%.jpg"
    picture.write_bytes(jpeg(1))
    assert fetcher.fetch(str(picture)) == jpeg(1)
    assert fetcher.fetch(f"file://{picture}".replace("100%", "100%25")) == jpeg(1)
    assert fetcher.fetch(picture.as_uri()) == jpeg(1)
    assert fetcher.fetch(picture.as_uri().replace("file://", "file://localhost")) == jpeg(1)
    (tmp_path / "a:b.jpg").write_bytes(b"x")
    assert fetcher.fetch(os.path.relpath(tmp_path / "a:b.jpg")) == b"x"


def test_what_is_no_file_is_not_found(tmp_path: Path, fetcher: Fetcher) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path in (tmp_path, tmp_path / "pipe", tmp_path / "no", "/dev/zero", tmp_path / ("n" * 300)):
            assert rejection(fetcher, str(path)).reason is Reason.NOT_FOUND
        assert rejection(fetcher, str(tmp_path / "socket")).reason is Reason.NOT_FOUND


def test_files_too_large_and_files_of_others(tmp_path: Path, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(MAX_BYTES + 1))
    assert rejection(fetcher, str(large)).reason is Reason.TOO_LARGE
    large.write_bytes(bytes(MAX_BYTES))
    assert len(fetcher.fetch(str(large))) == MAX_BYTES

    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "open", forbidden)
    assert rejection(fetcher, str(large)).reason is Reason.FORBIDDEN


def test_paths_can_be_turned_off(tmp_path: Path) -> None:
    with impatient(allow_paths=False) as fetcher:
        for uri in ("/etc/passwd", "file:///etc/passwd", "passwd", "//host/share"):
            assert rejection(fetcher, uri).reason is Reason.REFUSED_ADDRESS


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    emulator = create_server("127.0.0.1", 0, in_memory=True, default_bucket="pictures")
    emulator.start()
    port = emulator._api._httpd.server_address[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    yield cloud_storage.new_client().bucket("pictures")
    emulator.stop()


def test_objects_of_cloud_storage(bucket: Any, fetcher: Fetcher) -> None:
    for name in ("1.jpg", "folder/The Harvesters #1?.jpg", "Vénus.jpg"):
        bucket.blob(name).upload_from_string(jpeg(1), content_type="image/jpeg")
        assert fetcher.fetch(f"gs://pictures/{name}") == jpeg(1)
    bucket.blob("empty.jpg").upload_from_string(b"")
    assert fetcher.fetch("gs://pictures/empty.jpg") == b""
    bucket.blob("large.jpg").upload_from_string(bytes(MAX_BYTES + 1))
    assert rejection(fetcher, "gs://pictures/large.jpg").reason is Reason.TOO_LARGE
    assert str(rejection(fetcher, "gs://pictures/no.jpg")) == "not_found: status 404 from Cloud Storage"
    assert rejection(fetcher, "gs://nobody/no.jpg").reason is Reason.NOT_FOUND


def test_storage_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    with impatient(total_timeout=0.1) as fetcher:
        assert rejection(fetcher, "gs://pictures/1.jpg").reason in (Reason.TIMED_OUT, Reason.CONNECTION_FAILED)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, Reason.FORBIDDEN), (403, Reason.FORBIDDEN), (400, Reason.HTTP_ERROR), (503, Reason.SERVER_ERROR)],
)
def test_storage_that_refuses(status: int, reason: Reason, monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher) -> None:
    from google.api_core.exceptions import from_http_status

    class Blob:
        def download_to_file(self, *_: object, **__: object) -> None:
            raise from_http_status(status, "no")  # type: ignore[no-untyped-call]

    class Client:
        def bucket(self, _: str) -> "Client":
            return self

        def blob(self, _: str) -> Blob:
            return Blob()

        def close(self) -> None:
            pass

    monkeypatch.setattr(cloud_storage, "new_client", Client)
    assert rejection(fetcher, "gs://pictures/1.jpg").reason is reason


def test_google_credentials_are_looked_for_only_where_there_may_be_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setattr(cloud_storage, "_GOOGLE_MACHINE", tmp_path / "product_name")
    assert not cloud_storage.has_google_credentials()
    (tmp_path / "product_name").write_text("Google Compute Engine\n")
    assert cloud_storage.has_google_credentials()
    (tmp_path / "product_name").write_text("Standard PC\n")
    assert not cloud_storage.has_google_credentials()
    (tmp_path / "application_default_credentials.json").write_text("{}")
    assert cloud_storage.has_google_credentials()


@pytest.mark.parametrize(
    "changes",
    [
        {"max_bytes": 0},
        {"total_timeout": -1},
        {"read_timeout": float("nan")},
        {"max_retries": -1},
        {"requests_per_second": (("a.example", 0.0),)},
        {"contact": "a\r\nb"},
        {"contact": "Zoë"},
    ],
)
def test_limits_that_make_no_sense_fail_before_any_work(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="give"):
        limits(**changes)


def test_the_misbehaving_museum_closes_at_once() -> None:
    with HostileServer() as server, impatient(total_timeout=30.0) as fetcher:
        dripping = threading.Thread(target=rejection, args=(fetcher, server.url("/case/drips_body")))
        dripping.start()
        while not server.visits:
            os.sched_yield()
        server.close()
        dripping.join(10)
        assert not dripping.is_alive()
