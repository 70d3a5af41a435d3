"""Fusion of fitted detectors, and the choice of the one to keep: all of it on *validation*, from scores that are stored already."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import DEVICE
from ..detectors import Fused
from ..errors import UsageError
from ..evidence_set import Views
from ..keys import label
from ..learned import with_facts
from ..metrics import auroc, of_mixture
from ..protocol import EvaluationProtocol
from ..rows import Rows
from ..runner.step import Chosen, Found, step
from .scoring import natural_set, scores_of, set_name

FOLDS = 5
NATURAL = natural_set("validation")


def _here(scores: Any) -> Tensor:
    """Stored scores where the members are: a fit takes its parts along to where its pairs are."""
    return torch.from_numpy(np.ascontiguousarray(scores)).to(DEVICE.get())


def stacked(scored: list[Found], name: str) -> Any:
    """(N, members) scores of an image set by each member."""
    return np.stack([scores_of(f, name) for f in scored], 1)


def fold_of(ids: Any) -> Any:
    """(N,) the fold of each image, 0 to 4, by its id: an image and its twins are always in one."""
    return np.array([int(i[:8], 16) % FOLDS for i in ids])


def _pairs(scored: list[Found], attacked: list[Rows], keep: Any) -> Views:
    """Validation naturals and their twins of the mixture, where they count and ``keep`` says so."""
    counts = of_mixture([r.column("evaluated") for r in attacked]) & keep
    twins = of_mixture([stacked(scored, set_name(r.facts)) for r in attacked])
    return Views(_here(stacked(scored, NATURAL)[: len(counts)][counts]), _here(twins[counts]))


@step("fit_fusion", uses=(Fused,))
def fit_fusion(
    scored: list[Found],
    members: list[nn.Module],
    names: list[str],
    attacked: list[Rows],
    protocol: EvaluationProtocol,
    called: str = "all",
    *,
    seed: int,
) -> nn.Module:
    """A fusion of fitted detectors, its weights from *validation*.

    Args:
        scored: each member's scores of *validation* naturals and of each attack's images of that role.
        members: the detectors.
        names: of those image sets; not used, it is part of the key.
        attacked: validation rows of each attack of the mixture that the members were trained on.
        protocol: its storage and predicate.
        called: what tables call this fusion.
        seed: repetition of the members.
    """
    pairs = _pairs(scored, attacked, True)
    fused = Fused().fit(pairs, pairs.labels, *members, seed=seed)
    weights = fused.head.weights.tolist()  # type: ignore[operator]
    first = vars(members[0])["facts"]
    facts = {"detector": "Fused", "settings": "Fused", "group": "fusion", "scheme": called, "trained_on": first["trained_on"]}
    facts |= {"title": Fused.title, "description": Fused.description}
    parts = [vars(m)["facts"]["detector"] for m in members]
    return with_facts(
        fused, **facts, of=first["of"], protocol=protocol.name, seed=seed % 1000, pairs=len(pairs), members=parts, weights=weights
    )


# --- the choice -------------------------------------------------------------------------------------------------


def _threshold(naturals: Any, level: float) -> float:
    """The smallest score that at most ``level`` of these naturals exceed."""
    ranked = np.sort(naturals)[::-1]
    return float(ranked[int(level * len(ranked))])


def _out_of_fold(scored: list[Found], attacked: list[Rows], natural: Rows, unseen: Rows) -> tuple[Any, Any]:
    """Scores of validation naturals and of the unseen attack by fusions that were fitted without their images."""
    every, there = stacked(scored, NATURAL), stacked(scored, set_name(unseen.facts))
    folds = fold_of(natural.ids)
    out = np.zeros(len(every)), np.zeros(len(there))
    for k in range(FOLDS):
        pairs = _pairs(scored, attacked, folds[: len(there)] != k)
        head: Any = Fused().fit(pairs, pairs.labels, *[nn.Identity() for _ in scored], seed=0).head
        with torch.no_grad():
            for values, into in zip((every, there), out, strict=True):
                mine = folds[: len(values)] == k
                into[mine] = head(_here(values[mine])).cpu().numpy()
    return out


@step("unseen_rates", uses=(Fused,))
def unseen_rates(
    natural: Rows, unseen: Rows, attacked: list[Rows], scored: list[Found], names: list[str], called: list[str], level: float
) -> dict[str, float]:
    """TPR of each candidate, and of their fusion, on an attack that none of them has seen.

    Args:
        natural: validation naturals.
        unseen: the attack left out, validation rows.
        attacked: the attacks that the candidates were trained on, validation rows.
        scored: what each candidate scored.
        names: of those image sets; not used, it is part of the key.
        called: the candidates' names.
        level: share of the validation naturals that may be flagged.

    Returns:
        Name to the share of the unseen attack's images that count and lie above the candidate's own threshold, which is set on
        the validation naturals; the fusion's scores are out of fold.

    Raises:
        UsageError: when no image of the unseen attack counts.
    """
    name, counts = unseen.facts["attack"], unseen.column("evaluated")
    if not counts.any():
        raise UsageError(
            f"none of the {len(unseen)} validation images of {name} can be used under this protocol: its detection rate is unknown"
        )
    every, there = stacked(scored, NATURAL), stacked(scored, set_name(unseen.facts))
    columns = {c: (every[:, i], there[:, i]) for i, c in enumerate(called)}
    columns["Fused"] = _out_of_fold(scored, attacked, natural, unseen)
    return {c: float((t[counts] > _threshold(n, level)).mean()) for c, (n, t) in columns.items()}


@step("choose_detector", chooses=True)
def choose_detector(candidates: list[nn.Module], called: list[str], rates: list[dict[str, float]], unseen: list[str]) -> Chosen:
    """The candidate whose rate on its worst unseen attack is best; of equals the first."""
    table = {c: {a: r[c] for a, r in zip(unseen, rates, strict=True)} for c in called}
    worst = [min(table[c].values()) for c in called]
    best = int(np.argmax(worst))
    why = {"rates": table, "worst": dict(zip(called, worst, strict=True)), "chosen": called[best]}
    return Chosen("candidates", why, index=best)


@step("choose_recipe", chooses=True)
def choose_recipe(candidates: list[Any], attacked: list[Rows], scored: list[Found], names: list[str]) -> Chosen:
    """The settings whose mean AUROC on *validation* pairs is best, each attack by a detector that was trained on it; of equals the first.

    Args:
        candidates: settings.
        attacked: validation rows of each attack.
        scored: of each candidate, of each attack, what the detector trained on it scored.
        names: of those image sets; not used, it is part of the key.
    """
    called, found = [r.facts["attack"] for r in attacked], list[dict[str, float]]()
    for i in range(len(candidates)):
        mine = scored[i * len(attacked) : (i + 1) * len(attacked)]
        found.append({})
        for rows, name, one in zip(attacked, called, mine, strict=True):
            c = rows.column("evaluated")
            natural, there = scores_of(one, NATURAL), scores_of(one, set_name(rows.facts))
            found[-1][name] = auroc(natural[: len(c)][c], there[c])
    means = [float(np.mean(list(f.values()))) for f in found]
    best = int(np.argmax(means))
    why = {"auroc": dict(zip(map(label, candidates), found, strict=True)), "mean": means, "chosen": label(candidates[best])}
    return Chosen("candidates", why, index=best)
