"""``procview metrics``: the daemon's numbers for Prometheus, once or over TCP."""

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import click

from procview.cli.options import settings_options

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from procview.client import Client
    from procview.settings import Settings


class _Address(click.ParamType):  # type: ignore[type-arg] # a parameter only of newer clicks
    """An address and a port: ``127.0.0.1:9273``, ``[::1]:9273``."""

    name = "address"

    def convert(
        self, value: str | tuple[str, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """See click."""
        if not isinstance(value, str):
            return value
        host, colon, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} is no address and port, like 127.0.0.1:9273 or [::1]:9273", param, ctx)
        return host, int(port)


@click.command()
@click.option(
    "--listen",
    type=_Address(),
    metavar="ADDRESS:PORT",
    help="Answer GET /metrics there over HTTP, until SIGTERM or SIGINT. There is no access control: whoever can "
    "connect reads the numbers, which name no container.",
)
@settings_options
def metrics(listen: tuple[str, int] | None, settings: "Settings") -> None:
    """Print the daemon's numbers in the text format of Prometheus, which cannot ask a Unix socket itself.

    Asks the daemon over its control socket, as whoever runs this: root, or a user whom the policy allows it.
    """
    from procview.client import AskingError, Client
    from procview.slots.skeleton import Skeleton

    client = Client(Skeleton(settings.run_directory).control_socket, has_socket=settings.control)
    if listen is None:
        try:
            sys.stdout.buffer.write(client.metrics())
        except AskingError as error:
            raise click.ClickException(str(error)) from None
        return
    try:
        server = _server(listen, client)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror or error}") from None
    host, port = server.server_address[:2]
    click.echo(f"procview: metrics are at http://{host!s}:{port}/metrics", err=True)
    _until_told(server)


def _server(listen: tuple[str, int], client: "Client") -> "ThreadingHTTPServer":
    """Raises OSError."""
    import socket
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from procview.client import AskingError

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        """For a request to come, in seconds: who is slower is closed."""

        def do_GET(self) -> None:
            if self.path != "/metrics":
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"there is /metrics\n")
                return
            try:
                body = client.metrics()
            except AskingError as error:
                self._reply(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{error}\n".encode())
            else:
                self._reply(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", body)

        def _reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line for each scrape is of use to nobody."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET

    return Server(listen, Handler)


def _until_told(server: "ThreadingHTTPServer") -> None:
    import signal
    import threading

    def end(*_: object) -> None:
        # In a thread: it waits for the loop that this has interrupted.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with server:
        server.serve_forever()
