"""Reads pictures from Google Cloud Storage: `gs://bucket/object`.

Google's libraries are imported with the first such address, as most jobs never meet one.
"""

import contextlib
import io
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beam_pipelines.fetch.addresses import has_control_character
from beam_pipelines.fetch.byte_streams import inflate, too_large
from beam_pipelines.fetch.failures import reason_of_status
from beam_pipelines.rejects import Reason, RejectedError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_GOOGLE_MACHINE = Path("/sys/class/dmi/id/product_name")
_PACKED = ("gzip", "deflate")
_NO_BUCKET_METADATA = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"


def parse_object(uri: str) -> tuple[str, str]:
    """Returns bucket and object name of a `gs://` address; the name may hold anything but control characters.

    Raises:
        RejectedError: BAD_URI.
    """
    bucket, _, name = uri.partition("://")[2].partition("/")
    if has_control_character(uri):
        raise RejectedError(Reason.BAD_URI, "control character in the address")
    if not (is_bucket_name(bucket) and name):
        raise RejectedError(Reason.BAD_URI, "give gs://bucket/object")
    try:
        name.encode()
    except UnicodeError as error:
        raise RejectedError(Reason.BAD_URI, "the address cannot be read") from error
    return bucket, name


def is_bucket_name(name: str) -> bool:
    """Tells whether a bucket may be named so."""
    return bool(_BUCKET.fullmatch(name))


def ask_for_objects_only() -> None:
    """Keeps Google's library from asking for a bucket's metadata, in a thread beside each request, for its own traces.

    Who may read objects is often refused that, and anonymous clients would ask again for every object.
    """
    os.environ.setdefault(_NO_BUCKET_METADATA, "true")


class CloudStorage:
    """Reads objects; shared by the threads of a process.

    Args:
        connect_timeout: seconds to connect.
        read_timeout: seconds without a byte.
        total_timeout: seconds for an object, all tries of the library together.
        max_bytes: size of an object, as it is stored and decompressed.
    """

    def __init__(self, *, connect_timeout: float, read_timeout: float, total_timeout: float, max_bytes: int) -> None:
        self._timeouts = connect_timeout, read_timeout
        self._total_timeout = total_timeout
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._client: Any = None

    def read(self, bucket: str, name: str) -> bytes:
        """Returns an object's bytes, decompressed if it is stored with a content encoding; the library retries.

        Args:
            bucket: name of the bucket.
            name: name of the object, unquoted.

        Raises:
            RejectedError: any reason of the fetch stage but those of redirects and addresses.
        """
        blob, data = self._download(bucket, name)
        return inflate(iter([data]), max_bytes=self._max_bytes) if blob.content_encoding in _PACKED else data

    def read_range(self, bucket: str, name: str, *, offset: int, length: int) -> bytes:
        """Returns some bytes of an object as they are stored, fewer where it ends before; the library retries.

        Args:
            bucket: name of the bucket.
            name: name of the object, unquoted.
            offset: of the first byte.
            length: how many.

        Raises:
            RejectedError: as `read`.
        """
        return self._download(bucket, name, start=offset, end=offset + length - 1)[1] if length else b""

    def close(self) -> None:
        """Closes idle connections; the next read opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _download(self, bucket: str, name: str, **byte_range: int) -> tuple[Any, bytes]:
        """Returns an object, and its bytes as they are stored."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        blob = self._open_client().bucket(bucket).blob(name)
        buffer = _BoundedBuffer(max_bytes=self._max_bytes, deadline=time.monotonic() + self._total_timeout)
        with _storage_failures():
            blob.download_to_file(
                buffer,
                raw_download=True,
                timeout=self._timeouts,
                retry=DEFAULT_RETRY.with_timeout(self._total_timeout),
                **byte_range,
            )
        return blob, buffer.getvalue()

    def _open_client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = new_client()
            return self._client


def new_client() -> Any:
    """Returns a client for Google Cloud Storage; anonymous unless this machine has credentials.

    Looking for credentials where there are none would wait for a metadata server that is not there.

    Raises:
        RejectedError: FORBIDDEN if there are credentials and they cannot be used.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    credentials = None
    try:
        if has_google_credentials():
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
    except GoogleAuthError as error:
        raise RejectedError(Reason.FORBIDDEN, "Google credentials cannot be used") from error
    return storage_client(credentials)


def storage_client(credentials: Any | None) -> Any:
    """Returns a client for Google Cloud Storage that threads may share.

    Args:
        credentials: Google's; None for anonymous requests, whose refusals are told as they come.
    """
    import requests.adapters
    from google.auth.credentials import AnonymousCredentials
    from google.auth.transport import DEFAULT_REFRESH_STATUS_CODES
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import storage

    ask_for_objects_only()
    renewable = DEFAULT_REFRESH_STATUS_CODES if credentials else ()
    credentials = credentials or AnonymousCredentials()  # type: ignore[no-untyped-call]
    session = AuthorizedSession(credentials, refresh_status_codes=renewable)  # type: ignore[no-untyped-call]
    for prefix in ("https://", "http://"):
        session.mount(prefix, requests.adapters.HTTPAdapter(pool_maxsize=64))
    return storage.Client(project=None, credentials=credentials, _http=session)


def has_google_credentials() -> bool:
    """Tells, without asking the network, whether Google's libraries would find credentials here."""
    if "STORAGE_EMULATOR_HOST" in os.environ:
        return False
    if "GOOGLE_APPLICATION_CREDENTIALS" in os.environ:
        return True
    config = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    if os.path.exists(os.path.join(config, "application_default_credentials.json")):
        return True
    try:
        return _GOOGLE_MACHINE.read_text().strip() in ("Google", "Google Compute Engine")
    except OSError:
        return False


class _BoundedBuffer(io.BytesIO):
    """Collects a download; raises TOO_LARGE or TIMED_OUT once it is beyond its bounds."""

    def __init__(self, *, max_bytes: int, deadline: float) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._deadline = deadline

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._max_bytes:
            raise too_large(self._max_bytes)
        if time.monotonic() > self._deadline:
            raise RejectedError(Reason.TIMED_OUT, "took too long")
        return super().write(data)


@contextlib.contextmanager
def _storage_failures() -> Iterator[None]:
    """Turns the errors of Google's libraries, and of those below them, into reasons."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption
    from requests.exceptions import RequestException, Timeout
    from urllib3.exceptions import HTTPError

    try:
        yield
    except GoogleAPICallError as error:
        raise RejectedError(reason_of_status(error.code or 0), f"status {error.code} from Cloud Storage") from error
    except DataCorruption as error:
        raise RejectedError(Reason.INCOMPLETE_BODY, "checksum differs") from error
    except (RetryError, Timeout) as error:
        raise RejectedError(Reason.TIMED_OUT, "took too long") from error
    except GoogleAuthError as error:
        raise RejectedError(Reason.FORBIDDEN, "Google credentials cannot be used") from error
    except (RequestException, HTTPError, OSError) as error:
        raise RejectedError(Reason.CONNECTION_FAILED, "no connection to Cloud Storage") from error
