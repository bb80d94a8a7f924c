"""The label server under load: several clients at once, beside the bare model's time; no request may fail.

    source .venv-label/bin/activate
    python benchmarks/serving.py [--clients 4] [--requests 100] [--studies 100] [--side 2048]

A phantom's radiographs, enlarged to what a detector gives (16 bits stored, 12 used, uncompressed), one a study, and a
ResNet-18 at 224 pixels. Three rounds: studies of the server, which it has embedded once, without and with a heat map;
and files that are sent. A single client before them gives the time of one request. The bare model reads one file,
resizes it and runs the network, in this process, with as many threads as the server has cores.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import requests
import torch
from inference import MEAN, SIZE, STD, view, write_study
from pydicom.uid import generate_uid

from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier

FINDING = "pleural_effusion"
INFER = f"/infer/{FINDING}"


def write_studies(folder: Path, *, studies: int, side: int) -> list[Path]:
    """One radiograph each; no two have the same pixels, as the server would know the second one already."""
    first = pydicom.dcmread(write_study(folder, side=side)[0])
    pixels, files = first.pixel_array, []
    (folder / "studies").mkdir()
    for number in range(studies):
        first.set_pixel_data(np.roll(pixels, number, axis=1), "MONOCHROME2", 12)
        first.StudyInstanceUID, first.SOPInstanceUID = generate_uid(), generate_uid()
        first.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
        first.PatientID = f"P{number}"
        files.append(folder / "studies" / f"{number}.dcm")
        first.save_as(files[-1], enforce_file_format=True)
    return files


def write_model(folder: Path) -> tuple[Path, Classifier]:
    """A classifier with random weights: they take the same time."""
    folder.mkdir()
    pixels = {"image_size": SIZE, "mean": MEAN, "std": STD}
    card = {
        "finding": FINDING,
        "preprocessing": pixels,
        "encoder_card": {"encoder": "resnet18", "preprocessing": pixels},
        "operating_point": {"threshold": 0.5},
    }
    network = Classifier(build_encoder("resnet18"), features=512).eval()
    return save_classifier(network, folder, card), network


@contextmanager
def serve(folder: Path, studies: Path, model: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server, by MONAI Label's own command."""
    command = [sys.executable, "-m", "monai_cxrpair.cli", "label-app", "--out", folder / "app", "--model", model]
    app = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout.strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
    command += ["--conf", "models", FINDING, "--host", "127.0.0.1", "--port", port]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text()[-2000:])
            try:
                if requests.get(address + "/cxrpair/api/progress", timeout=60).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        yield address, process
    finally:
        process.terminate()
        process.wait(60)


def measure(ask: Callable[[int], requests.Response], *, clients: int, each: int) -> str:
    """Every client asks one after the other."""
    times: list[float] = []
    failed: list[str] = []

    def client(number: int) -> None:
        for step in range(each):
            began = time.perf_counter()
            try:
                answer = ask(number * each + step)
                if not answer.ok:
                    failed.append(f"{answer.status_code} {answer.text[:100]}")
            except requests.RequestException as error:
                failed.append(repr(error)[:100])
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    took = time.perf_counter() - began
    middle, late = (1000 * float(np.percentile(times, level)) for level in (50, 95))
    said = f"{len(times) / took:6.1f} requests/s, median {middle:.0f} ms, p95 {late:.0f} ms, {len(failed)} errors"
    return said + (f", the first: {failed[0]}" if failed else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"clients": 4, "requests": 100, "studies": 100, "side": 2048}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_studies(folder, studies=given.studies, side=given.side)
        contents = [file.read_bytes() for file in files[:8]]
        model, network = write_model(folder / "model")

        bare = []
        for file in files[:21]:
            began = time.perf_counter()
            with torch.inference_mode():
                network(torch.from_numpy((view(file) - MEAN) / STD)[None, None]).sigmoid()
            bare.append(1000 * (time.perf_counter() - began))
        print(f"{given.studies} studies of one radiograph of {given.side} x {round(given.side * 1.2)} pixels")
        print(f"bare model, decode + forward: {statistics.median(bare[1:]):.0f} ms (median of {len(bare) - 1})")

        with serve(folder, folder / "studies", model) as (address, process):
            said = requests.get(address + "/datastore/", params={"output": "all"}, timeout=60).json()["objects"]
            known = sorted(said)

            def study(number: int, output: str) -> requests.Response:
                where = {"image": known[number % len(known)], "output": output}
                return requests.post(address + INFER, params=where, timeout=300)

            def sent(number: int) -> requests.Response:
                file = {"file": ("x.dcm", contents[number % len(contents)])}
                return requests.post(address + INFER, params={"output": "json"}, files=file, timeout=300)

            load, one = given.clients, given.requests
            rounds: list[tuple[str, Callable[[int], requests.Response], int, int]] = [
                ("one client, a file that is sent", sent, 1, 20),
                ("one client, known study with heat map", lambda number: study(number, "all"), 1, 20),
                ("a known study", lambda number: study(number, "json"), load, one),
                ("a known study with heat map", lambda number: study(number, "all"), load, one),
                ("a file that is sent", sent, load, one),
            ]
            for name, ask, clients, each in rounds:
                print(f"{name:38s} {clients} x {each:3d}: {measure(ask, clients=clients, each=each)}", flush=True)
            print(f"the server {'lives' if process.poll() is None else 'has ended'}")


if __name__ == "__main__":
    main()
