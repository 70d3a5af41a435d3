"""What is asked of every detector, one function a check; its docstring says what."""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..detectors.external import substituting
from ..errors import Error
from ..inputs import as_uint8
from ..learned import fingerprint, rebuild, recipe_of
from .subject import Subject


class Unmet(Error):
    """A check did not hold."""


def _hold(condition: bool, why: str) -> None:
    if not condition:
        raise Unmet(why)


def _alike(found: Tensor, expected: Tensor, what: str, size: float = 1e-4) -> None:
    """Equal up to rounding: of the scores' spread, and of their size."""
    _hold(found.shape == expected.shape, f"{what}: {tuple(found.shape)} scores in place of {tuple(expected.shape)}")
    if not len(expected):
        return
    _hold(bool(torch.isfinite(found).all()), f"{what}: a score is {float(found[~torch.isfinite(found)][:1].sum())}")
    found, expected = found.double(), expected.double()
    gap, spread = float((found - expected).abs().max()), float(expected.max() - expected.min())
    _hold(
        gap <= size * spread + 1e-5 * float(expected.abs().max()), f"{what}: scores differ by up to {gap:.3g}; their range is {spread:.3g}"
    )


def one_finite_score_an_image(s: Subject) -> None:
    """Images (N, C, H, W) have N finite scores, floating point."""
    found = s.scores(s.images)
    _hold(found.shape == (len(s.images),), f"{len(s.images)} images have scores of shape {tuple(found.shape)}")
    _hold(found.dtype.is_floating_point, f"scores are {found.dtype}; floating point was expected")
    _hold(bool(torch.isfinite(found).all()), f"{int((~torch.isfinite(found)).sum())} of {len(found)} scores are not finite")


def one_image(s: Subject) -> None:
    """One image has one score."""
    found = s.scores(s.images[:1])
    _hold(found.shape == (1,), f"one image has scores of shape {tuple(found.shape)}")


def no_image(s: Subject) -> None:
    """No image has no score."""
    found = s.scores(s.images[:0])
    _hold(found.shape == (0,), f"no image has scores of shape {tuple(found.shape)}")


def neighbours_do_not_matter(s: Subject) -> None:
    """An image has the same score alone as among others."""
    _alike(torch.cat([s.scores(x[None]) for x in s.images]), s.scores(s.images), "alone and among others")


def order_does_not_matter(s: Subject) -> None:
    """An image has the same score wherever it stands in a batch: naturals need not come first."""
    order = torch.randperm(len(s.images), generator=torch.Generator().manual_seed(0))
    _alike(s.scores(s.images[order]), s.scores(s.images)[order], "in another order")


def same_twice(s: Subject) -> None:
    """The same images have the same scores again, whatever torch's and numpy's random numbers are at."""
    with _randomness():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        first = s.scores(s.images)
        torch.manual_seed(2)
        np.random.seed(2)
        random.seed(2)
        _hold(torch.equal(s.scores(s.images), first), "scores of the same images differ between two calls")


def memory_layout_does_not_matter(s: Subject) -> None:
    """Images that do not lie in one piece in memory have the same scores."""
    expected = s.scores(s.images)
    _alike(s.scores(s.images.transpose(2, 3).contiguous().transpose(2, 3)), expected, "with rows and columns exchanged in memory")
    _alike(s.scores(s.images.contiguous(memory_format=torch.channels_last)), expected, "with channels last in memory")
    _alike(s.scores(s.images.repeat_interleave(2, 0)[::2]), expected, "as every second image of a larger batch")


def float64_is_scored_alike_or_refused(s: Subject) -> None:
    """Images are float32: float64 ones have the same scores, or an error."""
    _alike_or_refused(s, s.images.double(), "float64")


def uint8_is_scored_alike_or_refused(s: Subject) -> None:
    """Images are float32 in [0, 1]: 8-bit ones have the scores of these values divided by 255, or an error."""
    _alike_or_refused(s, as_uint8(s.images), "uint8")


def _alike_or_refused(s: Subject, images: Tensor, what: str) -> None:
    expected, ask = s.scores(s.images), s.fitted
    with s.ready(), torch.no_grad():
        try:
            look = s.look(images.float() if s.external else images)
            look.image = images  # evidence refuses what are no floats; somebody's own function may be asked without it
            found = (ask._asked if s.external else ask)(look)  # a wrapper would give scores the images' type
        except Exception:
            return
    found = found if isinstance(found, Tensor) else torch.as_tensor(np.asarray(found))
    _alike(found.reshape(len(images)), expected, f"given as {what}, which is not refused", 1e-3)


def gradients_do_not_matter(s: Subject) -> None:
    """With gradients asked for, the scores are the same."""
    leaf, expected = s.images.clone().requires_grad_(), s.scores(s.images)
    with s.ready(), torch.enable_grad():
        found = s.fitted(s.look(leaf))
    _alike(found.detach(), expected, "with gradients")
    _hold(leaf.grad is None, "scoring leaves a gradient at the images")


def images_are_left_alone(s: Subject) -> None:
    """Scoring does not write into the images."""
    images = s.images.clone()
    if s.external and not s.fitted._reads_evidence:  # as a detector it is given a copy; here its own function is asked
        with s.ready(), torch.no_grad():
            s.fitted.thing(images)
    else:
        s.scores(images)
    _hold(torch.equal(images, s.images), f"scoring changes {int((images != s.images).sum())} values of the images")


def surroundings_are_left_alone(s: Subject) -> None:
    """Scoring leaves random numbers, torch's settings, and networks with their modes and weights as they were."""
    fitted = s.fitted
    with s.ready(), torch.enable_grad(), _unmoved(s, "scoring", fitted):
        fitted(s.look(s.images))


