"""`floodline view`: one experiment and the Neuroglancer client, served to a browser. No network is needed.

/                the link to open: it sends the browser to the client with the experiment's state; a query changes that:
                 ?at=x,y,z goes to a voxel, and ?neurons=1,2 (or another layer's name) selects segments
/report.html     the report, whose links into the viewer lead here
/state.json      that state; `{here}` in it stands for the address at which the browser found this server
/v/floodline/    the client that the neuroglancer package carries
/events/         where the client waits for news, of which there is none
/data/           the experiment's folder

The browser itself fills in the address, so that ports forwarded by ssh, proxies and their path prefixes all work.
Nothing can be written, and no file outside of the experiment's folder is served, whatever links point to it; layers
in an object store are fetched from there, with the credentials of who runs the command.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import re
import socket
import threading
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from floodline.errors import FloodlineError
from floodline.experiment import Experiment
from floodline.publishing import state
from floodline.software import SETUP
from floodline.volumes.remote import cloud_files, is_url, reaching

logger = logging.getLogger("floodline")

LAYERS = ("image", *state.SEGMENTATIONS)
ADDRESS = "http://127.0.0.1:8080/"
"""Where `floodline view` serves unless told otherwise: where the report's links lead when it is opened as a file."""
LOOPBACK = ("127.0.0.1", "localhost")
OPENING = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>floodline</title>
<link rel="icon" href="data:,"></head><body><p id="p">Opening the viewer.</p><script>
const here = new URL(".", location.href).href;
fetch("state.json").then(async (reply) => {
  const text = await reply.text();
  if (!reply.ok) { document.getElementById("p").textContent = text; return; }
  const state = JSON.parse(text.replaceAll("{here}", here));
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name === "at") state.position = value.split(",").map(voxel => Number(voxel) + 0.5);
    for (const layer of state.layers.filter(layer => layer.name === name))
      Object.assign(layer, {segments: value.split(","), visible: true});
  }
  location.replace("v/floodline/#!" + encodeURIComponent(JSON.stringify(state)));
});
</script></body></html>
"""
# Into the client's page: the way to everything else that there is of the run.
TO_REPORT = (
    b'<a href="../../report.html" style="position:fixed;right:8px;bottom:6px;z-index:1000;padding:2px 8px;'
    b'border-radius:3px;background:#fffd;color:#0b5a8a;font:13px sans-serif">Report</a>'
)
TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
PIECE_BYTES = 2**20
SECONDS_BETWEEN_SIGNS_OF_LIFE = 15.0


def run(experiment: Experiment, host: str, port: int, allow_origin: str | None = None) -> None:
    """Print the link, and serve it until Ctrl-C. The arguments are those of `Server`."""
    name = experiment.config.name
    with Server(experiment, host, port, allow_origin) as server:
        print(f"The viewer of {name}: {server.url} (Ctrl-C ends it)")
        if (experiment.folder / "report.html").is_file():
            print(f"The report: {server.url}report.html")
        if server.only_loopback and "SSH_CONNECTION" in os.environ:
            there, port = f"{getpass.getuser()}@{socket.gethostname()}", server.server_address[1]
            print(f"To open them elsewhere, forward the port first: ssh -N -L {port}:127.0.0.1:{port} {there}")
        print(end="", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


class Server(ThreadingHTTPServer):
    """Serves one experiment; `url` is its link.

    Args:
        host: address to listen on; other machines reach only one that is not a loopback address.
        port: to listen on; 0: any that is free.
        allow_origin: web site whose pages may read the data, for a viewer hosted elsewhere; None: no other's.

    Raises:
        FloodlineError: there is nothing to show, or the address is taken or not this machine's.
    """

    def __init__(self, experiment: Experiment, host: str, port: int, allow_origin: str | None = None) -> None:
        state.build(experiment, "")
        self.experiment, self.allow_origin = experiment, allow_origin
        self.folder, self.client = experiment.folder.resolve(), client()
        self.closing = threading.Event()
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FloodlineError(
                f"cannot serve at {host}, port {port} ({reason}): name another --port, or 0 for any that is free."
            ) from None
        self.url = f"http://{host}:{self.server_address[1]}/"
        self.only_loopback = host in LOOPBACK

    def server_close(self) -> None:
        self.closing.set()
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no error; anything else goes to the log."""
        logger.debug("a request of %s failed", client_address, exc_info=True)


@cache
def client() -> Path:
    """The folder of the Neuroglancer client.

    Raises:
        FloodlineError: the neuroglancer package is there without it.
    """
    folder = Path(str(files("neuroglancer.static") / "client"))
    if not (folder / "index.html").is_file():
        raise FloodlineError(f"{folder} lacks the Neuroglancer client: run {SETUP}.")
    return folder.resolve()


