"""MONAI Label's own switch for authentication also guards what this project adds."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

FINDING = "pleural_effusion"
ROUTES = [
    ("GET", "/info/"),
    ("GET", "/datastore/?output=all"),
    ("GET", "/datastore/image?image=x"),
    ("PUT", "/datastore/label?image=x"),
    ("POST", f"/infer/{FINDING}?image=x"),
    ("POST", f"/train/{FINDING}"),
    ("POST", "/activelearning/random"),
    ("POST", "/scoring/probability"),
    ("GET", "/cxrpair/"),
    ("GET", "/cxrpair/page.js"),
    ("POST", "/cxrpair/api/worklist"),
    ("GET", "/cxrpair/api/progress"),
    ("GET", "/cxrpair/api/study/x"),
    ("GET", "/cxrpair/api/study/x/image/0.png"),
    ("GET", "/cxrpair/api/study/x/image/0.raw"),
    ("GET", "/cxrpair/api/study/x/heatmap/0.png"),
    ("POST", "/cxrpair/api/study/x/answer"),
    ("POST", "/cxrpair/api/undo"),
]


def _key():
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _token(key, *, roles, seconds=600):
    import jwt

    said = {"preferred_username": "kim", "realm_access": {"roles": roles}, "exp": int(time.time()) + seconds}
    return {"Authorization": f"Bearer {jwt.encode(said, key, algorithm='RS256')}"}


@pytest.fixture(scope="module")
def key(label_environment):
    return _key()


@pytest.fixture(scope="module")
def guarded(key, start_server, write_classifier, tmp_path_factory):
    """A server whose tokens a stand-in of a realm signs."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from monai_cxrpair.phantom import write_phantom

    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    class Realm(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"public_key": base64.b64encode(public).decode()}).encode())

        def log_message(self, *_):
            pass

    folder = tmp_path_factory.mktemp("guarded")
    write_phantom(folder / "studies", patients=3, file_format="dicom", seed=3)
    write_classifier(folder / "model")
    realm = HTTPServer(("127.0.0.1", 0), Realm)
    threading.Thread(target=realm.serve_forever, daemon=True).start()
    switch = {
        "MONAI_LABEL_AUTH_ENABLE": "true",
        "MONAI_LABEL_AUTH_REALM_URI": f"http://127.0.0.1:{realm.server_address[1]}",
    }
    with start_server(folder, folder / "studies", folder / "model" / "model.pt", **switch) as running:
        yield running
    realm.shutdown()


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_right_token_nothing_is_served(guarded, key, method, path):
    assert guarded.ask(method, path).status_code == 401
    other = _token(_key(), roles=["monailabel-user"])
    old = _token(key, roles=["monailabel-user"], seconds=-60)
    for headers in (other, old, {"Authorization": "Bearer x"}, {"Authorization": "Basic a2ltOng="}):
        assert guarded.ask(method, path, headers=headers).status_code == 401
    assert guarded.ask(method, path, headers=_token(key, roles=["guest"])).status_code == 403


def test_with_a_right_token_a_reader_reads(guarded, key):
    headers = _token(key, roles=["monailabel-user", "monailabel-annotator"])
    study = guarded.ask("POST", "/cxrpair/api/worklist", headers=headers, json={"reader": "kim"}).json()["study"]
    assert guarded.ask("GET", f"/cxrpair/api/study/{study}/image/0.png", headers=headers).ok
    assert guarded.ask("GET", "/cxrpair/", headers=headers).ok
    said = {"answer": "absent", "reader": "kim"}
    assert guarded.ask("POST", f"/cxrpair/api/study/{study}/answer", headers=headers, json=said).ok
    assert guarded.ask("POST", f"/infer/{FINDING}?image={study}&output=json", headers=headers).ok
