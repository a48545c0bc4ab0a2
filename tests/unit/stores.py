"""A real S3 server, a plain web server, and a proxy that misbehaves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "em-test"
KEY, SECRET = "testkey", "testsecret"


def credentials(endpoint: str) -> dict[str, str]:
    """The environment in which every library finds the server."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_port() -> int:
    """A port whose neighbour for gRPC, 10000 above, is free, too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port > 50000:
                continue
            try:
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return int(port)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """The address of a SeaweedFS server with one bucket, which refuses wrong secrets and unknown buckets."""
    names = ("master", "volume", "filer", "s3", "admin")
    ports = {name: free_port() for name in names}
    weed = Path(sys.executable).with_name("weed")
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    command = [
        *(str(weed), "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-admin.ui=false", "-webdav=false", f"-bucket={BUCKET}"),
        *("-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", *options),
    ]
    log = (folder / "weed.log").open("wb")
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder) as server:
        try:
            _wait(server, f"{endpoint}/healthz", folder / "weed.log")
            _wait_for_bucket(endpoint)
            yield endpoint
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
            shutil.rmtree(folder, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


def _wait_for_bucket(endpoint: str) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    until = time.monotonic() + 60
    while BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        assert time.monotonic() < until
        time.sleep(0.2)


class Misbehaving(ThreadingHTTPServer):
    """Passes requests on to another server, unless it is told otherwise.

    status: what the next `times` requests are answered with; 0: they get no answer.
    asked: when each request came.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.target = target.removeprefix("http://")
        self.status, self.times = 503, 0
        self.asked: list[float] = []
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def fail(self, status: int, times: int = 10**6) -> None:
        with self.lock:
            self.status, self.times, self.asked = status, times, []

    def pauses(self) -> list[float]:
        return [b - a for a, b in zip(self.asked, self.asked[1:], strict=False)]


class _Proxy(BaseHTTPRequestHandler):
    server: Misbehaving
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.asked.append(time.monotonic())
            failing = self.server.times > 0
            self.server.times -= failing
            status = self.server.status
        if failing and status == 0:
            self.server.closing.wait(60)
            self.close_connection = True
        elif failing:
            self._reply(status, {}, b"")
        else:
            self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        connection = HTTPConnection(self.server.target, timeout=60)
        # The host stays as it was asked for: it is part of what S3 signs.
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        content = reply.read()
        headers = {k: v for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
        self._reply(reply.status, headers, content)
        connection.close()

    def _reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if isinstance(server, Misbehaving):
            server.closing.set()
        server.shutdown()
        server.server_close()


class Files(SimpleHTTPRequestHandler):
    """A folder as a web server shows precomputed layers: `X` from `X.gz`, and ranges of what is not packed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        packed = path.with_name(f"{path.name}.gz")
        if path.is_file():
            content, headers, status = path.read_bytes(), {}, 200
            if (asked := self.headers.get("Range")) is not None:
                start, _, stop = asked.removeprefix("bytes=").partition("-")
                size = len(content)
                content, status = content[int(start) : int(stop) + 1 if stop else size], 206
                headers = {"Content-Range": f"bytes {start}-{int(start) + len(content) - 1}/{size}"}
        elif packed.is_file():
            content, headers, status = packed.read_bytes(), {"Content-Encoding": "gzip"}, 200
        else:
            content, headers, status = b"", {}, 404
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


def web_server(folder: Path) -> ThreadingHTTPServer:
    """A plain web server of a folder; its address is `address_of(server)`."""
    return ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder)))


def address_of(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"
