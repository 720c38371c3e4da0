"""Who we are to Google Cloud Storage, whether it lets us in, and what its refusals mean, in one clear line.

Beam searches for credentials for some 20 seconds where there are none, and what Google's libraries raise is a page of
trace. A command asks here before any work, once for each place, without retries.
"""

import contextlib
import dataclasses
import functools
import os
import re
import secrets
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from beam_pipelines.errors import OptionError
from beam_pipelines.fetch.cloud_storage import (
    ask_for_objects_only,
    has_google_credentials,
    is_bucket_name,
    storage_client,
)

_SCHEME = "gs://"
_PROBE = ".unfinished-probe-"
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 20.0
_MESSAGE_CHARACTERS = 200
_PASSING = (408, 429, 500, 502, 503, 504)
_LOG_IN = "`gcloud auth application-default login`"
_PATTERN = re.compile(r"[*?\[]")
_CLIENT_LOCK = threading.Lock()

# What Beam adds to the message of an error that is raised in one of its workers.
_WHILE_RUNNING = " [while running "
_NO_BUCKET = "bucket does not exist"
_STATUS_OF = {"Unauthorized": 401, "Forbidden": 403, "NotFound": 404}
# `403 POST https://host/storage/v1/b/BUCKET/o?…: why`, or Python's form of it: `Forbidden('POST https://…: why')`.
_ANSWER = re.compile(
    r"(?:\b(?P<status>[45]\d\d) |\b(?P<error>Unauthorized|Forbidden|NotFound)\(['\"])"
    r"(?P<method>[A-Z]+) (?P<url>https?://[^\s'\"]+?)(?:(?=['\"\s]|$)|: )",
    re.MULTILINE,
)
_JSON_MESSAGE = re.compile(r'\s*\{.{0,2000}?"message":\s*"([^"]*)"', re.DOTALL)
# What Beam says of the paths that it could not delete or rename.
_BEAM_STATUS = re.compile(r"(?P<path>gs://[^'\"]+)['\"]\)?: (?P<status>[45]\d\d)\b")
# What Google's library says of an upload that Beam makes.
_UPLOAD_STATUS = re.compile(r"InvalidResponse: \(.*?\b(?P<status>[45]\d\d), 'Expected one of'")
_RESOURCE = re.compile(r"/storage/v1/b/(?P<bucket>[^/?]+)(?:/o(?:/(?P<name>[^?]+))?)?")
_ANONYMOUS_REFRESH = "Anonymous credentials cannot be refreshed"
_BAD_CREDENTIALS = re.compile(r"google\.auth\.exceptions\.\w+Error: (?P<message>[^\n]*)")
_NO_CONNECTION = re.compile(
    r"(?:requests\.exceptions\.\w*(?:Connection|Timeout)\w*|urllib3\.exceptions\.\w+|"
    r"google\.api_core\.exceptions\.RetryError)[:(].*?/storage/v1/",
    re.DOTALL,
)


def go_anonymous_without_credentials() -> None:
    """Tells Beam that there are no Google credentials, where there are none, so that it does not search for them."""
    ask_for_objects_only()
    if has_google_credentials():
        return
    from apache_beam.internal.gcp import auth

    auth._Credentials._credentials_init = True


def open_client() -> Any:
    """Returns this process' client of Cloud Storage, with the credentials that Beam uses; threads may share it."""
    with _CLIENT_LOCK:
        return _client_at(os.environ.get("STORAGE_EMULATOR_HOST", ""))


@functools.lru_cache(maxsize=1)
def _client_at(_address: str) -> Any:
    from apache_beam.internal.gcp import auth
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    go_anonymous_without_credentials()
    found = auth.get_service_credentials(FileSystems._pipeline_options or PipelineOptions([]))
    return storage_client(found.get_google_auth_credentials() if found else None)


