"""Object stores and web servers: addresses, credentials, patience, and the sentence when all was in vain.

CloudVolume (precomputed layers) and tensorstore (Zarr, N5) speak to them, with the credentials that boto3 and Google's
library find: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws, the machine's role; and for CloudVolume
its own secret files. AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) names another S3 server than Amazon's.

What may pass (no answer, an answer cut short, too many requests, an error of the server) is tried again after growing
pauses; what will not (refused credentials, no such bucket) is said at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import uniform
from typing import Any
from urllib.parse import quote, urlsplit

from floodline.errors import FloodlineError
from floodline.manifest import read_json, write_json

logger = logging.getLogger("floodline")

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""How long a server may be silent."""

LIBRARIES = {"boto3", "botocore", "cloudfiles", "google", "requests", "urllib3"}
"""Whose errors are about a store."""
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
REFUSED = "the server refuses these credentials, or what they may read and write"
NO_CREDENTIALS = "there are no credentials, neither in AWS_ACCESS_KEY_ID and AWS_PROFILE nor in ~/.aws"
NO_BUCKET = "there is no such bucket"
NO_ANSWER = "the server does not answer"
SILENT = "the server is silent for too long"


def is_url(location: Path | str) -> bool:
    return isinstance(location, str) and "://" in location and not location.startswith("file://")


def name_of(location: Path | str, key: str) -> str:
    """What a sentence calls a file below a location."""
    return f"{str(location).rstrip('/')}/{key}"


@cache
def cloud_volume_class() -> Any:
    """CloudVolume, imported late because that takes a second, and with this module's patience."""
    with warnings.catch_warnings():
        # A library's remarks on Python's age.
        warnings.simplefilter("ignore", FutureWarning)
        from cloudvolume import CloudVolume
    # They tell of every client where its endpoint and credentials came from, and of every connection over ten.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    _teach_patience()
    return CloudVolume


def cloud_files(location: Path | str) -> Any:
    """The files below a folder or URL, as CloudFiles gives them."""
    cloud_volume_class()
    from cloudfiles import CloudFiles

    url = location if is_url(location) else f"file://{Path(location).absolute()}"
    return CloudFiles(url, progress=False, secrets=secrets(location))


def secrets(location: Path | str) -> dict[str, str] | None:
    """Credentials that CloudVolume would not find by itself, those of the machine's role and of ~/.aws among them."""
    if not str(location).startswith("s3://"):
        return None
    import boto3
    from cloudfiles.secrets import aws_credentials_path

    if Path(aws_credentials_path).is_file():
        return None
    session = boto3.Session()
    found = session.get_credentials()
    if found is None:
        raise FloodlineError(f"{location} cannot be reached: {NO_CREDENTIALS}.")
    frozen = found.get_frozen_credentials()
    # CloudFiles looks for it wherever it finds the other two in the environment.
    os.environ.setdefault("AWS_SESSION_TOKEN", "")
    named = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
    if frozen.token:
        named["AWS_SESSION_TOKEN"] = frozen.token
    if session.region_name:
        named["AWS_DEFAULT_REGION"] = session.region_name
    return named


@contextmanager
def reaching(location: Path | str, what: str) -> Iterator[None]:
    """Turns what a store's library raises into a sentence: `location` cannot be `what`.

    Raises:
        FloodlineError: the store cannot be reached, refuses, or fails.
    """
    try:
        yield
    except FloodlineError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in LIBRARIES:
            raise
        raise FloodlineError(f"{location} cannot be {what}: {reason(error)}.") from error


def read_info(location: Path | str) -> dict[str, Any]:
    """The file `info` of a layer.

    Raises:
        FloodlineError: it is missing, or cannot be read.
    """
    if not is_url(location):
        return dict(read_json(Path(location) / "info"))
    with reaching(location, "read"):
        info = cloud_files(location).get_json("info")
    if info is None:
        raise FloodlineError(f"{location}/info is missing: run the stage that writes it first.")
    return dict(info)


