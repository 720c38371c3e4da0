"""A flex template that launches ingest on Dataflow."""
