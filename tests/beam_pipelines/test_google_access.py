import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
import requests
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.api_core.exceptions import Forbidden, NotFound, RetryError
from google.auth.exceptions import RefreshError
from google.cloud.storage.exceptions import InvalidResponse

from beam_pipelines import cloud_files, files, google_access
from beam_pipelines.errors import OptionError, StorageError
from beam_pipelines.google_access import check_access, explain, explain_text, go_anonymous_without_credentials
from beam_pipelines.runners import LocalRunner
from tests.cloud_storage_server import BUCKET, Answer, Asked, CloudStorageServer, Operation

ROOT = f"gs://{BUCKET}"
URL = f"https://storage.googleapis.com/storage/v1/b/{BUCKET}/o/a%20b.csv?alt=json"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudStorageServer]:
    with CloudStorageServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
        yield server


@pytest.fixture
def with_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_access, "has_google_credentials", lambda: True)


def refuse(status: int, operation: Operation, server: CloudStorageServer) -> None:
    server.answer = lambda asked: status if asked.operation == operation else None


def make_error(kind: Any, *arguments: object) -> Exception:
    """Returns an error of Google's libraries, which have no types."""
    error = kind(*arguments)
    assert isinstance(error, Exception)
    return error


def refusal() -> requests.Response:
    """Returns what the library keeps of an upload that was refused."""
    response = requests.Response()
    response.status_code = 403
    response.request = requests.Request(
        "POST", f"https://storage.googleapis.com/upload/storage/v1/b/{BUCKET}/o"
    ).prepare()
    return response


def operations(server: CloudStorageServer) -> list[str]:
    return [asked.operation for asked in server.asked]


def test_what_may_be_used_is_asked_for_once(server: CloudStorageServer) -> None:
    path = server.put("a/list.csv", b"x")
    check_access([path, path, f"{ROOT}/a", f"{ROOT}/b/*.csv"], [f"{ROOT}/out", f"{ROOT}/out", ROOT])
    assert operations(server) == ["stat", "stat", "list", "list", "write", "delete", "write", "delete"]
    assert list(server.objects()) == ["a/list.csv"]


def test_other_paths_cost_nothing() -> None:
    program = (
        "import sys; from beam_pipelines.google_access import check_access\n"
        "check_access(['list.csv', '', 'hdfs://a/b'], ['/tmp/out', ''])\n"
        "print(sorted({'apache_beam', 'google.cloud.storage', 'google.auth'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_a_missing_bucket(server: CloudStorageServer) -> None:
    for reads, writes in ((["gs://nobody/a.csv"], []), (["gs://nobody/*"], []), ([], ["gs://nobody/a.csv"])):
        with pytest.raises(OptionError, match=r"^there is no bucket nobody: make it, or mend gs://nobody/"):
            check_access(reads, writes)
    assert len(server.asked) <= 4


@pytest.mark.parametrize("path", ["gs://", "gs:///a", "gs://Bad_Name/a", "gs://a b/c"])
def test_no_bucket_at_all(path: str) -> None:
    with pytest.raises(OptionError, match="names no bucket: give gs://BUCKET/PATH"):
        check_access([path], [])


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("operation", "role"), [("stat", "Viewer"), ("write", "User"), ("delete", "User")])
def test_refused_without_credentials(server: CloudStorageServer, status: int, operation: Operation, role: str) -> None:
    refuse(status, operation, server)
    with pytest.raises(OptionError) as refused:
        check_access([f"{ROOT}/a"], [f"{ROOT}/out"])
    place = f"{ROOT}/{'a' if operation == 'stat' else 'out'}"
    assert str(refused.value).startswith(f"Google Cloud Storage refuses {place} ({status}: nobody does not have")
    assert str(refused.value).endswith(
        "asked anonymously as there are no Google credentials here: run `gcloud auth application-default login`, "
        f"with an account that has the role Storage Object {role}"
    )
    assert len(server.asked) <= 4


@pytest.mark.usefixtures("with_credentials")
def test_refused_with_credentials() -> None:
    assert explain(make_error(Forbidden, f"GET {URL}: no")) == (
        f"Google Cloud Storage refuses {ROOT}/a b.csv (403: no): "
        "give these Google credentials the role Storage Object Viewer on it"
    )
    assert explain_text(f"google.api_core.exceptions.Unauthorized: 401 DELETE {URL}: Invalid Credentials").endswith(
        "(401: Invalid Credentials): renew the Google credentials with `gcloud auth application-default login`"
    )


def test_what_may_pass_is_left_to_the_run(server: CloudStorageServer) -> None:
    for status in (429, 500, 503):
        refuse(status, "stat", server)
        check_access([f"{ROOT}/a"], [])
    assert operations(server) == ["stat"] * 3


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    with pytest.raises(OptionError, match=f"^there is no connection to {address}, which STORAGE_EMULATOR_HOST names$"):
        check_access([f"{ROOT}/a"], [])


