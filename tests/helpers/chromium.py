"""Headless Chromium, by the DevTools protocol over a pipe: what a page logs and asks for, and how wide it is."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
_WAIT = 120.0  # seconds; a busy machine starts a browser slowly


class Chromium:
    """A browser of its own, ended with the `with` block; `events` are those of the page so far."""

    def __enter__(self):
        self._profile = tempfile.mkdtemp(prefix="chromium")
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        # Chromium reads its file 3 and writes its file 4; copies far above cannot be overwritten in between.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_child, from_child)]

        def attach():
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self._process = subprocess.Popen(
            [PROGRAM, *_QUIET, f"--user-data-dir={self._profile}"], preexec_fn=attach, pass_fds=(3, 4, *ends),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (to_child, from_child, *ends):
            os.close(end)
        self.events, self._number, self._rest, self._session = [], 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method, **params):
        """Send a command, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda found: found.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address, *, width):
        """Open a page in a window of this width, and wait until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.call("Page.navigate", url=address)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def value(self, expression):
        """What an expression is in the page; None where it is undefined."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def _until(self, wanted):
        end = time.monotonic() + _WAIT
        while True:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
                part = os.read(self._read, 1 << 20) if ready else b""
                if not part:
                    raise TimeoutError("chromium does not answer")
                self._rest += part
            text, self._rest = self._rest.split(b"\0", 1)
            found = json.loads(text)
            if "method" in found:
                self.events.append(found)
            if wanted(found):
                return found
