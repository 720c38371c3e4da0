"""A worker process of the local runner: Beam's own harness, which here ends with its driver."""

import sys

from apache_beam.runners.worker import sdk_worker_main

from beam_pipelines.google_access import go_anonymous_without_credentials
from beam_pipelines.orphans import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    go_anonymous_without_credentials()
    sdk_worker_main.main(sys.argv)
