"""Starts, describes and ends a Flink cluster on this machine: `python -m deploy.flink --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beam_pipelines.commands import run_command
from deploy.flink.cluster import LocalCluster, Settings
from deploy.flink.installation import cache_directory, get_installation


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 done, 1 failed, 2 wrong options."""
    options = _make_parser().parse_args(arguments)
    return run_command(lambda: options.do(options))


def _up(options: argparse.Namespace) -> None:
    settings = Settings(port=options.port, rpc_port=options.rpc_port, slots=options.slots)
    installation = get_installation()
    cluster = LocalCluster(options.directory)
    cluster.up(settings, installation, task_managers=options.task_managers)
    print(cluster.describe())
    print(f"  --runner FlinkRunner --flink_master {settings.address} --flink_job_server_jar {installation.job_server}")


def _down(options: argparse.Namespace) -> None:
    ended = LocalCluster(options.directory).down()
    print(f"{ended} processes of the Flink cluster ended" if ended else f"no Flink cluster ran in {options.directory}")


def _add_task_manager(options: argparse.Namespace) -> None:
    cluster = LocalCluster(options.directory)
    print(f"{cluster.add_task_manager(get_installation())} joined")
    print(cluster.describe())


def _status(options: argparse.Namespace) -> None:
    print(LocalCluster(options.directory).describe())


def _job_server(_: argparse.Namespace) -> None:
    print(get_installation().job_server)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.flink", description="A Flink cluster on this machine.")
    parser.add_argument(
        "--directory",
        type=Path,
        default=cache_directory() / "flink-cluster",
        help="where the cluster's settings, logs and scratch files lie (default: %(default)s)",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start the cluster, or what is missing of it")
    up.add_argument("--task_managers", type=int, default=2, help="how many (default: %(default)s)")
    up.add_argument("--slots", type=int, default=1, help="of each TaskManager (default: %(default)s)")
    up.add_argument("--port", type=int, default=18081, help="of the REST address (default: %(default)s)")
    up.add_argument("--rpc_port", type=int, default=16123, help="of the JobManager (default: %(default)s)")
    up.set_defaults(do=_up)
    for name, do, purpose in (
        ("taskmanager", _add_task_manager, "start one more TaskManager"),
        ("status", _status, "say what runs"),
        ("down", _down, "end the cluster"),
        ("job-server", _job_server, "say where the jar of Beam's job server lies; it is got if it is not there"),
    ):
        commands.add_parser(name, help=purpose).set_defaults(do=do)
    return parser


if __name__ == "__main__":
    sys.exit(main())
