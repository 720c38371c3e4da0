"""Ports of this machine."""

import socket


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listened on just now."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
