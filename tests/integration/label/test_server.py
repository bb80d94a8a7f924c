"""MONAI Label's own interface and ours, on one running server."""

import csv
import json
from pathlib import Path

import pytest

FINDING = "pleural_effusion"


def _next(server, reader: str, **more: str) -> str:
    return server.ask("POST", "/cxrpair/api/worklist", json={"reader": reader, **more}).json()["study"]


def _label(server, study: str, said: object, *, tag: str = "final", reader: str = "api"):
    content = json.dumps({FINDING: said, "reader": reader}) if not isinstance(said, bytes) else said
    files = {"label": ("label.json", content)}
    return server.ask("PUT", "/datastore/label", params={"image": study, "tag": tag}, files=files)


def test_the_app_tells_what_it_can(server) -> None:
    said = server.ask("GET", "/info/").json()
    assert list(said["models"]) == [FINDING]
    assert set(said["strategies"]) == {"uncertain", "diverse", "mixed", "random"}
    assert set(said["scoring"]) == {"probability", "uncertainty"}
    assert said["datastore"]["total"] > 12


def test_infer_gives_label_probability_and_heat_map_and_a_file_the_same_as_the_study(server) -> None:
    study = _next(server, "infer")
    known = server.ask("POST", f"/infer/{FINDING}", params={"image": study, "output": "json"}).json()
    assert known["prediction"][0] == {"idx": 0, "label": FINDING, "score": known["probability"]}
    image = server.ask("POST", f"/infer/{FINDING}", params={"image": study, "output": "image"})
    assert image.content.startswith(b"\x89PNG")
    both = server.ask("POST", f"/infer/{FINDING}", params={"image": study})
    assert both.headers["content-type"].startswith("multipart/form-data")
    file = server.ask("GET", "/datastore/image", params={"image": study}).content
    sent = server.ask("POST", f"/infer/{FINDING}", params={"output": "json"}, files={"file": ("x.dcm", file)}).json()
    first = known["radiographs"][0]["probability"]
    assert sent["probability"] == pytest.approx(first, abs=1e-6)


def test_a_reader_reads_a_study_from_the_worklist_to_the_answer(server) -> None:
    study = _next(server, "kim", strategy="diverse")
    said = server.ask("GET", f"/cxrpair/api/study/{study}").json()
    assert said["study"] == study
    at = f"/cxrpair/api/study/{study}"
    assert server.ask("GET", f"{at}/image/0.png?size=64").content.startswith(b"\x89PNG")
    assert server.ask("GET", f"{at}/heatmap/0.png").content.startswith(b"\x89PNG")
    raw = server.ask("GET", f"{at}/image/0.raw?size=64")
    assert len(raw.content) == 2 * int(raw.headers["x-rows"]) * int(raw.headers["x-columns"])
    answer = server.ask("POST", f"{at}/answer", json={"answer": "uncertain", "reader": "kim"})
    assert answer.json()["progress"]["answers"]["uncertain"] == 1
    assert server.ask("POST", "/cxrpair/api/undo", json={"reader": "kim"}).json()["undone"]["study"] == study


def test_a_final_answer_is_saved_and_listed_by_the_label_interface(server) -> None:
    study = server.ask("POST", "/activelearning/random", json={"client_id": "api"}).json()["id"]
    assert _label(server, study, "absent").json()["label"] == study
    label = server.ask("GET", "/datastore/label", params={"label": study, "tag": "final"}).json()
    assert (label[FINDING], label["reader"]) == ("absent", "api")
    objects = server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]
    assert objects[study]["labels"]["final"]["info"][FINDING] == "absent"
    assert study in [each["image"] for each in server.ask("GET", "/datastore/", params={"output": "train"}).json()]
    assert server.ask("GET", f"/cxrpair/api/study/{study}").json()["answer"]["answer"] == "absent"


def test_two_anonymous_clients_get_different_studies(server) -> None:
    given = [server.ask("POST", "/activelearning/uncertain", json={}).json()["id"] for _ in range(3)]
    assert len(set(given)) == 3


