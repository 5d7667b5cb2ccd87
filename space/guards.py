"""What the Space's server does for itself, whatever its pages and endpoints are.

Nonsense from outside becomes one line for whoever sent it and one in the log. Nobody holds the
queue alone: each visitor has a few places, turns are taken, and jobs of those who left are dropped.
"""

import contextlib
import json
import os
import re
import sys
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from gradio.context import LocalContext
from gradio.server_messages import ProcessCompletedMessage
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

NONSENSE = "That could not be done; what was sent may not be what this page sends."
NO_MEMORY = "There is not enough memory for this: ask for less, or give a smaller photograph."
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# How long a job stays for a visitor who has not asked yet what became of it, or is no longer there.
TO_BEGIN = float(os.environ.get("COLORIZE_SECONDS_TO_BEGIN", "10"))
TO_RETURN = 3.0  # seconds
_REMEMBERED = 10_000  # visitors who left


def in_one_line(error: Exception) -> str:
    """Return an exception and the place that it comes from, for the log."""
    places = traceback.extract_tb(error.__traceback__)
    place = f" ({places[-1].filename}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


class GuardedBlocks(gr.Blocks):
    """Blocks whose events fail with a message, whatever goes wrong in them or before them."""

    async def process_api(self, block_fn, inputs, *args, **options):
        """As Gradio's, which checks the values, calls the function and stores what comes out.

        Where the last values are missing, as from a page that is older than the server, they are
        those of the endpoint's own fields.
        """
        try:
            called = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
            missing = [one.value for one in called.inputs[len(inputs) :]]
            return await super().process_api(called, [*inputs, *missing], *args, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            print(f"refused: {in_one_line(error)}", file=sys.stderr)
            text = NO_MEMORY if isinstance(error, MemoryError) else NONSENSE
            raise gr.Error(text, title="Sorry", print_exception=False) from None


class Fence:
    """ASGI middleware: headers for all answers, and an answer to every request.

    Args:
        app: what it stands before.
        presence: is told who listens.
    """

    def __init__(self, app, presence: "Presence"):
        self.app, self.presence = app, presence

    async def __call__(self, scope, receive, send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_with_headers(message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                add_headers(message, scope["path"])
            await send(message)

        if re.search(r"/file(=|/)\w+:/", scope["path"]):  # Gradio would fetch it from elsewhere
            await _answer(send_with_headers, 403, NONSENSE)
            return
        try:
            with self.presence.listening(listener(scope)):
                await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            print(f"refused: {in_one_line(error)}", file=sys.stderr)
            if not begun:
                await _answer(send_with_headers, 400, NONSENSE)


def add_headers(message: dict, path: str) -> None:
    """Return what every answer says; photographs and results are nobody's to keep."""
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    if "/gradio_api/" in path or path.startswith(("/file", "/results/")):
        headers["Cache-Control"] = "no-store"


async def _answer(send, status: int, text: str) -> None:
    content = json.dumps({"error": text, "detail": text}).encode()
    kind = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": kind})
    await send({"type": "http.response.body", "body": content})


# --- the queue -----------------------------------------------------------------------------------


def listener(scope: dict) -> str | None:
    """Return the session or job whose outcome a request waits for, if it is such a request."""
    if scope["method"] != "GET":
        return None
    if scope["path"].endswith("/queue/data"):
        given = parse_qs(scope["query_string"].decode("latin-1"))
        return given.get("session_hash", [None])[0]
    found = re.search(r"/call/(?:v2/)?[^/]+/(\w+)$", scope["path"])
    return found[1] if found else None


class Presence:
    """Who listens, and since when others do not."""

    def __init__(self):
        self._listening: Counter[str] = Counter()
        self._left: OrderedDict[str, float] = OrderedDict()

    @contextlib.contextmanager
    def listening(self, who: str | None) -> Iterator[None]:
        """While this is open, somebody waits for the outcome of a session, or of a job."""
        if who is None:
            yield
            return
        self._listening[who] += 1
        try:
            yield
        finally:
            self._listening[who] -= 1
            if not self._listening[who]:
                del self._listening[who]
            self._left[who] = time.monotonic()
            self._left.move_to_end(who)
            while len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)

    def waits_for(self, event) -> bool:
        """Tell whether somebody waits, or may be about to, for an event of Gradio's queue."""
        names = (event.session_hash, event._id)
        if any(self._listening.get(name) for name in names):
            return True
        left = max(self._left.get(name, 0.0) for name in names)
        patience = TO_RETURN if left > event.enqueue_time else TO_BEGIN
        return time.monotonic() - max(left, event.enqueue_time) < patience


class FairQueue:
    """Gradio's queue of `blocks`, with a few places a visitor, and turns.

    Args:
        blocks: with its queue, not launched yet.
        presence: of the visitors.
        places: jobs that one address may have, waiting and running.
    """

    def __init__(self, blocks: gr.Blocks, presence: Presence, places: int):
        self.queue, self.presence, self.places = blocks._queue, presence, places
        self._push, self._get_events = self.queue.push, self.queue.get_events
        _exchange(self.queue, self.push, self.get_events)

    async def push(self, body, request, username):
        """As Gradio's; a visitor who has too many jobs is told so."""
        self.drop_those_who_left()
        if self.jobs()[address(request)] >= self.places:
            return False, f"{self.places} jobs of yours are waiting; wait for one of them.", "error"
        answer = await self._push(body, request, username)
        self.take_turns()
        return answer

    def get_events(self):
        """As Gradio's: what is done next."""
        self.drop_those_who_left()
        return self._get_events()

    def jobs(self, waiting: bool = True) -> Counter[str]:
        """Return how many jobs each visitor has, with those that wait or without."""
        events = [event for job in self.queue.active_jobs if job for event in job]
        if waiting:
            events += [event for line in self.lines() for event in line]
        return Counter(address(event.request) for event in events)

    def lines(self) -> list[list]:
        """Return the waiting events, in order, of each kind of work."""
        return [line.queue for line in self.queue.event_queue_per_concurrency_id.values()]

    def take_turns(self) -> None:
        """Order each line so that the second job of one comes after the first of all others."""
        for line in self.lines():
            before, turns = self.jobs(waiting=False), {}
            for event in line:
                who = address(event.request)
                turns[event._id] = before[who]
                before[who] += 1
            line.sort(key=lambda event: turns[event._id])

    def drop_those_who_left(self) -> None:
        """Take their jobs out of the line."""
        for line in self.lines():
            for event in [one for one in line if not self.presence.waits_for(one)]:
                line.remove(event)
                self.queue.event_ids_to_events.pop(event._id, None)
                if event.session_hash in self.queue.pending_messages_per_session:
                    said = {"error": "Nobody waited for this, so it was not done."}
                    self.queue.send_message(
                        event, ProcessCompletedMessage(output=said, success=False)
                    )

    def wanted(self) -> Callable[[], bool]:
        """For a function that handles an event: says whether anybody waits for it still."""
        event = self.queue.event_ids_to_events.get(LocalContext.event_id.get(None) or "")
        return lambda: event is None or (event.alive and self.presence.waits_for(event))


def _exchange(queue: Any, push: Callable, get_events: Callable) -> None:
    """Let Gradio's queue call these in place of two methods of its own."""
    queue.push, queue.get_events = push, get_events


def address(request) -> str:
    """Tell where a request comes from."""
    return request.client.host if request is not None and request.client else "unknown"
