"""The Open Inference Protocol: what is answered is what the guard says, in JSON and in bytes, to one caller and to many."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from salientry.guard import Guard
from salientry.serve import app

from .tiny import SHAPE, X, guard, infer_binary, infer_json, request, run, tensors

INFER = "/v2/models/guard/infer"
FLOATS = X.astype(np.float32) / 255


def expected(x: Any) -> dict[str, Any]:
    """What the guard says when it is called by itself."""
    v = guard()(torch.from_numpy(np.ascontiguousarray(x)))
    assert v.logits is not None
    arrays = {k: getattr(v, k).numpy() for k in ("logits", "predicted", "flagged", "score", "p_value")}
    return arrays | {"reason": [r if f else "" for r, f in zip(v.reasons, v.flagged, strict=True)]}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Answers and flags are equal; numbers up to the rounding that another size of batch makes."""
    np.testing.assert_array_equal(found["predicted"], wanted["predicted"])
    for name in ("logits", "score", "p_value"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-4, rtol=1e-4)
    near = np.abs(wanted["score"] - guard().threshold) < 1e-4
    np.testing.assert_array_equal(np.asarray(found["flagged"])[~near], wanted["flagged"][~near])
    said = [r for r, n in zip(found["reason"], near, strict=True) if not n]
    reasons = [(r, f) for r, f, n in zip(wanted["reason"], wanted["flagged"], near, strict=True) if not n]
    return all(a == b or (not b and f and a.startswith("largest contributions")) for a, (b, f) in zip(said, reasons, strict=True))


@pytest.mark.parametrize("x", [X[:7], FLOATS[:7]], ids=["UINT8", "FP32"])
def test_answers_are_the_guards_in_json_and_in_bytes(x: Any) -> None:
    application = app(guard())
    as_json = request(application, "POST", INFER, json=infer_json(x))
    as_bytes = request(application, "POST", INFER, **infer_binary(x))
    assert as_json.status_code == as_bytes.status_code == 200, as_json.text
    assert as_json.headers["content-type"] == "application/json" and as_bytes.headers["content-type"] == "application/octet-stream"
    one, other = tensors(as_json), tensors(as_bytes)
    assert one.keys() == other.keys() == {"logits", "predicted", "flagged", "score", "p_value", "reason"}
    assert all(np.array_equal(one[k], other[k]) for k in one), "to the last bit"
    assert same(one, expected(x))
    assert any(one["reason"]) and not all(one["reason"]), "some are flagged, with a reason, and some are not"
    assert [bool(r) for r in one["reason"]] == one["flagged"].tolist()


def test_nested_data_are_what_flat_data_are() -> None:
    application, x = app(guard()), FLOATS[:2]
    nested = infer_json(x)
    nested["inputs"][0]["data"] = x.tolist()
    answers = [request(application, "POST", INFER, json=body) for body in (nested, infer_json(x))]
    assert answers[0].status_code == 200 and answers[0].content == answers[1].content


def test_thirty_two_callers_get_their_own_answers() -> None:
    """Each sends other images, some of them several, in either form; the worker judges them together."""
    application = app(guard())
    parts = [X[i : i + 1 + i % 3] for i in range(32)]

    async def ask(c: httpx.AsyncClient) -> list[httpx.Response]:
        forms = [{"json": infer_json(x, id=str(i))} if i % 2 else infer_binary(x, id=str(i)) for i, x in enumerate(parts)]
        return await asyncio.gather(*(c.post(INFER, **form) for _ in range(3) for form in forms))

    answers = run(ask, application)
    whole = expected(X)
    for i, answer in enumerate(answers):
        at = slice(i % 32, i % 32 + len(parts[i % 32]))
        assert answer.status_code == 200 and same(tensors(answer), {k: v[at] for k, v in whole.items()})
        length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
        assert json.loads(answer.content[:length])["id"] == str(i % 32)
    batches = application.state.server.metrics.batches
    passes = next(s.value for m in batches.collect() for s in m.samples if s.name.endswith("_count"))
    assert passes < len(answers), "several requests went through one pass"


