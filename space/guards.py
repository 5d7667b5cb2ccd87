"""What the Space's server does for itself, whatever its pages and endpoints are.

Nonsense from outside becomes one line for whoever sent it and one in the log.
"""

import json
import sys
import traceback

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

NONSENSE = "That could not be done; what was sent may not be what this page sends."
NO_MEMORY = "There is not enough memory for this: ask for less, or give a smaller photograph."
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def in_one_line(error: Exception) -> str:
    """An exception and the place that it comes from, for the log."""
    places = traceback.extract_tb(error.__traceback__)
    place = f" ({places[-1].filename}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


class GuardedBlocks(gr.Blocks):
    """Blocks whose events fail with a message, whatever goes wrong in them or before them."""

    async def process_api(self, *args, **options):
        """As Gradio's, which checks the values, calls the function and stores what comes out."""
        try:
            return await super().process_api(*args, **options)
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
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
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

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            print(f"refused: {in_one_line(error)}", file=sys.stderr)
            if not begun:
                await _answer(send_with_headers, 400, NONSENSE)


def add_headers(message: dict, path: str) -> None:
    """What every answer says; photographs and results are nobody's to keep."""
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    if "/gradio_api/" in path or path.startswith("/file"):
        headers["Cache-Control"] = "no-store"


async def _answer(send, status: int, text: str) -> None:
    content = json.dumps({"error": text, "detail": text}).encode()
    kind = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": kind})
    await send({"type": "http.response.body", "body": content})
