"""The application on 127.0.0.1, and nowhere else: Werkzeug's server, one thread for each request."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from cxr_experiments.errors import ConfigError

if TYPE_CHECKING:
    from flask import Flask

HOST = "127.0.0.1"
TIMEOUT_S = 60  # of silence: a connection that says nothing gives its thread back


def free_socket(port: int) -> socket.socket:
    """A socket that listens on this machine's own address.

    Raises:
        ConfigError: the port is taken, or may not be taken.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error  # without the address that Python adds
        raise ConfigError(f"port={port}: {why}; another one, or port=0 for any that is free") from error


def serve(listening: socket.socket, site: Flask) -> None:
    """Answer until Ctrl-C."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        """Writes no line for each request, tells nobody its version, and does not wait for ever."""

        timeout = TIMEOUT_S

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """A request may name a film."""

        def version_string(self) -> str:
            return "cxr_experiments"

    host, port = listening.getsockname()
    make_server(host, port, site, threaded=True, request_handler=Quiet, fd=listening.fileno()).serve_forever()
