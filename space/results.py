"""What was made for visitors of the page, for as long as it is kept."""

import contextlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from coloring import Refused, Result

MOST = 64  # whose photographs and colours are in memory


class Gone(Refused):
    """It was there, and is no more; or it never was."""


class Results:
    """Results by the names that the pages of their visitors made up, which nobody else knows.

    Args:
        seconds: from when it was made until a result is forgotten.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._held: OrderedDict[str, tuple[float, Result]] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def making(self, name: str) -> Iterator[Callable[[Result], None]]:
        """While a result is made; what is yielded takes it. It is forgotten where that fails."""
        if not isinstance(name, str) or not re.fullmatch(r"[0-9a-f-]{32,40}", name):
            raise Refused("The name of a result is a UUID.")
        try:
            yield lambda result: self._put(name, result)
        except BaseException:
            self.forget(name)
            raise

    def _put(self, name: str, result: Result) -> None:
        with self._lock:
            self._drop_old()
            if name in self._held:
                raise Refused("There is a result of that name already.")
            self._held[name] = time.monotonic(), result
            while len(self._held) > MOST:
                self._held.popitem(last=False)

    def get(self, name: str) -> Result:
        """Return the result; Gone where there is none."""
        with self._lock:
            self._drop_old()
            if name not in self._held:
                raise Gone("That result is no longer on the server.")
            return self._held[name][1]

    def forget(self, name: str) -> None:
        """Stop it where it is being made, and keep nothing of it."""
        with self._lock:
            _, result = self._held.pop(name, (0.0, None))
        if result is not None:
            result.stopped.set()

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self.seconds
        while self._held and next(iter(self._held.values()))[0] < oldest:
            self._held.popitem(last=False)