def check_access(paths_to_read: Sequence[str], directories_to_write: Sequence[str]) -> None:
    """Asks Cloud Storage once for each `gs://` path whether it may be used; others are passed over at no cost.

    What may pass, as an overloaded server, is left to the run, which tries again.

    Args:
        paths_to_read: files, patterns or directories; whether a file is there is not asked.
        directories_to_write: a small object is written below each, and deleted.

    Raises:
        OptionError: a bucket is missing, access is refused, or there is no connection.
    """
    reads = [path for path in dict.fromkeys(paths_to_read) if path.startswith(_SCHEME)]
    writes = [path for path in dict.fromkeys(directories_to_write) if path.startswith(_SCHEME)]
    if not reads and not writes:
        return
    for path in (*reads, *writes):
        split_path(path)
    _check_credentials()
    client = open_client()
    for path in reads:
        with _told_as_option_error(path):
            _try_to_read(client, path)
    for path in writes:
        with _told_as_option_error(path):
            _try_to_write(client, path)


def split_path(path: str) -> tuple[str, str]:
    """Returns bucket and object name of a `gs://` path; the name may be empty. Raises OptionError for anything else."""
    bucket, _, name = path.removeprefix(_SCHEME).partition("/")
    if not is_bucket_name(bucket):
        raise OptionError(f"{path!r} names no bucket: give gs://BUCKET/PATH")
    return bucket, name


def explain(error: BaseException, *, place: str = "") -> str:
    """Returns in one line what an error of Google's libraries, or one that came of it, means; nothing of any other.

    Args:
        error: any.
        place: the path that was asked for, where the error may not tell.
    """
    return explain_text("\n".join(_lines_of(error)), place=place)


def explain_text(text: str, *, place: str = "") -> str:
    """Returns in one line what went wrong with a Google service, given any trace of it; nothing if nothing did.

    Args:
        text: as errors of worker processes arrive.
        place: the path that was asked for, where the text may not tell.
    """
    if answer := _ANSWER.search(text):
        status = int(answer["status"] or _STATUS_OF[answer["error"]])
        said = _message(text[answer.end() :])
        return _explain_answer(status, answer["method"], answer["url"], message=said, place=place)
    if refused := _BEAM_STATUS.search(text):
        return _Refusal(status=int(refused["status"]), place=place or refused["path"]).told()
    if refused := _UPLOAD_STATUS.search(text):
        return _Refusal(status=int(refused["status"]), place=place or "an upload").told()
    if _ANONYMOUS_REFRESH in text:
        return _Refusal(status=401, place=place or "a request").told()
    if bad := _BAD_CREDENTIALS.search(text):
        return _told_of_credentials(_message(bad["message"]))
    if _NO_CONNECTION.search(text):
        return f"there is no connection to {_service()}"
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Refusal:
    """An answer of Cloud Storage that is none.

    Attributes:
        status: of HTTP.
        place: the path.
        message: what the server says of it; may be empty.
        of_object: whether it concerns an object that was to be there.
        reading: whether nothing was to be changed.
    """

    status: int
    place: str
    message: str = ""
    of_object: bool = False
    reading: bool = False

    def told(self) -> str:
        """Returns it in one line, with what to do."""
        place = self.place.rstrip("/")
        why = f"{self.status}{': ' if self.message else ''}{self.message}"
        if self.status == 404:
            if self.of_object and _NO_BUCKET not in self.message:
                return f"there is no object {place}"
            if not place.startswith(_SCHEME):
                return f"the bucket of {place} is not there: make it, or mend its name"
            return f"there is no bucket {place.removeprefix(_SCHEME).split('/')[0]}: make it, or mend {place}"
        if self.status not in (401, 403):
            return f"Google Cloud Storage answers {place} with {why}"
        role = f"Storage Object {'Viewer' if self.reading else 'User'}"
        if not has_google_credentials():
            return (
                f"Google Cloud Storage refuses {place} ({why}), asked anonymously as there are no Google credentials "
                f"here: run {_LOG_IN}, with an account that has the role {role}"
            )
        if self.status == 401:
            return f"Google Cloud Storage refuses {place} ({why}): renew the Google credentials with {_LOG_IN}"
        return f"Google Cloud Storage refuses {place} ({why}): give these Google credentials the role {role} on it"