def write_info(location: Path | str, info: dict[str, Any]) -> None:
    """Replace the file `info` of a layer.

    Raises:
        FloodlineError: it cannot be written.
    """
    if not is_url(location):
        return write_json(Path(location) / "info", info)
    with reaching(location, "written"):
        cloud_files(location).put_json("info", info, cache_control="no-cache")
    return None


def exists(location: Path | str, key: str) -> bool:
    """Whether a file is there, below a folder or URL."""
    with reaching(location, "read"):
        return bool(cloud_files(location).exists(key))


def remove(location: Path | str, folder: str = "") -> None:
    """Delete a folder below a folder or URL, or all that is there.

    Raises:
        FloodlineError: it cannot be deleted.
    """
    if not is_url(location):
        return shutil.rmtree(Path(location) / folder, ignore_errors=True)
    with reaching(location, "written"):
        files = cloud_files(name_of(location, folder))
        files.delete(files.list())
    return None


def copy(start: Path | str, end: Path | str) -> None:
    """Copy all files below a folder or URL to another, as they are.

    Raises:
        FloodlineError: one cannot be read or written.
    """
    with reaching(start, f"copied to {end}"):
        cloud_files(start).transfer_to(cloud_files(end))


def _teach_patience() -> None:
    """Give CloudFiles time-outs, and let it try again only what may pass.

    It waits for ever where a web server is silent, asks boto3 to wait for minutes, and tries everything again, wrong
    credentials too. tenacity offers a function's policy as its attribute `retry`.
    """
    import boto3
    import botocore.session
    import tenacity
    from botocore.config import Config
    from cloudfiles import interfaces
    from requests.adapters import HTTPAdapter

    class ImpatientAdapter(HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs["timeout"] = kwargs.get("timeout") or (CONNECT_SECONDS, ANSWER_SECONDS)
            return super().send(request, *args, **kwargs)

    interfaces.HttpInterface.adaptor = ImpatientAdapter()
    session = botocore.session.get_session()
    session.set_default_client_config(
        Config(connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 1})
    )
    boto3.setup_default_session(botocore_session=session)
    wanted = patience()
    for interface in (interfaces.HttpInterface, interfaces.S3Interface, interfaces.GoogleCloudStorageInterface):
        for method in vars(interface).values():
            policy = getattr(method, "retry", None)
            if isinstance(policy, tenacity.BaseRetrying):
                policy.retry, policy.stop, policy.wait = wanted.retry, wanted.stop, wanted.wait
                policy.before_sleep = _say_so
    # Listing makes its policy anew each time.
    interfaces.retry = wanted.wraps


def patience() -> Any:
    """tenacity's policy: at most ATTEMPTS, after pauses that double, each shortened at random by up to a half.

    Without chance, many processes that failed together would come again together.
    """
    import tenacity

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=_pause,
        before_sleep=_say_so,
        reraise=True,
    )


def _pause(state: Any) -> float:
    return min(FIRST_PAUSE_SECONDS * 2 ** (state.attempt_number - 1), LONGEST_PAUSE_SECONDS) * uniform(0.5, 1)


