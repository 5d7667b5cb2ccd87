"""Photographs by http, politely: one request after the other, at the pace that a server asks for.

Understands the image addresses and manifests of IIIF (Image API 2 and 3, Presentation API 2 and 3).
"""

import email.utils
import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline_colorize import __version__
from pipeline_colorize.photo import PhotoError

PAUSE = 0.4
"""Seconds from one request to a server to the next: 150 a minute, as large libraries allow."""

SMALL = "!512,512"
"""The size that is asked of a IIIF server for colours alone."""

_TRIES = 6
_LONGEST_WAIT = 300.0  # seconds that a server may ask for
_TIMEOUT = 60.0
_LARGEST_JSON = 50_000_000
_IMAGE = re.compile(
    r"(?P<base>.+)/(?P<region>full|square|(pct:)?[\d.]+(,[\d.]+){3})/"
    r"(?P<size>max|full|\^?!?(pct:)?[\d.,]+|\^max)/(?P<turn>!?[\d.]+)/"
    r"(?P<quality>default|color|colour|gray|grey|bitonal|native)\.(?P<ending>\w+)"
)
_WAITING = (429, 503)
_PASSING = (408, 500, 502, 504, *_WAITING)

_turns: dict[str, float] = {}  # when each server may be asked again
_lock = threading.Lock()


@dataclass(frozen=True)
class WebFile:
    """A photograph at an address of http, with what the command uses of a path.

    Args:
        address: where it is.
        name: of the file, from which its result is named.
    """

    address: str
    name: str

    @property
    def stem(self) -> str:
        """Return the name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Return the ending of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> PurePosixPath:
        """Return the folder, which is none."""
        return PurePosixPath()

    def __str__(self) -> str:
        return self.address


def is_web(text: str) -> bool:
    """Tell whether a text is an address of http or https."""
    return text.lower().startswith(("http://", "https://"))


def find(address: str, small: bool) -> list[WebFile]:
    """Find the photographs at an address: an image of IIIF, a manifest of many, or a file.

    Args:
        address: of http or https.
        small: whether a small rendition of a IIIF image will do.

    Raises:
        PhotoError: where a manifest cannot be had, or names no image.
    """
    if match := _IMAGE.fullmatch(address):
        size = SMALL if small and match["size"] in ("max", "full", "^max") else match["size"]
        rest = f"{match['region']}/{size}/{match['turn']}/{match['quality']}.{match['ending']}"
        name = f"{_name_of(match['base'])}.{match['ending']}"
        return [WebFile(f"{match['base']}/{rest}", name)]
    path = urllib.parse.urlsplit(address).path
    if path.endswith("/info.json"):
        return [_rendition(address.removesuffix("/info.json"), _json(address), small)]
    if path.endswith((".json", "/manifest")):
        return _distinct(_of_manifest(_json(address), small, address))
    return [WebFile(address, _name_of(address))]


def _name_of(address: str) -> str:
    """Name a file after the last part of an address, without what file systems dislike."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(address).path).rstrip("/")
    name = re.sub(r"[^\w.,()+-]+", "-", path.rpartition("/")[2] or path).strip("-.")
    return name[-200:] or "photograph"


def _rendition(base: str, service: Any, small: bool) -> WebFile:
    """Return the image of a IIIF service, as large as it gives it or small."""
    context = json.dumps(service.get("@context", "")) + str(service.get("type", ""))
    is_third = "image/3" in context or "ImageService3" in context
    size = SMALL if small else "max" if is_third else "full"
    return WebFile(f"{base}/full/{size}/0/default.jpg", f"{_name_of(base)}.jpg")


def _of_manifest(manifest: Any, small: bool, address: str) -> list[WebFile]:
    """Return the images of a manifest, in its order."""
    found = []
    for body in _bodies(manifest):
        services = body.get("service", [])
        services = [one for one in (services if isinstance(services, list) else [services]) if one]
        images = [one for one in services if "mage" in json.dumps(one)]  # not those of search
        base = next((one.get("id") or one.get("@id") for one in images), None)
        plain = body.get("id") or body.get("@id")
        if isinstance(base, str) and is_web(base):
            found.append(_rendition(base.rstrip("/"), images[0], small))
        elif isinstance(plain, str) and is_web(plain):
            found.append(WebFile(plain, _name_of(plain)))
    if not found:
        raise PhotoError("this manifest names no image")
    return found


