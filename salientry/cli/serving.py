"""What ``salientry serve`` does: a guard and its classifier from their files into a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks import CW_FAST, FGSM, PGD
from ..campaign import Campaigns
from ..errors import UsageError
from ..guard import Guard
from ..serve import Batching, Keys, Limits, app
from ..serve.access import address
from ..serve.page import PageAttack, examples_in
from ..serve.process import refuse, serve
from ..serve.settings import whole
from .checking import loaded

BUDGETS = (1, 2, 4, 8, 16, 32, 76)  # grey levels of 255; 76: .3, the usual one of MNIST


def _within(attack: Any) -> Callable[[nn.Module, Tensor, Tensor, float], Tensor]:
    def run(classifier: nn.Module, x: Tensor, predicted: Tensor, budget: float) -> Tensor:
        changed = replace(attack, eps=budget) if budget else attack
        found: Tensor = changed(classifier, x, predicted, seeds=torch.zeros(len(x), dtype=torch.int64, device=x.device))
        return found

    return run


def page_attacks() -> dict[str, PageAttack]:
    """What the page offers where it may attack: for seconds, not for strength."""
    return {
        "fgsm": PageAttack("FGSM, one step", _within(FGSM()), BUDGETS),
        "pgd": PageAttack("PGD, 40 steps", _within(PGD(steps=40)), BUDGETS),
        "cw": PageAttack("C&W, the smallest change it finds", _within(CW_FAST)),
    }


def watched(exempt: Sequence[str], keys: Keys) -> Campaigns:
    """What watches all sources but these.

    Args:
        exempt: names of API keys, or, where there are none, addresses: a sender goes by the name of its key.
        keys: that there are.

    Raises:
        UsageError: for what is neither.
    """
    campaigns = Campaigns()
    for name in exempt:
        if keys:
            if name not in keys.names:
                raise UsageError(f"--exempt {name!r} is no sender: senders go by the names of their API keys: {', '.join(keys.names)}")
            campaigns.exempt(name)
            continue
        try:
            campaigns.exempt(address(name))
        except ValueError:
            raise UsageError(f"--exempt {name!r} is no sender: an address expected, since there are no API keys") from None
    return campaigns


def execute(
    folder: Path,
    nets: dict[str, Any],
    detector: str | None,
    key_file: Path | None,
    host: str,
    port: int,
    device: str,
    *,
    name: str,
    mode: str,
    limits: dict[str, int],
    batching: dict[str, Any],
    kept: dict[str, Any],
    drain: float,
    exempt: Sequence[str],
    page: bool,
    attacks: bool,
    examples: Path | None,
    say: Callable[[str], Any],
) -> None:
    """Serve until a signal ends it.

    Args:
        folder: of the guard.
        nets: ``classifier``, ``weights``, ``second`` and ``second_weights``, as ``check`` takes them.
        detector: ``module:name`` of a detector that is not ours.
        key_file: of API keys; None: those of the environment, if any.
        host: address to listen at.
        port: to listen at.
        device: where to compute.
        name: of the model.
        mode: ``monitor``, ``mark`` or ``enforce``.
        limits: settings of :class:`~salientry.serve.Limits`.
        batching: settings of :class:`~salientry.serve.Batching`.
        kept: where flagged images are kept, and how many.
        drain: seconds from the signal to the end.
        exempt: names of API keys, or addresses, that are never reported as a campaign: their pictures are a video's.
        page: whether there is a page; attacks or examples imply it.
        attacks: whether the page offers attacks.
        examples: folder of pictures that the page offers; None: none.
        say: hears where it listens.

    Raises:
        UsageError: for settings or networks that cannot be used.
        DataError: for files that cannot be used.
        DeviceError: when the device is not here, or the address cannot be had.
    """
    refuse(port, drain)
    whole("keep_at_most", kept["keep_at_most"], 1)
    bounds, together = Limits(**limits), Batching(**batching)
    beside = {"second": nets["second"], "second_weights": nets["second_weights"], "detector": detector}

    def read() -> tuple[Guard, Keys]:
        return loaded(folder, nets["classifier"], nets["weights"], device, **beside), Keys.read(key_file)

    guard, keys = read()
    shown: dict[str, Any] = {"page": page, "attack": page_attacks() if attacks else None}
    shown["examples"] = examples_in(examples, guard) if examples else None
    how: dict[str, Any] = {"limits": bounds, "batching": together, "campaign": watched(exempt, keys)}
    application = app(guard, name=name, mode=mode, keys=keys, **how, **kept, **shown)
    serve(application, host, port, reread=read, drain=drain, say=say)