def fit_leaves_surroundings_alone(s: Subject) -> None:
    """Fitting leaves random numbers, torch's settings, networks, the images and labels that it is given as they were."""
    data = s.data()
    labels, known = data.labels, {n: getattr(data, n).clone() for n in data._parts}
    kept = labels.clone()
    with s.ready(), _unmoved(s, "fitting"):
        s.settings.fit(data, labels, *s.parts, seed=0)
    _hold(torch.equal(labels, kept), "fitting changes the labels")
    changed = [n for n, v in known.items() if not torch.equal(getattr(data, n), v)]
    _hold(not changed, f"fitting changes what it is given: {', '.join(changed)}")


def same_seed_same_detector(s: Subject) -> None:
    """Fitted again with the same seed it gives the same scores, whatever random numbers are at."""
    with _randomness():
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        again = s.fit()
    _alike(s.scores(s.images, again), s.scores(s.images), "fitted twice with one seed")


def labels_are_not_looked_at_again(s: Subject) -> None:
    """Scoring takes no labels, and does not look at those of the images that it was fitted on."""
    if s.external is not None:
        thing = s.fitted.thing
        takes = inspect.signature(thing.score if hasattr(thing, "score") else thing).parameters.values()
        asked = [p.name for p in takes if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        _hold(len(asked) <= 1, f"scoring takes {', '.join(asked)}; images, or evidence, alone were expected")
    data = s.data()
    labels = data.labels
    fitted = s.fit(data, labels)
    before = s.scores(s.images, fitted)
    labels.copy_(1 - labels)
    data.classes.copy_(data.classes.flip(0) + 1)
    _alike(s.scores(s.images, fitted), before, "with other labels after it was fitted")


def saved_and_loaded(s: Subject) -> None:
    """Written down as a guard keeps it, and put together again, it gives the same scores."""
    fitted = s.fitted
    _hold("recipe" in vars(fitted), f"it cannot be written down: {vars(fitted).get('unwritten', 'it has no recipe')}")
    with substituting(s.external):
        again: Any = rebuild(json.loads(json.dumps(recipe_of(fitted))))
    again.load_state_dict({k: torch.from_numpy(v.detach().cpu().numpy().copy()) for k, v in fitted.state_dict().items()})
    _alike(s.scores(s.images, again), s.scores(s.images), "saved and loaded", 1e-6)


def extreme_images_have_finite_scores(s: Subject) -> None:
    """Black, white and grey images, a checkerboard, single bright and dark pixels have finite scores."""
    c, h, w = s.shape
    board = ((torch.arange(h)[:, None] + torch.arange(w)) % 2).float().expand(c, h, w)
    point = torch.zeros(c, h, w)
    point[:, h // 2, w // 2] = 1
    named = {"black": torch.zeros(c, h, w), "white": torch.ones(c, h, w), "grey": torch.full((c, h, w), 128 / 255)}
    named |= {"checkerboard": board, "one bright pixel": point, "one dark pixel": 1 - point}
    found = s.scores(torch.stack(list(named.values())))
    wrong = [n for n, v in zip(named, torch.isfinite(found).tolist(), strict=True) if not v]
    _hold(not wrong, f"scores of these images are not finite: {', '.join(wrong)}")


# --- what is around ---------------------------------------------------------------------------------------------------


@contextmanager
def _randomness() -> Iterator[None]:
    """Random numbers as they were, afterwards."""
    torchs, numpys, pythons = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torchs)
        np.random.set_state(numpys)
        random.setstate(pythons)


def _state(s: Subject, fitted: nn.Module | None) -> dict[str, Any]:
    """What must not move, by what it is called."""
    numpys = np.random.get_state(legacy=False)
    found: dict[str, Any] = {
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "numpy's random numbers": repr({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in numpys["state"].items()}),
        "Python's random numbers": random.getstate(),
        "torch's default type": torch.get_default_dtype(),
        "whether gradients are on": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
    }
    named = {
        "the classifier": s.classifier,
        "the saliency model": s.saliency,
        "the second network": s.second,
        "the fitted detector": fitted,
    }
    named["the detector that was given"] = s.given if isinstance(s.given, nn.Module) else None
    for name, module in named.items():
        if module is not None:
            found[f"the mode of {name}"] = [m.training for m in module.modules()]
            found[f"the weights of {name}"] = fingerprint(module)
            found[f"gradients at weights of {name}"] = [(p.requires_grad, p.grad is None) for p in module.parameters()]
    return found


@contextmanager
def _unmoved(s: Subject, doing: str, fitted: nn.Module | None = None) -> Iterator[None]:
    """Whatever moved inside is an error; settings of torch are put back, so that one check does not disturb the next."""
    before = _state(s, fitted)
    modes = [(m, m.training) for top in s.modules for m in top.modules()]
    with _randomness():
        try:
            yield
            after = _state(s, fitted)
        finally:
            torch.set_default_dtype(before["torch's default type"])
            torch.set_grad_enabled(before["whether gradients are on"])
            torch.set_num_threads(before["torch's number of threads"])
            for m, training in modes:
                m.training = training
    moved = [n for n, v in before.items() if after[n] != v]
    _hold(not moved, f"{doing} changes {', '.join(moved)}")


CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        one_finite_score_an_image,
        one_image,
        no_image,
        neighbours_do_not_matter,
        order_does_not_matter,
        same_twice,
        memory_layout_does_not_matter,
        float64_is_scored_alike_or_refused,
        uint8_is_scored_alike_or_refused,
        gradients_do_not_matter,
        images_are_left_alone,
        surroundings_are_left_alone,
        fit_leaves_surroundings_alone,
        same_seed_same_detector,
        labels_are_not_looked_at_again,
        saved_and_loaded,
        extreme_images_have_finite_scores,
    )
}
