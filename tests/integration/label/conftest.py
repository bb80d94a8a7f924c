"""A MONAI Label server with our app, started by hand as a user does, on the phantom's radiographs."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Server:
    """A running server."""

    url: str
    app: Path
    studies: Path
    process: subprocess.Popen[bytes]

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The answer to a request, whatever its status."""
        import requests

        return requests.request(method, self.url + path, timeout=120, **more)

    def log(self) -> str:
        return (self.app / "server.log").read_text(errors="replace")

    def train(self, finding: str, seconds: float = 120, **settings: Any) -> dict[str, Any]:
        """Train, wait for it, and give its figures."""
        asked = self.ask("POST", f"/train/{finding}", json=settings)
        assert asked.ok, asked.text
        until = time.monotonic() + seconds
        # One at a time; MONAI Label sees that as soon as the process has begun, before that a second one waits for it.
        while self.ask("GET", "/train/").json()["status"] == "SUBMITTED":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert self.ask("POST", f"/train/{finding}").status_code == 429
        while (task := self.ask("GET", "/train/").json())["status"] in ("SUBMITTED", "RUNNING"):
            assert time.monotonic() < until, task
            time.sleep(0.5)
        assert task["status"] == "DONE", task["details"]
        stats: dict[str, Any] = self.ask("GET", "/info/").json()["train_stats"][finding]
        return stats


@pytest.fixture(scope="session")
def start_server() -> Any:
    """`started`, for a test with studies of its own."""
    return started


@pytest.fixture(scope="session")
def label_environment() -> None:
    """Skips where the server's environment is not there."""
    if importlib.util.find_spec("monailabel") is None:
        pytest.skip("MONAI Label is not installed here: `make test-integration` runs these tests in its environment")


def _write_classifier(folder: Path) -> None:
    import torch

    from monai_cxrpair.evaluation.classifier import classifier_network, save_classifier

    folder.mkdir()
    preprocessing = {"image_size": 64, "mean": 0.5, "std": 0.25}
    encoder = {"encoder": "resnet18", "in_channels": 1, "preprocessing": preprocessing}
    card = {"finding": "pleural_effusion", "operating_point": None, "preprocessing": preprocessing}
    (folder / "model.json").write_text(json.dumps({"format": "cxrpair-classifier/1", **card, "encoder_card": encoder}))
    torch.manual_seed(0)
    save_classifier(classifier_network(folder / "model.pt"), folder, {**card, "encoder_card": encoder})


@pytest.fixture(scope="session")
def write_classifier() -> Any:
    """Writes one with random weights."""
    return _write_classifier


def _cxrpair(*arguments: object) -> str:
    command = [sys.executable, "-m", "monai_cxrpair.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def server(label_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    _cxrpair("phantom", folder / "studies", "--patients", 12, "--format", "dicom", "--seed", 3)
    _write_classifier(folder / "model")
    with started(folder, folder / "studies", folder / "model" / "model.pt") as running:
        yield running


@contextmanager
def started(folder: Path, studies: object, model: Path, **more: str) -> Iterator[Server]:
    """A server of these studies, a folder or an address, as long as it is needed; `more` environment."""
    app = Path(_cxrpair("label-app", "--out", folder / "app", "--model", model))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
    command += ["--conf", "models", "pleural_effusion", "--host", "127.0.0.1", "--port", port]
    # Where nothing answers: who asks the network at the start fails.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **proxies, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", **more}
    with (app / "server.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    running = Server(f"http://127.0.0.1:{port}", app, folder / "studies", process)
    try:
        _wait(running)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def _wait(server: Server, seconds: float = 180) -> None:
    import requests

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if server.process.poll() is not None:
            pytest.fail(f"the server ended: {server.log()[-2000:]}")
        try:
            if server.ask("GET", "/cxrpair/api/progress").status_code in (200, 401):
                return
        except requests.ConnectionError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start within {seconds} s: {server.log()[-2000:]}")