def _say_so(state: Any) -> None:
    error = state.outcome.exception()
    logger.warning("%s: trying again in %.1f s.", reason(error), state.next_action.sleep)


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help."""
    import botocore.exceptions
    import requests

    if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
        return False
    if (status := _status(error)) is not None:
        return status in PASSING_STATUS
    return isinstance(
        error,
        requests.RequestException
        | botocore.exceptions.BotoCoreError
        | botocore.exceptions.HTTPClientError
        | OSError
        | _integrity_error(),
    )


def _integrity_error() -> Any:
    from cloudfiles.exceptions import MD5IntegrityError
    from urllib3.exceptions import HTTPError

    return MD5IntegrityError | HTTPError


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
    if response is not None:
        return int(response.status_code)
    code = getattr(error, "code", None)
    if isinstance(code, int) and 100 <= code < 600:
        return code
    match = re.search(r"http_response_code='(\d{3})'|HTTP (?:response code: |code |error )?(\d{3})\b", str(error))
    return int(match[1] or match[2]) if match else None


def reason(error: BaseException) -> str:
    """Why a server could not be read or written, in words; the error's own where it is about something else."""
    text = " ".join(str(error).split()).rstrip(".")
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    kind, status = type(error).__name__, _status(error)
    if code == "NoSuchBucket" or "NoSuchBucket" in text:
        return NO_BUCKET
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return NO_CREDENTIALS
    if status in (401, 403) or "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
        return f"{REFUSED} ({code or f'HTTP status {status or 403}'})"
    if "Timeout" in kind or "timed out" in text or "Timeout" in text or "DEADLINE_EXCEEDED" in text:
        return SILENT
    if status is not None and status >= 400:
        return f"the server answers with HTTP status {status}"
    if kind in ("EndpointConnectionError", "ConnectionError", "ConnectionClosedError") or "Could not connect" in text:
        return NO_ANSWER
    return re.sub(r"\s*\[tensorstore_spec=.*", "", text)


# --- tensorstore -----------------------------------------------------------------------------------------------------


def kvstore(location: Path | str) -> dict[str, Any]:
    """tensorstore's description of a folder or URL.

    Raises:
        FloodlineError: the URL is of no kind that is known.
    """
    if not is_url(location):
        path = str(location).removeprefix("file://")
        return {"driver": "file", "path": f"{Path(path).absolute()}/"}
    scheme, rest = str(location).split("://", 1)
    host, _, path = rest.rstrip("/").partition("/")
    path = f"{path}/" if path else ""
    match scheme:
        case "s3":
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            more: dict[str, Any] = {"endpoint": endpoint, "aws_region": region or "us-east-1"} if endpoint else {}
            return {"driver": "s3", "bucket": host, "path": path, **more}
        case "gs":
            return {"driver": "gcs", "bucket": host, "path": path}
        case "http" | "https":
            split = urlsplit(str(location))
            query = f"?{split.query}" if split.query else ""
            return {"driver": "http", "base_url": f"{scheme}://{host}{query}", "path": f"/{quote(path, safe='/%')}"}
    raise FloodlineError(f"{location} is at no address that is known: s3://, gs://, http:// and https:// are.")


@cache
def context() -> Any:
    """tensorstore's settings: this module's patience, and no cache beside the boxes that are read."""
    import tensorstore

    patience = {
        "max_retries": ATTEMPTS,
        "initial_delay": f"{FIRST_PAUSE_SECONDS}s",
        "max_delay": f"{LONGEST_PAUSE_SECONDS}s",
    }
    stores = {f"{store}_request_retries": patience for store in ("http", "s3", "gcs")}
    return tensorstore.Context({**stores, "cache_pool": {"total_bytes_limit": 0}})


def settled(future: Any, name: str) -> Any:
    """What a tensorstore operation gives.

    Raises:
        FloodlineError: it failed, or took too long.
    """
    try:
        return future.result(timeout=ATTEMPTS * (ANSWER_SECONDS + LONGEST_PAUSE_SECONDS))
    except TimeoutError:
        raise FloodlineError(f"{name} cannot be read: {SILENT}.") from None
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise FloodlineError(f"{name} cannot be read: {reason(error)}.") from error


def read_json_at(location: Path | str, key: str) -> Any | None:
    """A JSON file below a folder or URL; None if there is none.

    Raises:
        FloodlineError: the server cannot be read, or the file is not JSON.
    """
    import tensorstore

    name = name_of(location, key)
    store = settled(tensorstore.KvStore.open(kvstore(location), context=context()), name)
    found = settled(store.read(key), name)
    if found.state != "value":
        return None
    try:
        return json.loads(found.value)
    except ValueError as error:
        raise FloodlineError(f"{name} is not valid JSON: {error}.") from None
