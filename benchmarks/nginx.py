"""A real web server of our own over loopback: Debian's nginx with its own configuration, port and folder."""

import contextlib
import grp
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from beam_pipelines.errors import RunError

_SECONDS_TO_START = 10.0
# `user` is only meaningful, and only allowed without a warning, for root: workers must read root's cache folder.
_CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    types {{ image/jpeg jpg; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root};
    }}
}}
"""


@contextlib.contextmanager
def serve(root: pathlib.Path) -> Iterator[str]:
    """Serves the files below `root` while the block runs; gives `http://127.0.0.1:<port>`."""
    program = nginx_program()
    with tempfile.TemporaryDirectory(prefix="benchmark-nginx-") as folder:
        port = _free_port()
        configuration = pathlib.Path(folder, "nginx.conf")
        error_log = os.path.join(folder, "error.log")
        user = f"user root {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
        configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, root=root, user=user))
        process = subprocess.Popen([program, "-p", folder, "-e", error_log, "-c", str(configuration)])
        try:
            _wait_for(process, port, pathlib.Path(error_log))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def nginx_program() -> str:
    """Returns the path of nginx, which is installed first if it is missing and we are root on Debian."""
    if program := _find():
        return program
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RunError("nginx is not installed: install it (Debian and Ubuntu: apt-get install nginx-light)")
    # Runlevel 1 keeps the package from starting a server of its own on port 80.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "nginx-light"]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
    if program := _find():
        return program
    raise RunError(f"nginx could not be installed with apt-get: {done.stderr.strip()[-500:]}")


def _find() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(process: subprocess.Popen[bytes], port: int, error_log: pathlib.Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    detail = error_log.read_text() if error_log.exists() else ""
    raise RunError(f"nginx did not start on port {port}: {detail.strip()[-500:]}")
