"""The emulator's process, and how to lead clients to it."""

import collections
import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.bigquery_emulator.beam_address import READ_HOST, REST_HOST
from tests.bigquery_emulator.environment import emulator_environment, home_of, python_of

_FOLDER = Path(__file__).parent
_START_SECONDS = 120
_LISTENING = ("rest.listen", "grpc.listen")


class BigQueryEmulator:
    """A BigQuery of one project, empty at first, that ends with the block, and with this process however that ends.

    Args:
        project: the project's name.

    Attributes:
        variables: environment variables that lead clients to it.
    """

    def __init__(self, project: str = "museum-project") -> None:
        self.project = project
        self.variables: dict[str, str] = {}

    def __enter__(self) -> "BigQueryEmulator":
        environment = emulator_environment()
        self._process = subprocess.Popen(
            [python_of(environment), _FOLDER / "server.py", self.project],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"HOME": str(home_of(environment)), "PATH": os.environ.get("PATH", "")},
        )
        try:
            ports = self._wait_for_ports()
        except BaseException:
            self._end()
            raise
        self.variables = {
            REST_HOST: f"http://127.0.0.1:{ports['rest.listen']}",
            READ_HOST: f"127.0.0.1:{ports['grpc.listen']}",
            "PYTHONPATH": os.pathsep.join(
                [str(_FOLDER / "start_up"), str(_FOLDER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def load(self, table: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Makes a table `DATASET.TABLE` of columns (their types by name) and rows."""
        from google.cloud import bigquery

        client = self._client()
        client.create_dataset(table.partition(".")[0], exists_ok=True)
        schema = [bigquery.SchemaField(name, kind) for name, kind in columns.items()]
        client.load_table_from_json(
            rows, f"{self.project}.{table}", job_config=bigquery.LoadJobConfig(schema=schema)
        ).result()

    def datasets(self) -> list[str]:
        """Returns the names of the data sets that there are."""
        return [dataset.dataset_id for dataset in self._client().list_datasets()]

    def _client(self) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = {"api_endpoint": self.variables[REST_HOST]}
        return bigquery.Client(project=self.project, credentials=credentials, client_options=options)

    def _wait_for_ports(self) -> dict[str, int]:
        """Reads what the process says until it listens; the rest is read on, so that it never waits for a reader."""
        assert self._process.stdout is not None
        too_late = threading.Timer(_START_SECONDS, self._process.kill)
        too_late.start()
        ports: dict[str, int] = {}
        said: collections.deque[str] = collections.deque(maxlen=20)
        try:
            for line in self._process.stdout:
                said.append(line)
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("event") in _LISTENING:
                    ports[event["event"]] = event["port"]
                if len(ports) == len(_LISTENING):
                    break
            else:
                raise RuntimeError("the emulator ended before it listened:\n" + "".join(said))
        finally:
            too_late.cancel()
        threading.Thread(target=collections.deque, args=(self._process.stdout, 0), daemon=True).start()
        return ports

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
