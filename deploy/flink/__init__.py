"""A Flink cluster on this machine: `python -m deploy.flink --help`."""
