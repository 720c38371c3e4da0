"""Runs the graph of a job that was made for Dataflow, in the environment of whoever runs it; needs Beam alone."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment


def run_graph(graph: Any) -> None:
    """Runs a graph in this process instead of the image that it names, on Beam's local runner."""
    here = EmbeddedPythonEnvironment.default().to_runner_api(None)
    for environment in graph.components.environments.values():
        environment.CopyFrom(here)
    FnApiRunner().run_via_runner_api(graph, PipelineOptions([])).wait_until_finish()


def main(arguments: Sequence[str]) -> None:
    """Runs the graph in a file: `python run_graph.py GRAPH`."""
    run_graph(beam_runner_api_pb2.Pipeline.FromString(Path(arguments[0]).read_bytes()))


if __name__ == "__main__":
    main(sys.argv[1:])
