"""Runs bqemulator, in its own environment, with what Beam's `ReadFromBigQuery(query=…)` asks of BigQuery besides.

    python server.py PROJECT

Ports are free ones, and are logged. The process ends when its standard input does.
"""

import os
import re
import sys
import threading
from typing import Any

from bqemulator.api.routes import datasets, jobs, upload  # type: ignore[import-not-found]
from bqemulator.cli import main  # type: ignore[import-not-found]

_LABEL = re.compile(r"labels\.([^:\s]+):(\S+)")


def keep_query_results() -> None:
    """Lets queries write to the destination table that they name."""
    handle = jobs._handle_query_job

    async def handle_with_destination(project_id: str, job_id: str, config: dict[str, Any], **keywords: Any) -> Any:
        query = config["query"]
        destination = query.get("destinationTable")
        if destination and not keywords["dry_run"]:
            name = ".".join(destination[part] for part in ("projectId", "datasetId", "tableId"))
            settings = {"destinationTable", "writeDisposition", "createDisposition"}
            kept = {key: value for key, value in query.items() if key not in settings}
            config = {**config, "query": {**kept, "query": f"CREATE OR REPLACE TABLE `{name}` AS\n{query['query']}"}}
        return await handle(project_id, job_id, config, **keywords)

    jobs._handle_query_job = handle_with_destination


def list_datasets_by_label() -> None:
    """Lets lists of data sets be filtered by label; otherwise Beam, tidying up after itself, deletes all there are."""

    def list_labelled(project_id: str, ctx: datasets._Ctx, filter: str = "") -> dict[str, Any]:  # noqa: A002
        listed: dict[str, Any] = datasets.list_datasets(project_id, ctx, maxResults=1000)
        wanted = _LABEL.findall(filter)
        found = [
            dataset
            for dataset in listed["datasets"]
            if all((dataset.get("labels") or {}).get(label) == value for label, value in wanted)
        ]
        return {**listed, "datasets": found, "totalItems": len(found)}

    datasets.router.add_api_route("/projects/{project_id}/datasets", list_labelled, methods=["GET"])
    datasets.router.routes.insert(0, datasets.router.routes.pop())


def take_any_upload() -> None:
    """Lets uploads be of no type in particular, as those of google-cloud-bigquery are."""
    is_permitted = upload._is_permitted_media_type
    upload._is_permitted_media_type = lambda media_type: media_type == "*/*" or is_permitted(media_type)


def end_with_standard_input() -> None:
    """Ends this process at once when whoever started it is gone."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    keep_query_results()
    list_datasets_by_label()
    take_any_upload()
    main(["start", "--rest-port", "0", "--grpc-port", "0", "--log-format", "json", "--project", sys.argv[1]])
