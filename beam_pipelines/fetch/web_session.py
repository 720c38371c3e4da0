"""The session of `requests` that pictures are fetched with, and the adapter that carries it over our connections.

An adapter is how `requests` lets another transport in; this one brings what urllib3's lacks: a deadline for the whole
answer, and addresses that are checked and then really the ones connected to (see `transport`).
"""

import http.client
import http.cookiejar
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from beam_pipelines.fetch.addresses import HttpAddress, parse_http
from beam_pipelines.fetch.transport import Connection, ConnectionLimits, ConnectionPool

_READ_BYTES = 64 * 1024


class AddressedRequest(requests.PreparedRequest):
    """A request whose address was read and quoted before."""

    address: HttpAddress


class WebSession(requests.Session):
    """Sends GET requests over pooled connections to checked addresses; shared by the threads of a process.

    It keeps no cookies, uses no proxy and no `.netrc`, and leaves redirects to its caller.

    Args:
        headers: sent with every request.
        limits: what holds for every connection.
    """

    def __init__(self, headers: Mapping[str, str], limits: ConnectionLimits) -> None:
        super().__init__()
        self.trust_env = False
        self._sent_headers = CaseInsensitiveDict(headers)
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        adapter = CheckedAdapter(limits)
        for prefix in ("http://", "https://"):
            self.mount(prefix, adapter)

    def ask(self, address: HttpAddress, *, timeout: float) -> requests.Response:
        """Returns the answer of `address`, its body still to be read from `raw`, an `Answer`; close it afterwards.

        The request is put together here, since `requests` would quote its address and merge its headers once more.

        Args:
            address: what to get.
            timeout: seconds for all of it: connecting, sending, and reading to the end of the body.

        Raises:
            RejectedError: REFUSED_ADDRESS if the host has no address that may be reached.
            OSError, http.client.HTTPException: the connection failed, or took too long.
        """
        request = AddressedRequest()
        request.method, request.url, request.headers = "GET", address.url, self._sent_headers
        request.address = address
        return self.send(request, stream=True, allow_redirects=False, timeout=timeout, proxies={})

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Knows of no redirect: even when told not to follow one, `send` would read its body, however long."""


class Answer:
    """An answer whose body is still to come: the `raw` of a `requests.Response`.

    Attributes:
        headers: all of them; those of `requests.Response` keep the first of each name.
    """

    def __init__(self, response: http.client.HTTPResponse, connection: Connection, pool: ConnectionPool) -> None:
        self.headers = response.headers
        self._response = response
        self._connection = connection
        self._pool = pool
        self._whole = False

    @property
    def length(self) -> int | None:
        """Bytes of the body still to come; None where the server did not say."""
        return self._response.length

    @property
    def keeps_connection(self) -> bool:
        """Whether its connection can serve again once the body is read."""
        return self._connection.sock is not None

    def pieces(self) -> Iterator[bytes]:
        """Gives the body as it arrives and as it was sent, compressed or not.

        Raises:
            http.client.IncompleteRead: it ends before it should.
            OSError: the connection failed, or took too long.
        """
        while piece := self._response.read1(_READ_BYTES):
            yield piece
            if self._response.length == 0:
                break
        if self._response.length:
            raise http.client.IncompleteRead(b"")
        self._whole = True

    def hurry(self, seconds: float) -> None:
        """Leaves the rest of the body no more than `seconds` from now."""
        self._connection.deadline = min(self._connection.deadline, time.monotonic() + seconds)

    def close(self) -> None:
        """Gives the connection back if the body was read to its end; otherwise closes it."""
        self._response.close()
        if self._whole and self.keeps_connection:
            self._pool.give(self._connection)
        else:
            self._connection.close()


class CheckedAdapter(BaseAdapter):
    """Carries the requests of a session over pooled connections to checked addresses.

    Args:
        limits: what holds for every connection.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self._pool = ConnectionPool(limits)

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, *, timeout: float, **_: Any
    ) -> requests.Response:
        """Sends a GET request; returns the answer, whose `raw` is an `Answer`.

        Whatever else a session passes changes nothing: certificates are always verified, proxies never used.

        Args:
            request: an `AddressedRequest`, or one whose URL is still to be read and quoted.
            timeout: seconds for all of it: connecting, sending, and reading to the end of the answer's body.

        Raises:
            RejectedError: BAD_URI, or REFUSED_ADDRESS if the host has no address that may be reached.
            OSError, http.client.HTTPException: the connection failed, or took too long.
        """
        deadline = time.monotonic() + timeout
        address = request.address if isinstance(request, AddressedRequest) else parse_http(request.url or "")
        connection, answer = self._exchange(request, address, deadline)
        response = requests.Response()
        response.status_code, response.reason = answer.status, answer.reason
        response.headers = CaseInsensitiveDict(reversed(answer.headers.items()))
        response.raw = Answer(answer, connection, self._pool)
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        """Closes idle connections; answers under way come to their end."""
        self._pool.close()

    def _exchange(
        self, request: requests.PreparedRequest, address: HttpAddress, deadline: float
    ) -> tuple[Connection, http.client.HTTPResponse]:
        idle = self._pool.take(address)
        if idle is not None:
            try:
                return idle, _exchange_on(idle, request, address, deadline)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                # The server hung up on the idle connection; that says nothing about the picture.
                pass
        connection = self._pool.new(address)
        return connection, _exchange_on(connection, request, address, deadline)


def _exchange_on(
    connection: Connection, request: requests.PreparedRequest, address: HttpAddress, deadline: float
) -> http.client.HTTPResponse:
    connection.deadline = deadline
    try:
        connection.request("GET", address.target, headers=request.headers)
        return connection.getresponse()
    except BaseException:
        connection.close()
        raise
