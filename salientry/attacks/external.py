"""Attacks of foolbox, torchattacks and ART as ours."""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from importlib import import_module, metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError, theirs
from ..types import Attack
from ._given import keep, kept
from ._gradient import check_settings
from ._validation import validated

PACKAGES = {"foolbox": "foolbox", "torchattacks": "torchattacks", "art": "adversarial-robustness-toolbox"}
NORMS = {"inf": "linf", "linf": "linf", "2": "l2", "2.0": "l2", "l2": "l2", "0": "l0", "0.0": "l0"}
SLACK = 1e-5  # how far outside [0, 1] rounding may lead


@dataclass(frozen=True)
class ExternalAttack:
    """An attack of another library as an attack of ours; :func:`as_attack` makes it of the library's object.

    The library and its version, the class and the parameters are what it is recognised by, so results are kept and found as those of any
    attack. The object itself is in no file. The library draws from its global generators (torch's and NumPy's), which are set from the
    first image's seed and are as they were afterwards: the same images in the same batches give the same result; other neighbours may not.

    Cost: what the library takes.

    Attributes:
        library: its name and version.
        name: the attack's class.
        settings: its parameters.
        eps: Linf budget in [0, 1] units; None: it has none.
        size: what foolbox is given as epsilon, in the attack's own norm; None: nothing.
        norm: ``linf``, ``l2``, ``l0``, or empty where nobody knows.

    Raises:
        UsageError: for what the library raises, and for a result that is no batch of images in [0, 1].
    """

    library: str
    name: str
    settings: str
    eps: float | None = None
    size: float | None = None
    norm: str = ""

    must_fool = False
    REVISION = 2  # attacks of ART whose loss is a method of their own asked the classifier that they had been made with

    @property
    def title(self) -> str:
        """As it stands in a table: ``DDNAttack (foolbox)``."""
        return f"{self.name} ({self.library.partition(' ')[0]})"

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` set the library's generators."""
        given = kept(self, "attack")
        if not len(x):
            return x.clone()
        numbers = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad(), theirs(f"{self.title} fails"):
                torch.manual_seed(int(seeds[0]) % 2**63)
                np.random.seed(int(seeds[0]) % 2**32)
                found = CALLS[self.library.partition(" ")[0]](given, classifier.eval(), x, y, self.size)
        finally:
            np.random.set_state(numbers)
        return self._checked(found, x)

    def _checked(self, found: Any, x: Tensor) -> Tensor:
        if not isinstance(found, Tensor) or found.shape != x.shape or not found.is_floating_point():
            said = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(f"{self.title} should give floats {tuple(x.shape)}, as its images are; it gave {said}")
        low, high = (float(v) for v in torch.aminmax(found.detach()))
        if not (low >= -SLACK and high <= 1 + SLACK):
            raise UsageError(f"{self.title} should give images in [0, 1]; it gave values in [{low:.4g}, {high:.4g}]")
        return found.detach().to(x).clamp(0, 1)


def as_attack(attack: Any, *, eps: float | None = None, size: float | None = None) -> Attack:
    """An attack of ours as it is; one of foolbox, torchattacks or ART as ours.

    The classifier that attacks of torchattacks and ART were made with is not the one that is attacked: that one is put in its place.

    Args:
        attack: the library's object: ``foolbox.attacks.LinfPGD()``, ``torchattacks.PGD(model)``, ``ProjectedGradientDescent(estimator)``.
        eps: its Linf budget in [0, 1] units, where the object does not say it.
        size: the epsilon of an attack of foolbox that needs one, in its own norm.

    Raises:
        UsageError: for anything else, and an attack of foolbox that needs a size and got none.

    Examples:
        >>> judge(detector, ..., attacks=[as_attack(foolbox.attacks.LinfPGD(), size=8 / 255)])    # doctest: +SKIP
    """
    if eps is not None:
        check_settings(eps=(eps, 0, 1))
    if is_dataclass(attack) and not isinstance(attack, type) and isinstance(attack, Attack):
        return attack
    library = next((c.__module__.partition(".")[0] for c in type(attack).__mro__ if c.__module__.partition(".")[0] in CALLS), None)
    if library is None or isinstance(attack, type):
        plain = repr(attack) if isinstance(attack, str | int | float) else type(attack).__name__
        found = attack.__name__ + " itself: make one" if isinstance(attack, type) else plain
        raise UsageError(f"an attack of this package, foolbox, torchattacks or ART expected; found {found}")
    version = metadata.version(PACKAGES[library])
    return READ[library](attack, f"{library} {version}", eps, size)


# --- foolbox -----------------------------------------------------------------------------------------------------


def _of_foolbox(attack: Any, library: str, eps: float | None, size: float | None) -> ExternalAttack:
    base = import_module("foolbox.attacks.base")
    if size is None and eps is None and not isinstance(attack, base.MinimizationAttack):
        raise UsageError(f"{type(attack).__name__} of foolbox needs a size: as_attack(attack, size=8 / 255)")
    norm = NORMS.get(str(getattr(getattr(attack, "distance", None), "p", "")), "")
    size = eps if size is None else size
    budget = eps if eps is not None else size if norm == "linf" else None
    return keep(ExternalAttack(library, type(attack).__name__, _parameters(vars(attack)), budget, size, norm), attack)


def _call_foolbox(attack: Any, classifier: nn.Module, x: Tensor, y: Tensor, size: float | None) -> Any:
    foolbox: Any = import_module("foolbox")
    net = foolbox.models.pytorch.PyTorchModel(classifier, bounds=(0, 1), device=x.device)
    return attack(net, x, foolbox.criteria.Misclassification(y), epsilons=size)[1]


# --- torchattacks ------------------------------------------------------------------------------------------------


def _of_torchattacks(attack: Any, library: str, eps: float | None, size: float | None) -> ExternalAttack:
    name = type(attack).__name__
    norm = NORMS.get(str(getattr(attack, "norm", "l2" if "L2" in name or name in ("CW", "DeepFool") else "")).lower(), "")
    own = getattr(attack, "eps", None)
    norm = norm or ("linf" if isinstance(own, float | int) else "")
    budget = eps if eps is not None else float(own) if norm == "linf" and isinstance(own, float | int) else None
    twin = copy.deepcopy(attack, {id(attack.model): None})
    hidden = ("model", "model_name", "attack", "device")
    said = {k: v for k, v in vars(attack).items() if not k.startswith("_") and k not in hidden}
    return keep(ExternalAttack(library, name, _parameters(said), budget, size, norm), twin)


def _call_torchattacks(attack: Any, classifier: nn.Module, x: Tensor, y: Tensor, size: float | None) -> Any:
    twin = copy.deepcopy(attack)
    twin.set_model(classifier)
    twin.set_device(x.device)
    return twin(x, y)


# --- ART ---------------------------------------------------------------------------------------------------------


def _of_art(attack: Any, library: str, eps: float | None, size: float | None) -> ExternalAttack:
    norm = NORMS.get(str(getattr(attack, "norm", "")).lower(), "")
    own = getattr(attack, "eps", None)
    budget = eps if eps is not None else float(own) if norm == "linf" and isinstance(own, float | int) else None
    made = {k: getattr(attack, k) for k in attack.attack_params if hasattr(attack, k)}
    takes = inspect.signature(type(attack).__init__).parameters
    made = {k: v for k, v in made.items() if k in takes}
    said = {k: v for k, v in made.items() if k not in ("verbose", "summary_writer")}
    twin = copy.deepcopy(attack, {id(attack.estimator): attack.estimator})
    if hasattr(twin, "verbose"):
        twin.verbose = False
    return keep(ExternalAttack(library, type(attack).__name__, _parameters(said), budget, size, norm), twin)


def _call_art(attack: Any, classifier: nn.Module, x: Tensor, y: Tensor, size: float | None) -> Any:
    with torch.no_grad():
        classes = classifier(x[:1]).shape[1]
    device = "cpu" if x.device.type == "cpu" else "gpu"
    wrapper: Any = import_module("art.estimators.classification").PyTorchClassifier
    net = wrapper(classifier, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0, 1), device_type=device)
    twin = copy.deepcopy(attack, {id(attack.estimator): net})  # in its loss and its parts too, which are bound to the estimator
    return torch.from_numpy(twin.generate(x.cpu().numpy(), y.cpu().numpy())).to(x.device)


# --- what an object says of itself ---------------------------------------------------------------------------------


def _parameters(values: Mapping[str, Any]) -> str:
    """``gamma=0.05, steps=50``, in the order of names."""
    return ", ".join(f"{k}={described(v)}" for k, v in sorted(values.items()))


def described(value: Any) -> str:
    """A parameter in words that are the same in every process."""
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value) if not isinstance(value, float) or not math.isinf(value) else "inf"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, Mapping):
        return f"({_parameters({str(k): v for k, v in value.items()})})"
    if isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return f"{array.dtype}{array.shape}:{hashlib.sha256(array.tobytes()).hexdigest()[:12]}"
    if isinstance(value, np.generic):
        return described(value.item())
    if isinstance(value, type) or inspect.isroutine(value):
        return str(getattr(value, "__qualname__", value))
    inside = (
        {k: v for k, v in vars(value).items() if not k.startswith("_") and not isinstance(v, nn.Module)}
        if hasattr(value, "__dict__")
        else {}
    )
    return f"{type(value).__name__}({_parameters(inside)})"


CALLS: dict[str, Callable[[Any, nn.Module, Tensor, Tensor, float | None], Any]] = {
    "foolbox": _call_foolbox,
    "torchattacks": _call_torchattacks,
    "art": _call_art,
}
READ: dict[str, Callable[[Any, str, float | None, float | None], ExternalAttack]] = {
    "foolbox": _of_foolbox,
    "torchattacks": _of_torchattacks,
    "art": _of_art,
}
