"""A subscriber in a process of its own: takes POSTs on a free port, and verifies each with nothing but what it was sent.

    python -m tests.e2e.receiver DIRECTORY

prints its port, and keeps each message it accepted as DIRECTORY/<webhook-id>.<n>.json. A statement that both keys did not sign
is answered with 422, and kept nowhere.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.succession import read


class Receiver(BaseHTTPRequestHandler):
    """Says 204 to a statement that holds and 422 to any other."""

    folder: Path

    def do_POST(self) -> None:
        """Verify, keep, answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            read(body)
        except RemoteProtocolError:
            self.send_response(422)
        else:
            name = self.headers["webhook-id"]
            count = len(list(self.folder.glob(f"{name}.*")))
            (self.folder / f"{name}.{count}.json").write_bytes(body)
            self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Standard error belongs to faults."""


if __name__ == "__main__":
    Receiver.folder = Path(sys.argv[1])
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    print(server.server_port, flush=True)
    server.serve_forever()