def _bodies(manifest: Any) -> Iterator[dict[str, Any]]:
    """Yield what is painted on the canvases of a manifest of either version."""
    try:
        for canvas in manifest.get("items", []):
            for page in canvas.get("items", []):
                for annotation in page.get("items", []):
                    body = annotation.get("body", {})
                    yield from body if isinstance(body, list) else [body]
        for sequence in manifest.get("sequences", []):
            for canvas in sequence.get("canvases", []):
                for image in canvas.get("images", []):
                    yield image.get("resource", {})
    except (AttributeError, TypeError):
        raise PhotoError("this is no manifest of IIIF") from None


def _distinct(files: list[WebFile]) -> list[WebFile]:
    """Number files that would have the same name, such as `full.jpg` of each page."""
    names = [file.name for file in files]
    width = len(str(len(files)))
    return [
        file
        if names.count(file.name) == 1
        else WebFile(file.address, f"{file.stem}-{number:0{width}d}{file.suffix}")
        for number, file in enumerate(files, 1)
    ]


def _json(address: str) -> Any:
    try:
        found = json.loads(fetch(address, _LARGEST_JSON))
    except ValueError as error:
        if isinstance(error, PhotoError):
            raise
        raise PhotoError("it is not JSON, as IIIF has it") from None
    if not isinstance(found, dict):
        raise PhotoError("it is not what IIIF has as JSON")
    return found


def fetch(address: str, most: int) -> bytes:
    """Fetch at most so many bytes, when the server's turn has come.

    A server that is busy is asked again after the time that it names, a connection that broke
    after a moment.

    Raises:
        PhotoError: with a line for people, where it cannot be had.
    """
    pause = 1.0
    for attempt in range(_TRIES):
        _take_turn(address)
        try:
            return _fetch_once(address, most)
        except urllib.error.HTTPError as error:
            reason, wait = f"{error.code} {error.reason}", pause
            if error.code not in _PASSING:
                raise PhotoError(f"cannot be fetched ({reason})") from None
            if error.code in _WAITING:
                wait = _asked_for(error.headers.get("Retry-After"), pause)
                _postpone(address, wait)
        except (OSError, http.client.HTTPException) as error:  # such as a connection that broke
            reason, wait = " ".join(str(error).split()) or type(error).__name__, pause
        if attempt < _TRIES - 1:
            time.sleep(wait)
        pause *= 2
    raise PhotoError(f"cannot be fetched ({reason}), after {_TRIES} tries")


def _fetch_once(address: str, most: int) -> bytes:
    headers = {"User-Agent": f"pipeline-colorize/{__version__}"}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        data = response.read(most + 1)
    if len(data) > most:
        raise PhotoError(f"more than {most:,} bytes, the limit")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(data) < int(length):
        raise OSError(f"the connection broke after {len(data):,} of {int(length):,} bytes")
    return data


def _take_turn(address: str) -> None:
    """Wait until a server may be asked; each request of every thread has a turn of its own."""
    host = urllib.parse.urlsplit(address).netloc
    with _lock:
        now = time.monotonic()
        turn = max(now, _turns.get(host, 0.0))
        _turns[host] = turn + PAUSE
    time.sleep(turn - now)


def _postpone(address: str, seconds: float) -> None:
    """Let no thread ask a server before so many seconds have passed."""
    host = urllib.parse.urlsplit(address).netloc
    with _lock:
        _turns[host] = max(_turns.get(host, 0.0), time.monotonic() + seconds)


def _asked_for(header: str | None, otherwise: float) -> float:
    """Return the seconds of a Retry-After, which is a number or a date (RFC 9110, 10.2.3)."""
    if not header:
        return otherwise
    if header.strip().isdecimal():
        return min(float(header), _LONGEST_WAIT)
    try:
        date = email.utils.parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError):
        return otherwise
    return min(max(date - time.time(), 0.0), _LONGEST_WAIT)