# No study is named here, and none of them may be answered with success.
BAD = [
    ("POST", f"/infer/{FINDING}", {"params": {"image": "/etc/passwd"}}),
    ("POST", f"/infer/{FINDING}", {"params": {"image": "../../etc/passwd"}}),
    ("POST", f"/infer/{FINDING}", {"params": {"image": "unknown"}}),
    ("POST", f"/infer/{FINDING}", {"params": {"image": "x"}, "files": {"params": (None, '{"image": "/etc/passwd"}')}}),
    ("POST", f"/infer/{FINDING}", {"params": {"image": "x"}, "files": {"params": (None, "{not json")}}),
    ("POST", f"/infer/{FINDING}", {"params": {"image": "x"}, "files": {"params": (None, "[1]")}}),
    ("POST", f"/infer/{FINDING}", {"params": {"session_id": "../.."}}),
    ("POST", f"/infer/{FINDING}", {"params": {"image": "x", "output": "dicom_seg"}}),
    ("POST", f"/infer/{FINDING}", {"files": {"file": ("x.dcm", b"not DICOM")}}),
    ("POST", f"/infer/{FINDING}", {"files": {"file": ("x.dcm", b"\0" * 128 + b"DICM")}}),
    ("POST", f"/infer/{FINDING}", {}),
    ("POST", "/infer/segmentation", {"params": {"image": "x"}}),
    ("POST", f"/batch/infer/{FINDING}", {"params": {"images": "some"}}),
    ("POST", "/wsi/infer/x", {"params": {"image": "/etc/passwd"}}),
    ("GET", "/datastore/image", {"params": {"image": "/etc/passwd"}}),
    ("GET", "/datastore/image/info", {"params": {"image": "unknown"}}),
    ("GET", "/datastore/label", {"params": {"label": "../answers", "tag": "final"}}),
    ("PUT", "/datastore/image", {"files": {"file": ("x.dcm", b"x")}}),
    ("DELETE", "/datastore/image", {"params": {"id": "x"}}),
    ("DELETE", "/datastore/label", {"params": {"id": "x", "tag": "final"}}),
    ("GET", "/datastore/dataset", {}),
    ("PUT", "/datastore/label", {"params": {"image": "unknown"}, "files": {"label": ("x.json", b"{}")}}),
    ("PUT", "/datastore/label", {"params": {"image": "unknown"}}),
    ("POST", "/activelearning/best", {"json": {}}),
    ("POST", "/activelearning/random", {"data": "[1", "headers": {"content-type": "application/json"}}),
    ("POST", "/scoring/dice", {"params": {"run_sync": "true"}}),
    ("POST", "/train/other", {"params": {"run_sync": "true"}}),
    ("POST", f"/train/{FINDING}", {"params": {"run_sync": "true"}, "json": {"fine_tune": "yes"}}),
    ("POST", f"/train/{FINDING}", {"params": {"run_sync": "true"}, "json": {"fine_tune": True, "max_epochs": 0}}),
    ("POST", f"/train/{FINDING}", {"params": {"run_sync": "true"}, "json": {"seed": "one"}}),
    ("PUT", f"/model/{FINDING}", {"files": {"file": ("model.pt", b"x")}}),
    ("DELETE", f"/model/{FINDING}", {}),
    ("PUT", "/session/", {"files": {"files": ("x", b"x")}}),
    ("GET", "/proxy/dicom/studies", {}),
    ("POST", "/proxy/dicom/stow/studies", {"data": b"x"}),
    ("POST", "/cxrpair/api/worklist", {}),
    ("POST", "/cxrpair/api/worklist", {"json": {"reader": ""}}),
    ("POST", "/cxrpair/api/worklist", {"json": {"reader": "bad", "strategy": "best"}}),
    ("POST", "/cxrpair/api/worklist", {"json": {"reader": "bad", "another": 7}}),
    ("GET", "/cxrpair/api/study/unknown", {}),
    ("GET", "/cxrpair/api/study/..%2f..%2fanswers.jsonl", {}),
    ("GET", "/cxrpair/api/study/unknown/image/0.png", {}),
    ("GET", "/cxrpair/api/study/unknown/image/x.png", {}),
    ("GET", "/cxrpair/api/study/unknown/image/0.png", {"params": {"size": "-1"}}),
    ("GET", "/cxrpair/api/study/unknown/heatmap/0.png", {}),
    ("GET", "/cxrpair/..%2fdesk.py", {}),
    ("POST", "/cxrpair/api/study/unknown/answer", {"json": {"answer": "present", "reader": "bad"}}),
    ("POST", "/cxrpair/api/study/unknown/answer", {"json": {"answer": "present"}}),
    ("POST", "/cxrpair/api/study/unknown/answer", {"json": []}),
    ("POST", "/cxrpair/api/undo", {"json": {"reader": 1}}),
    ("POST", "/cxrpair/api/undo", {"data": b"\xff", "headers": {"content-type": "application/json"}}),
    ("POST", f"/infer/{FINDING}", {"data": b"x", "headers": {"content-length": str(2**40)}}),
]


