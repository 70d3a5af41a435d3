"""The Open Inference Protocol as KServe's own package describes it, in the environment of `make clients`: one file of OpenAPI.

    python published.py OUT MODEL VERSION

What is left of it: the protocol's paths, for one model of one version. What is added: answers 400 (a bad request) and, where a model is
named, 404 (another model is asked) with an error as the protocol's text has it; the package's description, made by FastAPI, has neither.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from fastapi import FastAPI
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
ONLY_ITS_OWN = ("/v2/repository", "/v2/models")  # an extension, and a list that the protocol has not


def described(model: str, version: str) -> dict[str, Any]:
    """The description, for one model."""
    models, application = ModelRepository(), FastAPI()
    register_v2_endpoints(application, DataPlane(models), ModelRepositoryExtension(models))
    found: dict[str, Any] = application.openapi()
    found["paths"] = {p: of for p, of in found["paths"].items() if p != ONLY_ITS_OWN[1] and not p.startswith(ONLY_ITS_OWN[0])}
    for of in found["paths"].values():
        for asked in of.values():
            error = {"description": "refused", "content": {"application/json": {"schema": ERROR}}}
            named = [p for p in asked.get("parameters", []) if p["in"] == "path"]
            asked["responses"] |= {"400": error} | ({"404": error} if named else {})
            for p in named:
                p["schema"] = {"type": "string", "enum": [model if p["name"] == "model_name" else version]}
    return found


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(described(*sys.argv[2:]), out)
