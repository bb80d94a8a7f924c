"""No identifier gets out of the label server: not in an answer, a header, a log, nor a file it keeps."""

import os

import pytest
from canary import TOKENS, contents, write_export
from no_network import guarded

FINDING = "pleural_effusion"


@pytest.fixture(scope="module")
def running(label_environment, write_classifier, start_server, tmp_path_factory):
    """A server of an export full of identifiers, that may talk to its own machine only."""
    folder = tmp_path_factory.mktemp("canary")
    write_export(folder / "studies", patients=14, seed=5)
    write_classifier(folder / "model")
    guard = guarded(folder / "guard")
    path = os.pathsep.join([guard["PYTHONPATH"], *filter(None, [os.environ.get("PYTHONPATH")])])
    with start_server(folder, folder / "studies", folder / "model" / "model.pt", PYTHONPATH=path) as server:
        yield server, folder


def test_no_token_is_in_anything_that_is_sent_logged_or_kept(running):
    server, folder = running
    sent = []

    def ask(method, path, **more):
        answer = server.ask(method, path, **more)
        sent.append(f"{answer.headers}{answer.content.decode('latin-1')}")
        return answer

    studies = list(ask("GET", "/datastore/", params={"output": "all"}).json()["objects"])
    assert len(studies) > 20
    for number, study in enumerate(studies):
        for path in ("", "/image/0.png?size=64", "/image/0.raw?size=64", "/heatmap/0.png", "/image/99.png"):
            ask("GET", f"/cxrpair/api/study/{study}{path}")
        ask("POST", f"/infer/{FINDING}", params={"image": study})
        said = {"answer": "present" if number % 2 else "absent", "reader": "kim"}
        assert ask("POST", f"/cxrpair/api/study/{study}/answer", json=said).ok
    for path in ("/info/", "/datastore/", "/logs/", "/activelearning/", "/cxrpair/api/progress", "/openapi.json"):
        ask("GET", path)
    ask("POST", "/cxrpair/api/worklist", json={"reader": "kim"})
    ask("POST", "/activelearning/mixed")
    ask("POST", "/scoring/probability?run_sync=true")
    file = next(path for path in sorted((folder / "studies").rglob("IM*")))
    ask("POST", f"/infer/{FINDING}", files={"file": file.open("rb")})
    ask("POST", f"/infer/{FINDING}", params={"image": str(file)})
    stats = server.train(FINDING)
    ask("GET", "/train/")
    assert stats["counts"]["studies"] > 20
    assert len(sent) > 150
    for text in sent:
        assert not TOKENS.search(text), text[:300]
    assert not TOKENS.search(server.log())
    kept = [path for path in server.app.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "answers.jsonl" for path in kept)
    for path in kept:
        assert not any(TOKENS.search(text) for text in contents(path)), path
        if path.name in ("answers.jsonl", "refits.jsonl") or path.suffix == ".key":
            assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_asked_the_network(running):
    """`tests/integration/test_canary.py` shows that the guard notices."""
    assert (running[1] / "guard" / "asked").read_text() == ""
