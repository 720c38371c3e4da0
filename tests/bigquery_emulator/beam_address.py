"""Leads Beam to the emulator: Beam has no option for BigQuery's address."""

from collections.abc import Callable, Mapping
from typing import Any

# The first is google-cloud-bigquery's own.
REST_HOST = "BIGQUERY_EMULATOR_HOST"
READ_HOST = "BIGQUERY_STORAGE_EMULATOR_HOST"


def lead_beam_to(variables: Mapping[str, str], set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Leads Beam's clients of BigQuery in this process to an emulator, without credentials.

    Args:
        variables: name its addresses.
        set_attribute: as `setattr`; pytest's undoes it after the test.
    """
    import grpc
    from apache_beam.io.gcp.bigquery_tools import BigQueryWrapper
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2
    from google.cloud import bigquery_storage_v1
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    client = bigquery_storage_v1.BigQueryReadClient

    def rest_client(pipeline_options: object) -> Any:
        url = f"{variables[REST_HOST]}/bigquery/v2/"
        return BigqueryV2(url=url, get_credentials=False, response_encoding="utf8")

    def read_client() -> Any:
        return client(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(variables[READ_HOST])))

    set_attribute(BigQueryWrapper, "_bigquery_client", staticmethod(rest_client))
    set_attribute(bigquery_storage_v1, "BigQueryReadClient", read_client)