def _explain_answer(status: int, method: str, url: str, *, message: str, place: str) -> str:
    resource = _RESOURCE.search(url)
    if resource is None and "/batch/storage/" in url:
        return _Refusal(status=status, place=place or "a request", message=message).told()
    if resource is None:
        service = urllib.parse.urlsplit(url).hostname or ""
        return f"{service} answers with {status}: {message}" if service.endswith(".googleapis.com") else ""
    asked = urllib.parse.unquote(f"{_SCHEME}{resource['bucket']}/{resource['name'] or ''}")
    return _Refusal(
        status=status,
        place=place or asked,
        message=message,
        of_object=resource["name"] is not None,
        reading=method == "GET",
    ).told()


def _message(text: str) -> str:
    """Returns what the server says in the text behind an address: JSON that has a message, or the rest of the line."""
    said = _JSON_MESSAGE.match(text)
    message = said[1] if said else text.split("\n", 1)[0].split(_WHILE_RUNNING)[0]
    return message.strip().rstrip("'\")}")[:_MESSAGE_CHARACTERS]


def _told_of_credentials(message: str) -> str:
    return f"the Google credentials cannot be used ({message[:_MESSAGE_CHARACTERS]}): renew them with {_LOG_IN}"


def _service() -> str:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    return f"{emulator}, which STORAGE_EMULATOR_HOST names" if emulator else "Google Cloud Storage: check the network"


def _lines_of(error: BaseException | None) -> Iterator[str]:
    """Yields an error and those that it came of, as a trace has them, and what they keep beside their message."""
    while error is not None:
        answer: Any = getattr(error, "response", None)
        if (request := getattr(answer, "request", None)) is not None:
            yield f"{answer.status_code} {request.method} {request.url}: {answer.text}"
        yield f"{type(error).__module__}.{type(error).__name__}: {error}"
        details = getattr(error, "exception_details", None)
        for detail in details.values() if isinstance(details, dict) else ():
            if isinstance(detail, BaseException):
                yield from _lines_of(detail)
        error = error.__cause__ or error.__context__


def _check_credentials() -> None:
    """Raises OptionError if there are credentials that cannot be used: Beam would go on without them."""
    if not has_google_credentials():
        return
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        google.auth.default()
    except (GoogleAuthError, OSError, ValueError) as error:
        raise OptionError(_told_of_credentials(str(error).splitlines()[0])) from error


@contextlib.contextmanager
def _told_as_option_error(path: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import ReadTimeout, RequestException

    try:
        yield
    except ReadTimeout:
        return
    except (GoogleAPICallError, GoogleAuthError, RequestException) as error:
        if getattr(error, "code", None) not in _PASSING:
            raise OptionError(explain(error, place=path) or f"there is no connection to {_service()}") from error


def _try_to_read(client: Any, path: str) -> None:
    bucket, name = split_path(path)
    once = {"retry": None, "timeout": (_CONNECT_SECONDS, _READ_SECONDS)}
    prefix = _PATTERN.split(name)[0]
    if prefix == name and name and client.bucket(bucket).blob(name).exists(client, **once):
        return
    next(iter(client.list_blobs(bucket, prefix=prefix, max_results=1, fields="items(name)", **once)), None)


def _try_to_write(client: Any, directory: str) -> None:
    bucket, name = split_path(directory)
    once = {"retry": None, "timeout": (_CONNECT_SECONDS, _READ_SECONDS)}
    probe = client.bucket(bucket).blob(f"{name.rstrip('/')}/{_PROBE}{secrets.token_hex(4)}".lstrip("/"))
    probe.upload_from_string(b"", **once)
    probe.delete(**once)