def test_credentials_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nobody/has/this.json")
    with pytest.raises(OptionError, match=r"^the Google credentials cannot be used \(File /nobody/has/this\.json"):
        check_access([f"{ROOT}/a"], [])


def test_beam_is_told_that_there_are_no_credentials(
    server: CloudStorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(_: PipelineOptions) -> None:
        pytest.fail("it searches for credentials")

    monkeypatch.setattr(auth._Credentials, "_get_service_credentials", search)
    server.put("a", b"x")
    go_anonymous_without_credentials()
    assert FileSystems.exists(f"{ROOT}/a")
    assert operations(server) == ["stat"]


@pytest.mark.usefixtures("with_credentials")
def test_beam_is_told_nothing_where_there_are_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
    go_anonymous_without_credentials()
    assert not auth._Credentials._credentials_init


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (make_error(NotFound, f"GET {URL}: No such object: a-bucket/a b.csv"), f"there is no object {ROOT}/a b.csv"),
        (
            make_error(NotFound, f"GET {URL}: The specified bucket does not exist."),
            f"there is no bucket {BUCKET}: make it, or mend {ROOT}/a b.csv",
        ),
        (
            BeamIOError("List operation failed", {ROOT: make_error(Forbidden, f"GET {URL}: no")}),
            f"{ROOT}/a b.csv (403: no)",
        ),
        (BeamIOError("Delete operation failed", {f"{ROOT}/a": 403}), f"refuses {ROOT}/a (403)"),
        (BeamIOError("Rename operation failed", {(f"{ROOT}/a", f"{ROOT}/b"): 403}), f"refuses {ROOT}/b (403)"),
        (
            make_error(InvalidResponse, refusal(), "Request failed with status code", 403, "Expected one of", 200),
            "(403",
        ),
        (
            make_error(RefreshError, "invalid_grant: Bad Request", {}),
            "credentials cannot be used (('invalid_grant: Bad Request', {",
        ),
        (requests.ConnectionError(f"Max retries exceeded with url: {URL}"), "there is no connection to "),
        (
            make_error(RetryError, "Timeout of 120.0s exceeded", requests.ConnectionError(URL)),
            "there is no connection to ",
        ),
        (
            make_error(Forbidden, "POST https://bigquery.googleapis.com/v2/p: no"),
            "bigquery.googleapis.com answers with 403: no",
        ),
        (ValueError("403 pictures are missing"), ""),
        (OSError("[Errno 28] No space left on device"), ""),
    ],
)
def test_errors_are_explained_as_such_and_as_text(error: Exception, told: str) -> None:
    assert told in explain(error)
    text = (
        f"Traceback:\n  File x, line 403\n{type(error).__module__}.{type(error).__name__}: {error} [while running 'A']"
    )
    explained = explain_text(f"{text}\n")
    assert told in explained
    assert bool(told) == bool(explained)
    assert "\n" not in explained
    assert "while running" not in explained


def test_an_error_that_came_of_a_refusal_is_explained() -> None:
    error = RuntimeError("something failed")
    error.__cause__ = make_error(Forbidden, f"GET {URL}: no")
    assert f"refuses {ROOT}/a b.csv (403: no)" in explain(error)


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("operation", ["list", "read", "stat", "batch"])
def test_beams_own_reads_and_writes_end_at_once_and_are_explained(
    server: CloudStorageServer, status: int, operation: Operation
) -> None:
    """Refused uploads of Beam's are tried in processes of their own: they are tried again when they are forgotten."""
    go_anonymous_without_credentials()
    server.put("in.txt", b"a\nb\n")
    refuse(status, operation, server)
    with pytest.raises(Exception) as failed:  # noqa: PT011  (it is what must be explained)
        run_copy()
    assert {401: "(401", 403: "(403", 404: "there"}[status] in explain(failed.value)
    assert len(server.asked) <= 15


def run_copy() -> None:
    with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions([])) as pipeline:
        pipeline | beam.io.ReadFromText(f"{ROOT}/in*.txt") | beam.io.WriteToText(f"{ROOT}/out")


