"""BigQuery on loopback: bqemulator (on DuckDB) in a process and an environment of its own.

    with BigQueryEmulator() as emulator:
        emulator.variables  # lead google-cloud-bigquery, and Beam in processes started with them, to it
        lead_beam_to(emulator.variables, monkeypatch.setattr)  # leads Beam in this process to it

It answers dry runs with 0 bytes, gives every read session one stream, and cannot export.
"""

from tests.bigquery_emulator.emulator import BigQueryEmulator

__all__ = ["BigQueryEmulator"]
