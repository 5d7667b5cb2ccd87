"""Firefox, driven by WebDriver BiDi, for which no other program is needed."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from page_driver import PATIENCE

# Nothing is fetched or reported by the browser itself.
SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """One window of a headless Firefox."""

    def __init__(self, socket):
        self.socket, self.number = socket, 0
        self.call("session.new", capabilities={})
        (tree,) = self.call("browsingContext.getTree")["contexts"]
        self.context = tree["context"]

    def call(self, method: str, **parameters) -> dict:
        """Call a command of WebDriver BiDi; returns its result."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(asked))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE / 1000))
            if answer.get("id") == self.number:  # the others are news
                assert answer["type"] == "success", answer
                return answer["result"]

    def open(self, address: str) -> None:
        """Open a page, and wait until it has been loaded."""
        self.call("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def evaluate(self, expression: str):
        """Return the value of an expression of JavaScript: a string, number or truth value."""
        target = {"context": self.context}
        given = {"expression": expression, "target": target, "awaitPromise": True}
        answer = self.call("script.evaluate", **given)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def wait_until(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true."""
        until = time.monotonic() + PATIENCE / 1000
        while not self.evaluate(expression):
            assert time.monotonic() < until, expression
            time.sleep(0.1)

    def _element(self, selector: str) -> dict:
        found = {"type": "css", "value": selector}
        answer = self.call("browsingContext.locateNodes", context=self.context, locator=found)
        return {"sharedId": answer["nodes"][0]["sharedId"]}

    def choose(self, selector: str, file: Path) -> None:
        """Give a file to an input."""
        element = self._element(selector)
        self.call("input.setFiles", context=self.context, element=element, files=[str(file)])

    def click(self, selector: str) -> None:
        """Click the middle of an element, as the mouse does."""
        origin = {"type": "element", "element": self._element(selector)}
        steps = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": steps}
        self.call("input.performActions", context=self.context, actions=[mouse])


@contextlib.contextmanager
def running_firefox(program: str, profile: Path) -> Iterator[Firefox]:
    """Start Firefox with a new profile; it ends with the block."""
    from websockets.sync.client import connect

    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in SETTINGS.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [program, "--headless", "--no-remote", "--profile", str(profile)]
    command += ["--remote-debugging-port", "0"]
    log = profile / "log.txt"
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + PATIENCE / 1000
        while not (address := re.search(r"ws://\S+", log.read_text())):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        with connect(f"{address[0]}/session", max_size=None) as socket:
            yield Firefox(socket)
    finally:
        process.terminate()
        process.wait()