@pytest.mark.parametrize(
    ("method", "path", "more"), BAD, ids=[f"{n} {each[0]} {each[1]}" for n, each in enumerate(BAD)]
)
def test_a_bad_request_gets_one_line_and_the_server_lives_on(server, method: str, path: str, more: dict) -> None:
    if more.get("headers", {}).get("content-length"):
        status, text = _only_headers(server, method, path, more["headers"])
    else:
        found = server.ask(method, path, **more)
        status, text = found.status_code, found.text
    assert 400 <= status < 600, text
    detail = json.loads(text)["detail"]
    assert isinstance(detail, str)
    assert detail
    assert "\n" not in detail
    assert "Traceback" not in text
    assert server.process.poll() is None


def _only_headers(server, method: str, path: str, headers: dict) -> tuple[int, str]:
    """A client that says how much it will send is answered before it does."""
    import http.client

    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.parametrize("said", ["maybe", 7, None, b"{", b"[]", b"\xff", b'{"other": "present"}'])
def test_a_label_that_is_no_answer_is_refused(server, said: object) -> None:
    study = server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]
    refused = _label(server, next(iter(study)), said)
    assert refused.status_code == 422
    assert isinstance(refused.json()["detail"], str)


def test_no_web_page_of_another_origin_may_ask_with_the_readers_rights(server) -> None:
    found = server.ask("GET", "/cxrpair/api/progress", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in found.headers


def test_the_page_is_served_with_a_policy_that_loads_nothing_from_elsewhere(server) -> None:
    page = server.ask("GET", "/cxrpair/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_no_identifier_of_a_patient_is_in_what_is_sent(server) -> None:
    names = {path.name for path in server.studies.iterdir() if path.is_dir()}  # the phantom's patients
    assert len(names) == 12
    sent = server.ask("GET", "/datastore/", params={"output": "all"}).text + server.ask("GET", "/datastore/").text
    for study in server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]:
        sent += server.ask("GET", f"/cxrpair/api/study/{study}").text
        sent += server.ask("POST", f"/infer/{FINDING}", params={"image": study, "output": "json"}).text
    assert not [name for name in names if name in sent]


def _truth(server) -> dict[str, int]:
    """Study -> effusion; the server's ids are pseudonyms, so the radiographs' pixels tell which is which."""
    from monai_cxrpair.label.studies import Studies

    with (server.studies / "truth.csv").open() as file:
        by_file = {row["path"]: int(row[FINDING]) for row in csv.DictReader(file)}
    state = next((server.app / "state").iterdir())
    studies = Studies.read(server.studies, key_folder=state)
    return {
        name: by_file[str(study.radiographs[0].path.relative_to(server.studies))] for name, study in studies.items()
    }


def test_answers_become_a_head_in_a_process_of_its_own_and_the_server_tells_its_figures(server) -> None:
    """Last, as it answers every study; the process finds the shim by itself."""
    for study, present in _truth(server).items():
        said = _label(server, study, "present" if present else "absent")
        if said.status_code == 409:  # leased by a reader of another test
            reader = next(each for each in ("infer", "kim") if _label(server, study, "absent", reader=each).ok)
            assert _label(server, study, "present" if present else "absent", reader=reader).ok
    stats = server.train(FINDING)
    assert stats["counts"]["studies"] == len(_truth(server))
    assert "AUC" in stats["reason"]
    assert Path(server.app / "model" / "model.pt").is_file()
    assert server.ask("POST", "/scoring/probability?run_sync=true").json()["executed"] == len(_truth(server))


def test_the_whole_network_is_fine_tuned_where_the_request_says_so(server) -> None:
    """After the answers of the test before."""
    before = (server.app / "model" / "first" / "model.pt").read_bytes()
    stats = server.train(FINDING, fine_tune=True, max_epochs=1, minutes=5)
    assert "fine-tuned network" in stats["reason"]
    assert stats["learning"] == "fine_tuning"
    assert (server.app / "model" / "first" / "model.pt").read_bytes() == before
    assert server.ask("POST", "/scoring/probability?run_sync=true").json()["executed"] == len(_truth(server))
