"""The reading page in a real browser, before a server with phantom radiographs."""

import json
import time

import chromium
import pytest
from reading_server import StandInModel, serve

from monai_cxrpair.label.desk import Desk
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.phantom import write_phantom

CONTROL = 2  # the bit in the DevTools protocol
KEYS = {"Backspace": 8, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37}


class Reader:
    """Who sits before the page."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server

    def open(self, *, width=1280, height=800, name="kim", **settings):
        """Open the page; with `name=None` as somebody who has never been here."""
        kept = json.dumps(json.dumps({"reader": name, **settings}))
        script = f"localStorage.setItem('cxrpair.settings', {kept})" if name is not None else ""
        before = self.browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
        self.server.asked.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.open(self.server.address, width=width)
        self.browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=before)
        self.browser.call("Emulation.setDeviceMetricsOverride", **size)
        if name is not None:
            self.until("document.body.dataset.phase === 'reading'")
            self.settle()

    def leave(self):
        """Go elsewhere; gives whether the page asked before."""
        self.browser.events.clear()
        self.value("void setTimeout(() => { location.href = 'about:blank' })")
        ends = ("Page.javascriptDialogOpening", "Page.loadEventFired")
        found = [event["method"] for event in self.browser.events if event["method"] in ends]
        if (found or [self.browser._until(lambda event: event.get("method") in ends)["method"]])[0] == ends[1]:
            return False
        self.browser.call("Page.handleJavaScriptDialog", accept=True)
        if not any(event["method"] == ends[1] for event in self.browser.events):
            self.browser._until(lambda event: event.get("method") == ends[1])
        return True

    def settle(self):
        """Wait until an answer is no longer too quick, and what was exposed is painted."""
        time.sleep(0.45)

    def until(self, expression, seconds=20):
        end = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} stays {self.value(expression)!r}"
            time.sleep(0.03)

    def value(self, expression):
        return self.browser.value(expression)

    def text(self, selector):
        return self.value(f"document.querySelector({selector!r}).innerText")

    def shows(self, selector):
        return self.value(f"document.querySelector({selector!r}).checkVisibility()")

    def key(self, key, *, modifiers=0, repeat=False, release=True):
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        one = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        if len(key) == 1 and not modifiers & CONTROL:
            one["text"] = key
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", autoRepeat=repeat, **one)
        if release:
            one.pop("text", None)
            self.browser.call("Input.dispatchKeyEvent", type="keyUp", **one)

    def click(self, selector):
        x, y = self.centre(selector)
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def mouse(self, kind, x, y, **more):
        self.browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, across, down, *, button="left"):
        x, y = self.centre("figure.active canvas")
        buttons = {"left": 1, "right": 2}[button]
        self.mouse("mousePressed", x, y, button=button, buttons=buttons, clickCount=1)
        self.mouse("mouseMoved", x + across, y + down, button=button, buttons=buttons)
        self.mouse("mouseReleased", x + across, y + down, button=button, clickCount=1)
        self.settle()

    def centre(self, selector):
        self.value(f"document.querySelector({selector!r}).scrollIntoView({{block: 'nearest'}})")
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        return self.value(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")

    def pixels(self, selector="figure.active canvas", *, x=None, y=None):
        """(red, green, blue) of a grid over the canvas, or at a point of it."""
        where = f"[[{x}, {y}]]" if x is not None else "grid"
        return self.value(
            f"(c => {{ const t = c.getContext('2d'); const grid = [];"
            "for (let i = 1; i < 12; i++) for (let j = 1; j < 12; j++) grid.push([c.width * i / 12,"
            " c.height * j / 12]);"
            f"return {where}.map(([x, y]) => [...t.getImageData(x, y, 1, 1).data].slice(0, 3)) }})"
            f"(document.querySelector({selector!r}))"
        )

    @property
    def study(self):
        return self.text("#study-name").removeprefix("Study ").removesuffix("…")

    def answer(self, key):
        """Answer, and wait for the next study; gives the study that was answered, as the page shows it."""
        study = self.study
        self.key(key)
        self.until(f"document.body.dataset.phase === 'done' || (document.body.dataset.phase === 'reading' && "
                   f"!document.querySelector('#study-name').innerText.includes({study!r}))")  # fmt: skip
        self.settle()
        return study

    def said(self):
        """Study, as the page shows it -> answer on the server's disk."""
        return {study[:10] if len(study) > 12 else study: answer for study, answer in self.server.answers().items()}

    def saved(self, count):
        """Wait until the server has so many answers."""
        end = time.monotonic() + 20
        while len(self.server.answers()) != count:
            assert time.monotonic() < end, self.server.answers()
            time.sleep(0.03)
        self.until("document.querySelector('#progress-waiting').innerText === ''")

    def complaints(self):
        """What the browser's console says: errors, and what the page's policy forbids."""
        logs = [event["params"]["entry"] for event in self.browser.events if event["method"] == "Log.entryAdded"]
        found = [f"{log['level']} {log['text']} {log.get('url', '')}" for log in logs if log["level"] != "verbose"]
        thrown = [each["params"] for each in self.browser.events if each["method"] == "Runtime.exceptionThrown"]
        spoken = [each["params"] for each in self.browser.events if each["method"] == "Runtime.consoleAPICalled"]
        return [*found, *map(str, thrown), *map(str, spoken)]


@pytest.fixture(scope="session")
def phantom_studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    write_phantom(folder / "pacs", patients=3, file_format="dicom", seed=1, structure="mimic")
    return Studies.read(folder / "pacs", key_folder=folder)


@pytest.fixture(scope="session")
def browser():
    if chromium.PROGRAM is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    with chromium.Chromium() as browser:
        yield browser


@pytest.fixture
def reader(browser, phantom_studies, tmp_path):
    """A reader before a new desk; a port of its own, so nothing is left in the browser from other tests."""
    desk = Desk(phantom_studies, StandInModel(phantom_studies), state=tmp_path, seed=0)
    with serve(desk) as server:
        reader = Reader(browser, server)
        yield reader
        reader.leave()