def test_only_the_outputs_that_are_asked_for_come_each_in_the_form_that_it_is_asked_for() -> None:
    asked = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "predicted"}]
    answer = request(app(guard()), "POST", INFER, json=infer_json(X[:3], outputs=asked))
    body = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert [o["name"] for o in body["outputs"]] == ["score", "predicted"]
    assert "data" not in body["outputs"][0] and body["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert body["outputs"][1]["data"] == expected(X[:3])["predicted"].tolist()
    assert len(answer.content) == int(answer.headers["inference-header-content-length"]) + 12


def test_metadata_and_health_are_as_the_protocol_has_them() -> None:
    application = app(guard(), name="digits")
    assert request(application, "GET", "/v2").json().keys() == {"name", "version", "extensions"}
    assert request(application, "GET", "/v2/").json()["extensions"] == ["binary_tensor_data"]
    assert request(application, "GET", "/v2/health/live").json() == {"live": True}
    assert request(application, "GET", "/v2/health/ready").json()["ready"] is True
    for path in ("/v2/models/digits", "/v2/models/digits/versions/1"):
        found = request(application, "GET", path).json()
        assert found["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 12, 12]}]
        assert {o["name"]: (o["datatype"], o["shape"]) for o in found["outputs"]} == {
            "logits": ("FP32", [-1, 5]),
            "predicted": ("INT64", [-1]),
            "flagged": ("BOOL", [-1]),
            "score": ("FP32", [-1]),
            "p_value": ("FP32", [-1]),
            "reason": ("BYTES", [-1]),
        }
        assert request(application, "GET", f"{path}/ready").json() == {"name": "digits", "ready": True}
    answer = request(application, "POST", "/v2/models/digits/versions/1/infer", json=infer_json(X[:1]))
    assert (answer.json()["model_name"], answer.json()["model_version"]) == ("digits", "1")


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/guard/versions/2", "/v2/models/other/ready", "/v2/nothing", "/V2"])
def test_what_is_not_here_is_404_with_an_error(path: str) -> None:
    answer = request(app(guard()), "GET", path)
    assert answer.status_code == 404 and answer.json()["error"] and answer.json()["code"] in ("unknown_model", "not_found")


def test_a_score_that_is_no_number_is_null_and_flagged() -> None:
    broken = Guard(guard().classifier, None, guard().detector, 0.0, 0.1, guard().calibration, SHAPE)
    broken.detector = Nothing()
    answer = request(app(broken), "POST", INFER, json=infer_json(X[:2]))
    found = {o["name"]: o["data"] for o in answer.json()["outputs"]}
    assert found["score"] == [None, None] and found["flagged"] == [True, True]


class Nothing(torch.nn.Module):
    """A detector that knows nothing."""

    needs = frozenset({"logits"})
    parts = ()

    class settings:
        description = "nothing"

    def forward(self, seen: Any) -> torch.Tensor:
        return torch.full((len(seen.logits),), float("nan"))


# --- modes -----------------------------------------------------------------------------------------------------------


def test_monitor_answers_everything_and_says_nothing_in_headers() -> None:
    answer = request(app(guard()), "POST", INFER, json=infer_json(X))
    assert answer.status_code == 200 and "salientry-flagged" not in answer.headers


def test_mark_names_the_flagged_images_in_a_header() -> None:
    application = app(guard(), mode="mark")
    flagged = np.flatnonzero(expected(X)["flagged"])
    answer = request(application, "POST", INFER, json=infer_json(X))
    assert answer.status_code == 200 and answer.headers["salientry-flagged"] == ",".join(map(str, flagged))
    clean = np.delete(X, flagged, 0)[:1]
    assert request(application, "POST", INFER, json=infer_json(clean)).headers["salientry-flagged"] == "none"


def test_enforce_withholds_answers_of_a_request_with_a_flagged_image() -> None:
    application = app(guard(), mode="enforce")
    wanted = expected(X[:8])
    answer = request(application, "POST", INFER, json=infer_json(X[:8]))
    assert answer.status_code == 422 and wanted["flagged"].any()
    assert answer.json()["code"] == "flagged" and answer.json()["verdict"]["flagged"] == wanted["flagged"].tolist()
    assert "logits" not in answer.text and "predicted" not in answer.text
    clean = X[:8][~wanted["flagged"]]
    assert request(application, "POST", INFER, json=infer_json(clean)).status_code == 200