def test_files_are_listed_read_and_deleted_in_few_requests(server: CloudStorageServer) -> None:
    for number in range(250):
        server.put(f"d/{number % 5}/{number}", b"xyz")
    server.put("d/[1]/*", b"x")
    server.put("d/folder/", b"")
    assert files.list_directory(f"{ROOT}/d") == ["0", "1", "2", "3", "4", "[1]", "folder"]
    assert len(files.list_files(f"{ROOT}/d")) == 251
    assert files.list_files(f"{ROOT}/d/[1]") == ["*"]
    assert files.list_directory(f"{ROOT}/none") == files.list_files(f"{ROOT}/none") == []
    assert files.size(f"{ROOT}/d/0/5") == 3
    assert files.read_bytes(f"{ROOT}/d/0/5") == b"xyz"
    assert operations(server) == ["list"] * 5 + ["stat", "read"]
    server.asked.clear()
    files.remove_tree(f"{ROOT}/d")
    assert operations(server) == ["list", "batch", "batch", "batch"]
    assert list(server.objects()) == ["d/folder/"]
    files.remove(f"{ROOT}/none")
    files.remove_tree(f"{ROOT}/none")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("operation", "use"),
    [
        ("read", lambda: files.read_bytes(f"{ROOT}/a")),
        ("stat", lambda: contextlib.ExitStack().enter_context(files.open_to_read(f"{ROOT}/a"))),
        ("read", lambda: list(files.read_lines(f"{ROOT}/a"))),
        ("stat", lambda: files.exists(f"{ROOT}/a")),
        ("stat", lambda: files.size(f"{ROOT}/a")),
        ("list", lambda: files.list_files(ROOT)),
        ("list", lambda: files.list_entries(ROOT)),
        ("list", lambda: files.list_directory(ROOT)),
        ("write", lambda: files.write_bytes(f"{ROOT}/a", b"y")),
        ("write", lambda: files.write_lines(f"{ROOT}/a", ["y"])),
        ("delete", lambda: files.remove(f"{ROOT}/a")),
        ("batch", lambda: files.remove_tree(ROOT)),
    ],
)
def test_a_refusal_is_no_missing_file(
    server: CloudStorageServer, status: int, operation: Operation, use: object
) -> None:
    assert callable(use)
    server.put("a", b"x\n")
    server.put("b", b"x\n")
    refuse(status, operation, server)
    with pytest.raises(StorageError, match=rf"^Google Cloud Storage refuses {ROOT}\S* \({status}"):
        use()
    assert len(server.asked) <= 2
    assert server.objects() == {"a": b"x\n", "b": b"x\n"}


def test_a_bucket_that_is_not_there_is_no_missing_file(server: CloudStorageServer) -> None:
    with pytest.raises(StorageError, match=r"^there is no bucket nobody"):
        files.list_files("gs://nobody/a")
    with pytest.raises(StorageError, match=r"^there is no bucket nobody"):
        files.write_bytes("gs://nobody/a", b"x")
    assert not files.exists("gs://nobody/a")


@pytest.mark.parametrize("pieces", [0, 1, 2, 3])
def test_an_upload_that_breaks_off_is_made_again_and_never_seen_half(
    server: CloudStorageServer, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(cloud_files, "_PIECE_BYTES", 4 << 20)
    content = os.urandom(9 << 20)
    writes = 0

    def break_off(asked: Asked) -> Answer:
        nonlocal writes
        assert "large" not in server.objects()
        writes += asked.operation == "write"
        return "break off" if writes == pieces + 1 else None

    server.answer = break_off
    files.write_bytes(f"{ROOT}/large", content)
    server.answer = lambda asked: None
    assert server.objects() == {"large": content}
    assert files.read_bytes(f"{ROOT}/large") == content


def test_an_upload_that_cannot_be_finished_leaves_the_old_object(
    server: CloudStorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_files, "_PIECE_BYTES", 4 << 20)
    server.put("large", b"old")
    server.answer = lambda asked: 403 if server.count("write") >= 2 else None
    with pytest.raises(StorageError, match=rf"^Google Cloud Storage refuses {ROOT}/large \(403"):
        files.write_bytes(f"{ROOT}/large", bytes(9 << 20))
    assert server.objects() == {"large": b"old"}


def test_large_objects_are_read_in_pieces(server: CloudStorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_files, "_PIECE_BYTES", 1000)
    content = os.urandom(2500)
    server.put("large", content)
    with files.open_to_read(f"{ROOT}/large") as file:
        assert file.read(10) == content[:10]
        assert server.count("read") == 1
        assert file.read(2000) == content[10:2010]
        file.seek(5)
        assert file.read() == content[5:]


def test_what_a_killed_check_left_is_deleted(server: CloudStorageServer) -> None:
    for name in ("out/.unfinished-probe-1", "out/a", "other/.unfinished-probe-2"):
        server.put(name, b"x")
    files.remove_unfinished(f"{ROOT}/out")
    assert list(server.objects()) == ["other/.unfinished-probe-2", "out/a"]


def test_a_bucket_is_not_asked_about_beside_every_object(server: CloudStorageServer) -> None:
    """As Google's library does of its own accord, in a thread of its own."""
    server.put("a", b"x")
    files.read_bytes(f"{ROOT}/a")
    assert os.environ["DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"] == "true"
    assert operations(server) == ["read"]
