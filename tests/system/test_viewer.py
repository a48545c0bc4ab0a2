"""`floodline view`: the server serves the experiment and nothing else."""

from __future__ import annotations

import json
import subprocess
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import published
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import FLOODLINE


def ask(link: str, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """One request, its path sent as it is."""
    connection = HTTPConnection(urlsplit(link).netloc, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply, content


def test_what_is_published_comes_byte_by_byte(shown, link):
    for name in ("image/info", "neurons/mesh.json", "evaluation/worst.json"):
        reply, content = ask(link, f"/data/{name}")
        assert (reply.status, content) == (200, (shown.folder / name).read_bytes())
        head, nothing = ask(link, f"/data/{name}", "HEAD")
        assert (head.status, head.headers["Content-Length"], nothing) == (200, str(len(content)), b"")


def test_the_state_has_every_layer_and_leaves_the_address_to_the_browser(link):
    with urlopen(f"{link}state.json") as reply:
        layers = {layer["name"]: layer for layer in json.load(reply)["layers"]}
    assert [*layers] == ["image", "truth", "supervoxels", "neurons", "decisions", "mergers", "splits"]
    assert layers["image"]["source"] == "precomputed://{here}data/image"
    assert len(layers["neurons"]["segments"]) > 2


@pytest.fixture(scope="module")
def secret(shown) -> Path:
    """A file beside the experiment, whose folder begins with the experiment's name."""
    path = shown.folder.with_name("shown-secret") / "secret.txt"
    path.parent.mkdir()
    path.write_text("secret")
    return path


@pytest.mark.parametrize(
    "path",
    [
        "/data/../shown-secret/secret.txt",
        "/data/%2e%2e/shown-secret/secret.txt",
        "/data/..%2fshown-secret%2fsecret.txt",
        "/data/image/../../shown-secret/secret.txt",
        "/data/./.././shown-secret/secret.txt",
        "/data/{secret}",
        "/data//{secret}",
        "/data/%2f{secret}",
        "/v/x/{secret}",
        "/v/x/../../../../../../../../../../../../../../{secret}",
        "/v/x//{secret}",
        "/../shown-secret/secret.txt",
        "{secret}",
        "/data/link.txt",
        "/data/folder/secret.txt",
        "/data/loop",
        "/data/image",
        "/data/",
        "/data/image/info%00",
        "/data/" + "x" * 5000,
    ],
)
def test_nothing_outside_is_reachable(shown, link, secret, path):
    for name, target in (("link.txt", secret), ("folder", secret.parent), ("loop", shown.folder / "loop")):
        if not (shown.folder / name).is_symlink():
            (shown.folder / name).symlink_to(target)
    reply, content = ask(link, path.format(secret=secret))
    assert reply.status == 404
    assert b"secret" not in content


def test_links_inside_of_the_experiment_are_followed(shown, link):
    if not (shown.folder / "inside").is_symlink():
        (shown.folder / "inside").symlink_to("image", target_is_directory=True)
    assert ask(link, "/data/inside/info")[1] == (shown.folder / "image/info").read_bytes()


@given(first=st.integers(0, 3000), length=st.integers(1, 3000))
def test_a_range_is_that_part_of_the_file(shown, link, first, length):
    whole = (shown.folder / "config.yaml").read_bytes()
    for header, part in (
        (f"bytes={first}-{first + length - 1}", whole[first : first + length]),
        (f"bytes={first}-", whole[first:]),
        (f"bytes=-{length}", whole[-length:]),
    ):
        reply, content = ask(link, "/data/config.yaml", Range=header)
        if part:
            start = len(whole) - len(part) if header.startswith("bytes=-") else first
            assert (reply.status, content) == (206, part)
            assert reply.headers["Content-Range"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
        else:
            assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=-", "bytes=0-1,4-5", "lines=1-2", "bytes=a-b", "nonsense"])
def test_a_range_that_makes_no_sense_gives_the_whole_file(shown, link, header):
    reply, content = ask(link, "/data/config.yaml", Range=header)
    assert (reply.status, content) == (200, (shown.folder / "config.yaml").read_bytes())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(shown, link, method):
    before = (shown.folder / "image/info").read_bytes()
    assert ask(link, "/data/image/info", method)[0].status == 501
    assert (shown.folder / "image/info").read_bytes() == before


def test_other_names_of_the_address_are_refused(link):
    port = urlsplit(link).port
    assert ask(link, "/data/config.yaml", Host=f"evil.example:{port}")[0].status == 403
    assert ask(link, "/data/config.yaml", Host="localhost:1234")[0].status == 200
    assert ask(link, "/data/config.yaml")[0].headers["Access-Control-Allow-Origin"] is None


def failing(*arguments: object) -> str:
    """What `floodline view` says when it cannot start."""
    run = subprocess.run([FLOODLINE, "view", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_port_that_is_taken_is_one_sentence(shown, link):
    port = urlsplit(link).port
    assert f"cannot serve at 127.0.0.1, port {port} (Address already in use)" in failing(shown.folder, "--port", port)


def test_an_experiment_without_an_image_is_one_sentence(tmp_path):
    published.experiment(tmp_path / "empty")
    assert "image/manifest.json is missing" in failing(tmp_path / "empty")
    assert "config.yaml does not exist" in failing(tmp_path / "nothing")
