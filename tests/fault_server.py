"""An S3 server on this machine behind a door that can be told to fail."""

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Door(ThreadingHTTPServer):
    """Passes requests on to another server, and breaks some of them.

    Args:
        port: of the other server on this machine.

    Attributes:
        faults: pairs of a method and what happens to its next request: "503", or "cut", which
            breaks the connection in the middle of the answer.
        closed_after: the number of PUTs after which all of them fail; `None` for never.
        seen: methods and paths of all requests.
    """

    daemon_threads = True

    def __init__(self, port: int):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.other = port
        self.faults: list[tuple[str, str]] = []
        self.closed_after: int | None = None
        self.seen: list[tuple[str, str]] = []
        self.puts = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Say nothing: broken connections are what it is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _pass_on(self):
        server = self.server
        body = self._body()
        server.seen.append((self.command, self.path))
        is_object = self.path.count("/") > 1
        fault = next((one for one in server.faults if one[0] == self.command), None)
        if fault and is_object:
            server.faults.remove(fault)
        else:
            fault = None
        if self.command == "PUT" and is_object:
            server.puts += 1
            if server.closed_after is not None and server.puts > server.closed_after:
                fault = ("PUT", "503")
        if fault and fault[1] == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        other = http.client.HTTPConnection("127.0.0.1", server.other)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
        other.request(self.command, self.path, body, headers)
        answer = other.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on


@contextmanager
def serving(server):
    """Run a server of `http.server` in a thread for a while."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
