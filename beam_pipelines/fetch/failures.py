"""What the failures of connections and servers mean for a picture: the reason, and whether to try again."""

import http.client
import socket
import ssl

from beam_pipelines.rejects import Reason, RejectedError

_REASON_OF_STATUS = {
    401: Reason.FORBIDDEN,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    408: Reason.SERVER_ERROR,
    410: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
}


class PassingError(RejectedError):
    """A try failed in a way that the next one may not."""


def reason_of_status(status: int) -> Reason:
    """Returns why there is no picture in an answer with this HTTP status."""
    return _REASON_OF_STATUS.get(status, Reason.SERVER_ERROR if status >= 500 else Reason.HTTP_ERROR)


def failure_of(error: OSError | http.client.HTTPException) -> RejectedError:
    """Returns what an error of a connection means; its own text, with ports and numbers, goes no further."""
    match error:
        case TimeoutError():
            return PassingError(Reason.TIMED_OUT, "took too long")
        case ssl.SSLCertVerificationError():
            return RejectedError(Reason.CONNECTION_FAILED, "certificate not accepted")
        case ssl.SSLError():
            return PassingError(Reason.CONNECTION_FAILED, "no TLS connection")
        case socket.gaierror():
            return PassingError(Reason.CONNECTION_FAILED, "host name not found")
        case ConnectionRefusedError():
            return PassingError(Reason.CONNECTION_FAILED, "connection refused")
        case ConnectionError():
            return PassingError(Reason.CONNECTION_FAILED, "connection broken")
        case http.client.IncompleteRead():
            return PassingError(Reason.INCOMPLETE_BODY, "the body broke off")
        case http.client.HTTPException():
            return PassingError(Reason.CONNECTION_FAILED, "the answer is not HTTP")
    return PassingError(Reason.CONNECTION_FAILED, "no connection")
