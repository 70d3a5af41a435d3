"""What really ran, for the tables of settings and of architectures (the paper's Figures 3 and 4): read off the objects, not typed."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from ..detectors import Fused
from ..detectors.external import FittedExternal
from ..keys import default_of, encode, label
from ..runner.step import Handle
from ..store import JSON
from .outputs import Outputs
from .run import Run

ARCHITECTURE = "architecture: "  # training schemes of a search over them
LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.Dropout, nn.AdaptiveAvgPool2d, nn.Embedding, nn.PixelShuffle)


def attack_settings(run: Run, outputs: Outputs) -> list[dict[str, JSON]]:
    """Every attack of a run once: its label, settings, defaults (the paper's, where it prints any), and what it says of itself."""
    out = {}
    for h in run.order(list(outputs)):
        if h.step and h.step.name == "attack_images":
            a: Any = h.args["attack"]
            fields = dataclasses.fields(a)
            out[label(a)] = {
                "label": label(a),
                "attack": type(a).__name__,
                "settings": {f.name: encode(getattr(a, f.name)) for f in fields},
                "defaults": {f.name: encode(default_of(f)) for f in fields},
                "eps": a.eps,
                "title": getattr(a, "title", label(a)),
                "norm": getattr(a, "norm", None),
                "strength": getattr(a, "strength", None),
                "reduced": getattr(a, "reduced", False),
            }
    return list(out.values())


def said_of(run: Run, h: Handle) -> dict[str, JSON]:
    """What a fitted detector's settings say beside what it holds: ``words``, ``explained``, images a step of its head (``batch``), as far
    as they do.
    """
    settings = h.args.get("settings", Fused)  # a fusion of fitted detectors has none
    settings = run.get(settings) if isinstance(settings, Handle) else settings
    found = {k: getattr(settings, k, None) for k in ("words", "explained")} | {
        "batch": getattr(getattr(settings, "head", None), "batch", None)
    }
    return {k: v for k, v in found.items() if v}


def networks(run: Run, outputs: Outputs, lost: set[str]) -> list[dict[str, JSON]]:
    """The classifier, the saliency model and one head of each kind and architecture, layer by layer, with their numbers of weights."""
    out: dict[str, dict[str, JSON]] = {"classifier": _described("classifier", run.get(outputs.classifier))}
    for h in outputs.map_checks:
        if h.fingerprint not in lost:
            out["saliency model"] = _described("saliency model", run.get(h))
    for s in outputs.scores:
        if s.scores.fingerprint in lost or not (facts := run.record(s.detector)["facts"]):
            continue
        scheme = facts["scheme"]
        name = facts["detector"] + ("" if scheme == "paired" else f" ({scheme})")
        if (scheme in ("paired", "replica") or scheme.startswith(ARCHITECTURE)) and name not in out:
            module = run.get(s.detector)
            out[name] = _described(name, getattr(module, "head", module))
    return list(out.values())


def _described(name: str, module: nn.Module) -> dict[str, JSON]:
    layers = [_layer(m) for m in module.modules() if isinstance(m, LAYERS)]
    if not layers and isinstance(module, FittedExternal):
        layers = ["its author's code"]
    if not layers:
        layers = [f"logistic, {sum(p.numel() for p in module.parameters()) - 1} columns"]
    return {"name": name, "layers": layers, "weights": sum(p.numel() for p in module.parameters())}


def _layer(m: nn.Module) -> str:
    if isinstance(m, nn.Conv2d):
        return f"conv {m.kernel_size[0]}x{m.kernel_size[1]} {m.in_channels}→{m.out_channels}" + (
            f" /{m.stride[0]}" if m.stride[0] > 1 else ""
        )
    if isinstance(m, nn.Linear):
        return f"linear {m.in_features}→{m.out_features}"
    if isinstance(m, nn.Embedding):
        return f"embedding {m.num_embeddings}x{m.embedding_dim}"
    return {"BatchNorm2d": "batch norm", "PixelShuffle": "pixel shuffle"}.get(type(m).__name__) or (
        f"dropout {m.p:g}" if isinstance(m, nn.Dropout) else f"mean pool {m.output_size}" if isinstance(m, nn.AdaptiveAvgPool2d) else ""
    )
