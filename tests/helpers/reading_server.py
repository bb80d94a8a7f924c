"""The reading page behind a real desk and a stand-in for the classifier.

With FastAPI (the label server's environment) the routes are the real ones; without, a stand-in of the standard library
that keeps to what `label/app/routes.py` documents, and sends its headers.
"""

import ast
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np

import monai_cxrpair.label
from monai_cxrpair.label.app.guard import describe
from monai_cxrpair.label.desk import NotFoundError, png
from monai_cxrpair.label.heat_png import heat_png
from monai_cxrpair.label.reader_model import Prediction, RadiographPrediction
from monai_cxrpair.label.worklist import StudyScores

LABEL = Path(monai_cxrpair.label.__file__).parent
REAL = find_spec("fastapi") is not None and find_spec("uvicorn") is not None


class StandInModel:
    """Says 0.83 of every study, and sees it in the lower left."""

    finding = "pleural_effusion"

    def __init__(self, studies, *, unreadable=()):
        self.studies, self.unreadable = studies, unreadable

    def scores(self):
        return StudyScores(
            studies=list(self.studies), probabilities=np.full(len(self.studies), 0.83),
            embeddings=np.random.default_rng(0).random((len(self.studies), 4), dtype=np.float32), threshold=0.4,
        )  # fmt: skip

    def predict(self, study):
        radiographs = tuple(
            RadiographPrediction(
                image=each.image, laterality=each.laterality, view_position=each.view_position, probability=0.83
            )
            for each in self.studies[study].radiographs
        )
        return Prediction(
            study=study, finding=self.finding, probability=0.83, calibrated=0.79, threshold=0.4, positive=True,
            radiographs=radiographs,
        )  # fmt: skip

    def heat_map(self, image):
        rows, columns = np.mgrid[:64, :64]
        heat = np.exp(-((rows - 46) ** 2 + (columns - 18) ** 2) / 120)
        return heat_png(heat.astype(np.float32), height=64, width=64)


class Server:
    """`address` of the page; `asked` is what came in, as (method, path, body).

    `faults` are (method, part of the path, what) and stay until taken out; what is a status, "drop" (the connection
    ends without an answer) or "deaf" (the request is done, and then the connection ends).
    """

    def __init__(self, desk):
        self.desk, self.asked, self.faults = desk, [], []

    def fault(self, method, path):
        return next((what for verb, part, what in self.faults if verb == method and part in path), None)

    def answers(self):
        """Study -> answer, as they stand on the disk."""
        return {study: each.answer for study, each in self.desk.answers.current(self.desk.finding).items()}


@contextmanager
def serve(desk):
    """A running server, ended with the block."""
    server = Server(desk)
    answer = _routes(server) if REAL else _stand_in(server)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server, answer))
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.address = f"http://127.0.0.1:{http.server_address[1]}/cxrpair/"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def _handler(server, answer):
    """Faults, and the rest as `answer` says: (method, path with query, body) -> (status, headers, content)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            server.asked.append((self.command, self.path, body))
            fault = server.fault(self.command, self.path)
            if fault == "drop":
                return
            if isinstance(fault, int):
                status, headers, content = fault, {}, json.dumps({"detail": "made to fail"}).encode()
            else:
                status, headers, content = answer(self.command, self.path, body)
            if fault == "deaf":
                return
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    return Handler


def _routes(server):
    """The real routes, asked within the process."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from monai_cxrpair.label.app.guard import Guard
    from monai_cxrpair.label.app.routes import page_router

    app = FastAPI()
    app.include_router(page_router(lambda: server.desk))
    app.add_middleware(Guard)
    client = TestClient(app, raise_server_exceptions=False)

    def answer(method, path, body):
        found = client.request(method, path, json=body, follow_redirects=False)
        headers = {name.title(): value for name, value in found.headers.items() if name != "content-length"}
        return found.status_code, headers, found.content

    return answer


def _stand_in(server):
    """What the routes document, with the headers that stand in their source."""
    tree = ast.parse((LABEL / "app" / "routes.py").read_text(encoding="utf-8"))
    headers = next(
        ast.literal_eval(node.value) for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_PAGE_HEADERS"
    )  # fmt: skip

    def answer(method, path, body):
        try:
            return _answer(server.desk, headers, method, path, body)
        except Exception as error:
            status, line = describe(error)
            return status, {}, json.dumps({"detail": line}).encode()

    return answer


def _answer(desk, page_headers, method, path, body):
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    match method, parts.path.removeprefix("/cxrpair/").split("/"):
        case "POST", ["api", "worklist"]:
            found = desk.next_study(body["reader"], body.get("strategy", "mixed"), another=body.get("another", False))
        case "GET", ["api", "progress"]:
            found = desk.progress()
        case "POST", ["api", "undo"]:
            found = desk.undo(body["reader"])
        case "POST", ["api", "study", study, "answer"]:
            found = desk.answer(study, body["answer"], body["reader"])
        case "GET", ["api", "study", study]:
            found = desk.study(study)
        case "GET", ["api", "study", study, "heatmap", name]:
            return 200, {"Content-Type": "image/png"}, desk.heat_map(study, int(Path(name).stem))
        case "GET", ["api", "study", study, "image", name]:
            pixels = desk.picture(study, int(Path(name).stem), size=int(query.get("size", 0)))
            if name.endswith(".png"):
                return 200, {"Content-Type": "image/png"}, png(pixels)
            shape = {"X-Rows": str(pixels.shape[0]), "X-Columns": str(pixels.shape[1])}
            return 200, {"Content-Type": "application/octet-stream"} | shape, pixels.astype("<u2").tobytes()
        case "GET", [name]:
            file = LABEL / "page" / (name or "index.html")
            if not file.is_file():
                raise NotFoundError(f"the reading page has no file {name!r}")
            return 200, {"Content-Type": guess_type(file)[0]} | page_headers, file.read_bytes()
        case _:
            raise NotFoundError("no such address")
    return 200, {}, json.dumps(found).encode()
