"""The search over architectures: what it tries is what Appendix A names, and a small one runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from salientry.errors import UsageError
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.paper_cnn import ASSIRA_NET, CIFAR10_NET, MNIST_NET, PaperCNN
from salientry.recipes.paper import CONFIGS
from salientry.recipes.sweep import AS_PRINTED, DROPOUTS, HE, KEPT, architectures, build, stacked, sweep
from salientry.report.report import write
from salientry.results import architectures as architecture_names
from salientry.results.numbers import numbers
from salientry.results.scores import Scores

from .test_paper import TINY


@pytest.mark.parametrize("net", [MNIST_NET, CIFAR10_NET, ASSIRA_NET])
def test_what_appendix_a_names_is_tried(net: PaperCNN) -> None:
    tried = architectures(net)
    assert tried[AS_PRINTED] == net
    assert len(set(tried.values())) >= len(tried) - 2, "the printed net may be one of the depths or dense layers"
    assert {n.optimiser for n in tried.values()} == {"adam", "sgd", "rmsprop"}
    assert {n.dropout for n in tried.values()} == {0.0, 0.4, 0.6} and {n.pool for n in tried.values()} == {True, False}
    depths = {sum(count for count, *_ in n.blocks) for name, n in tried.items() if "convolutions" in name}
    assert depths == set(range(3, 10))
    assert {len(n.dense) + 1 for n in tried.values()} >= {1, 2, 3}
    assert {n.blocks[0][1] for name, n in tried.items() if "convolutions" in name} == {32, 64}
    assert (AS_PRINTED, (HE, KEPT)) == (architecture_names.AS_PRINTED, architecture_names.BEYOND), "what reads the records knows them"
    assert {name for name, n in tried.items() if n.initial == "he"} == {HE}
    assert len(tried) == 1 + architecture_names.NAMED + len(architecture_names.BEYOND)
    assert DROPOUTS == (0.3, 0.4, 0.5, 0.6, 0.7)


@pytest.mark.parametrize("depth", range(3, 10))
def test_a_stack_has_as_many_convolutions_as_it_says(depth: int) -> None:
    net = PaperCNN(blocks=stacked(depth, 4, doubling=True)).layers((1, 16, 16), 2)
    widths = [m.out_channels for m in net if isinstance(m, nn.Conv2d)]
    assert len(widths) == depth and set(widths) == {4, 8, 16} and widths == sorted(widths)
    assert {f for _, f, _ in stacked(depth, 4, doubling=False)} == {4}


def recorded(run: Run, out: Path, of: str, only: str = "") -> Any:
    config = replace(TINY, net=replace(TINY.net, epochs=2))
    outputs = build(run, config, of, "fgsm", only, 60, 50, (0.3, 0.6))
    about: dict[str, Any] = {"recipe": "sweep", "parameters": {}, "seed": 0, "numerics": "float32"}
    export(run, outputs, run.compute(outputs.read), out, about)
    write(out)
    return outputs, numbers(Scores.read(out))


def test_each_architecture_has_its_row(tmp_path: Path) -> None:
    _, found = recorded(Run(tmp_path / "store"), tmp_path / "out", "detectors", only="no drop-out")
    rows = found[(found["kind"] == "architecture") & (found["measure"] == "accuracy")].set_index(["detector", "scheme"])["value"]
    gains = found[(found["kind"] == "architecture") & (found["measure"] == "gain")].set_index("detector")["value"]
    without = "architecture: no drop-out"
    assert set(rows.index) == {(d, s) for d in ("ID", "JSD") for s in (AS_PRINTED, without)}
    for d in ("ID", "JSD"):
        assert gains[d] == pytest.approx(rows[d, without] - rows[d, AS_PRINTED])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Architectures of image detectors" in page
    assert re.search(r"No pictures: this run of recipe \w+ made none\.", page)
    assert "in float32, at each detector's own threshold" in page, "published images only: accuracy in place of the detection rate"


def test_drop_out_is_chosen_on_images_that_the_classifier_did_not_see(tmp_path: Path) -> None:
    run = Run(tmp_path / "store")
    outputs, _ = recorded(run, tmp_path / "out", "classifier")
    found = [run.get(h) for h in outputs.accuracies]
    assert [f["called"] for f in found] == ["drop-out 0.3", "drop-out 0.6"] and {f["n"] for f in found} == {50}
    for h in outputs.accuracies:
        images = run.get(h.args["images"])
        classifier = h.args["images"].args["classifier"]
        assert not set(images.ids) & set(run.get(classifier.args["rows"]).ids)
    assert "drop-out 0.3" in (tmp_path / "out" / "report.html").read_text()
    one, _ = recorded(Run(tmp_path / "one"), tmp_path / "alone", "classifier", only="0.6")
    assert [h.fingerprint for h in one.accuracies] == [outputs.accuracies[1].fingerprint], "a slice is of the same steps"


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown sweep of 'saliency'"):
        sweep(Run(tmp_path), of="saliency")
    with pytest.raises(UsageError, match=r"only=0\.45: no such drop-out is tried; there are: 0\.3, 0\.4,"):
        sweep(Run(tmp_path), of="classifier", only="0.45")
    with pytest.raises(UsageError, match="no architecture's name holds 'transformer'"):
        build(Run(tmp_path), CONFIGS["cifar10"], "detectors", "fgsm", "transformer", 0, 0)
