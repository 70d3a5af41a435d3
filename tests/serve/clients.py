"""Others' clients of the protocol, as they are: `python clients.py URL IMAGES.npy` prints what each was answered, as JSON.

It runs in an environment of its own (`make clients`), where neither Salientry nor torch is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np

NAMES = ("logits", "predicted", "flagged", "score", "p_value", "reason")


def plain(values: Any) -> list[Any]:
    return [v.decode() if isinstance(v, bytes) else v for v in np.asarray(values).reshape(-1).tolist()]


def triton(url: str, images: Any, binary: bool, named: bool) -> dict[str, Any]:
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    client = InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("guard")
    assert client.get_server_metadata()["name"] == "salientry"
    about = client.get_model_metadata("guard")
    assert [o["name"] for o in about["outputs"]] == list(NAMES)
    given = InferInput("images", list(images.shape), "UINT8" if images.dtype == np.uint8 else "FP32")
    given.set_data_from_numpy(images, binary_data=binary)
    outputs = [InferRequestedOutput(n, binary_data=binary) for n in NAMES] if named else None
    found = client.infer("guard", [given], outputs=outputs, request_id="7")
    assert found.get_response()["id"] == "7"
    return {n: plain(found.as_numpy(n)) for n in NAMES}


async def kserve(url: str, images: Any, binary: bool) -> dict[str, Any]:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=30))
    assert await client.is_server_live(url) and await client.is_server_ready(url) and await client.is_model_ready(url, "guard")
    given = InferInput("images", list(images.shape), "UINT8" if images.dtype == np.uint8 else "FP32")
    given.set_data_from_numpy(images, binary_data=binary)
    found = await client.infer(url, InferRequest("guard", [given], request_id="7"), model_name="guard")
    assert found.id == "7"
    return {o.name: plain(o.as_numpy()) for o in found.outputs}


def main(url: str, path: str) -> None:
    bytes_ = np.load(path)
    answers: dict[str, Any] = {}
    for images in (bytes_, bytes_.astype(np.float32) / 255):
        for binary in (True, False):
            how = f"{images.dtype} {'binary' if binary else 'JSON'}"
            for named in (True, False):
                answers[f"triton {how} {'outputs named' if named else ''}"] = triton(url, images, binary, named)
            answers[f"kserve {how}"] = asyncio.run(kserve(url, images, binary))
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