def inside(root: Path, path: str) -> Path | None:
    """The file that a path below `root`, a resolved folder, leads to; None if there is none inside of `root`."""
    try:
        file = (root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    # A null byte, a loop of links, or a folder that may not be read.
    except (ValueError, RuntimeError, OSError):
        return None


def byte_range(header: str, size: int) -> range | None:
    """Bytes of a file that a `Range` header asks for, empty where the file has none; None: the whole file.

    Several ranges at once, and units other than bytes, may be answered with the whole file (RFC 9110, 14.2).
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser. Only GET and HEAD exist."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "floodline"

    def do_GET(self) -> None:
        if self.server.only_loopback and urlsplit(f"//{self.headers.get('Host', '')}").hostname not in LOOPBACK:
            # A page elsewhere can give a loopback address a name of its own, and so read what is served there.
            return self._sentence(HTTPStatus.FORBIDDEN, f"this viewer answers to {' and '.join(LOOPBACK)} only")
        first, _, rest = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        match first:
            case "":
                self._send(OPENING, TYPES[".html"])
            case "favicon.ico":
                # Browsers ask for it unasked.
                self._send(b"", "image/x-icon")
            case "state.json":
                self._state()
            case "report.html":
                self._report()
            case "v":
                page = rest.partition("/")[2]
                if page:
                    self._file(inside(self.server.client, page))
                else:
                    self._client()
            case "events":
                self._events()
            case "data":
                self._data(rest)
            case _:
                self._file(None)
        return None

    do_HEAD = do_GET

    def _head(self, status: HTTPStatus, content_type: str, length: int | None, **more: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.server.allow_origin:
            self.send_header("Access-Control-Allow-Origin", self.server.allow_origin)
            self.send_header("Access-Control-Expose-Headers", "Content-Range")
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _send(self, content: bytes, content_type: str, status: HTTPStatus = HTTPStatus.OK, **more: str) -> None:
        self._head(status, content_type, len(content), **more)
        if self.command == "GET":
            self.wfile.write(content)

    def _sentence(self, status: HTTPStatus, text: str, **more: str) -> None:
        self._send(f"{text}\n".encode(), "text/plain; charset=utf-8", status, **more)

    def _state(self) -> None:
        try:
            # Built anew for each page, so that what was published meanwhile is in it.
            built = state.build(self.server.experiment, "{here}data")
        except FloodlineError as error:
            return self._sentence(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return self._send(json.dumps(built).encode(), TYPES[".json"])

    def _client(self) -> None:
        page = (self.server.client / "index.html").read_bytes()
        report = TO_REPORT if (self.server.folder / "report.html").is_file() else b""
        self._send(page.replace(b"</body>", report + b"</body>"), TYPES[".html"])

    def _report(self) -> None:
        path = inside(self.server.folder, "report.html")
        if path is None:
            return self._file(None)
        here = path.read_bytes().replace(f'href="{ADDRESS}'.encode(), b'href="./')
        return self._send(here, TYPES[".html"])

    def _file(self, path: Path | None) -> None:
        try:
            file = path.open("rb") if path else None
        except OSError:
            file = None
        if path is None or file is None:
            return self._sentence(HTTPStatus.NOT_FOUND, "there is no such file here")
        with file:
            wanted = self._wanted(file.seek(0, 2), TYPES.get(path.suffix, "application/octet-stream"))
            if self.command == "GET":
                file.seek(wanted.start)
                for start in range(0, len(wanted), PIECE_BYTES):
                    self.wfile.write(file.read(min(PIECE_BYTES, len(wanted) - start)))
        return None

    def _wanted(self, size: int, content_type: str) -> range:
        """Answer with the head of a file of this size; the bytes that are to follow it."""
        wanted = byte_range(self.headers.get("Range", ""), size)
        if wanted is None:
            self._head(HTTPStatus.OK, content_type, size, Accept_Ranges="bytes")
            return range(size)
        if not wanted:
            self._sentence(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "no such bytes", Content_Range=f"bytes */{size}")
            return range(0)
        where = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
        self._head(HTTPStatus.PARTIAL_CONTENT, content_type, len(wanted), Content_Range=where)
        return wanted

    def _data(self, rest: str) -> None:
        """A file of the experiment's folder, or of a layer that lies in an object store."""
        path, (layer, _, key) = inside(self.server.folder, rest), rest.partition("/")
        location = self.server.experiment.layer(layer) if layer in LAYERS else self.server.folder
        if path is not None or not is_url(location) or not key or ".." in key.split("/"):
            return self._file(path)
        try:
            with reaching(location, "read"):
                files = cloud_files(location)
                size = files.size(key)
                if size is None:
                    return self._file(None)
                # Two requests, so that a browser that asks for a part gets no more.
                wanted = self._wanted(size, "application/octet-stream")
                if self.command == "GET" and wanted:
                    self.wfile.write(files.get({"path": key, "start": wanted.start, "end": wanted.stop}, raw=True))
        except FloodlineError as error:
            logger.warning("%s", error)
            self.close_connection = True
        return None

    def _events(self) -> None:
        """Hold the line, else the client says for ever that it has lost its server."""
        self._head(HTTPStatus.OK, "text/event-stream", None)
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            while self.command == "GET":
                self.wfile.write(b": nothing new\n\n")
                if self.server.closing.wait(SECONDS_BETWEEN_SIGNS_OF_LIFE):
                    return

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
