"""The Open Inference Protocol as KServe's own package describes it, in the environment of `make clients`: one file of OpenAPI.

    python published.py OUT MODEL VERSION [FILE]

With FILE, the protocol's own `specification/protocol/open_inference_rest.yaml` (github.com/kserve/open-inference-protocol), that one in its
place; its paths are written as `${MODEL_NAME}`, which OpenAPI does not know.

What is left of it: the protocol's paths, for one model of one version. What is added: answers 400 (a bad request) and, where a model is
named, 404 (another model is asked) with an error as the protocol's text has it; the package's description, made by FastAPI, has neither.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
ONLY_ITS_OWN = ("/v2/repository", "/v2/models")  # an extension, and a list that the protocol has not


def of_kserve() -> dict[str, Any]:
    """What KServe's package says of its routes."""
    models, application = ModelRepository(), FastAPI()
    register_v2_endpoints(application, DataPlane(models), ModelRepositoryExtension(models))
    found: dict[str, Any] = application.openapi()
    return found


def of_file(path: Path) -> dict[str, Any]:
    """The protocol's own file; the parameters of a path stand with each of its methods."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8").replace("${MODEL", "{MODEL"))
    for of in found["paths"].values():
        shared = of.pop("parameters", [])
        for asked in of.values():
            asked["parameters"] = [dict(p) for p in (*shared, *asked.get("parameters", []))]
    return found


def described(model: str, version: str, path: Path | None = None) -> dict[str, Any]:
    """The description, for one model."""
    found = of_file(path) if path else of_kserve()
    found["paths"] = {p: of for p, of in found["paths"].items() if p != ONLY_ITS_OWN[1] and not p.startswith(ONLY_ITS_OWN[0])}
    for of in found["paths"].values():
        for asked in of.values():
            error = {"description": "refused", "content": {"application/json": {"schema": ERROR}}}
            named = [p for p in asked.get("parameters", []) if p["in"] == "path"]
            asked["responses"] |= {"400": error} | ({"404": error} if named else {})
            for p in named:
                p["schema"] = {"type": "string", "enum": [model if p["name"].lower() == "model_name" else version]}
    return found


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(described(*sys.argv[2:4], *map(Path, sys.argv[4:])), out)
