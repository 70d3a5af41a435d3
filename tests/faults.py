"""The faults that `make mutants` inserts. Most are of the log's rounds of mutation, or once stood in the package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One place made wrong.

    Attributes:
        says: what is wrong then.
        file: which, from the root.
        old: text that stands exactly once in it.
        new: what it becomes.
        tests: files of tests of which at least one test must fail.
    """

    says: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _fault(says: str, file: str, old: str, new: str, *tests: str) -> Fault:
    return Fault(says, f"salientry/{file}", old, new, tuple(f"tests/{t}" for t in tests))


ATTACKS = (
    _fault("FGSM: the sign is wrong", "attacks/fgsm.py", "x + self.eps *", "x - self.eps *", "attacks/test_fgsm.py"),
    _fault("FGSM: twice the budget", "attacks/fgsm.py", "self.eps * loss", "2 * self.eps * loss", "attacks/test_fgsm.py"),
    _fault("FGSM: the image is not clipped", "attacks/fgsm.py", ".sign()).clamp(0, 1)", ".sign())", "attacks/test_fgsm.py"),
    _fault(
        "BIM and MIM: steps are not projected onto the ball",
        "attacks/_gradient.py",
        "(x - eps).clamp_min(0)",
        "(x - 2 * eps).clamp_min(0)",
        "attacks/test_iterative.py",
    ),
    _fault("MIM: momentum is not kept", "attacks/mim.py", "total.mul_(self.decay)", "total.mul_(0)", "attacks/test_iterative.py"),
    _fault(
        "C&W: the distance has half its weight",
        "attacks/cw.py",
        "gradient, moved, alpha=2",
        "gradient, moved, alpha=1",
        "attacks/test_cw.py",
    ),
    _fault(
        "C&W: the last image that fools, not the nearest",
        "attacks/cw.py",
        "success & (l2 < nearest)",
        "success",
        "attacks/test_cw.py",
    ),
    _fault("C&W: no pass back where one image needs it", "attacks/cw.py", "falls.any()", "falls.all()", "attacks/test_cw.py"),
    _fault(
        "an attack sees the buffers of its last call",
        "attacks/_lent.py",
        "torch._foreach_copy_(mine, theirs)",
        "pass",
        "attacks/test_lent.py",
    ),
    _fault(
        "an attack sees the weights of its last call", "attacks/_lent.py", "p.data_ptr() == q.data_ptr()", "True", "attacks/test_lent.py"
    ),
    _fault(
        "an attack sees the parts and settings of its last call",
        "attacks/_lent.py",
        "chain.from_iterable([d.values() for d in self.dicts]), self.values)",
        "self.values, self.values)",
        "attacks/test_lent.py",
    ),
    _fault(
        "an attack does not see that a list of settings has grown",
        "attacks/_lent.py",
        "_equal(a[k], b[k]) for a, b, k in self.loose",
        "True for a, b, k in self.loose",
        "attacks/test_lent.py",
    ),
    _fault("DeepFool: the farthest class", "attacks/deepfool.py", "distance.argmin(1)", "distance.argmax(1)", "attacks/test_deepfool.py"),
    _fault("DeepFool: no overshoot", "attacks/deepfool.py", "(1 + self.overshoot) * r", "r", "attacks/test_deepfool.py"),
    _fault(
        "JSMA: the smallest sums win", "attacks/jsma.py", "NEVER).topk(2, 1)", "NEVER).topk(2, 1, largest=False)", "attacks/test_jsma.py"
    ),
    _fault(
        "JSMA: a changed batch is lost", "attacks/jsma.py", "flat = flat.scatter(1, pair,", "flat.scatter(1, pair,", "attacks/test_jsma.py"
    ),
    _fault("an attack's target may be the label itself", "attacks/_gradient.py", "draw + (draw >= y)", "draw", "attacks/test_jsma.py"),
    _fault(
        "gradient attacks climb the cross-entropy, which underflows",
        "attacks/_gradient.py",
        "torch.autograd.grad(z, here, log_odds_slope(z.detach(), own))",
        "torch.autograd.grad(z, here, z.detach().softmax(1) - own.to(z.dtype))",
        "attacks/test_steep.py",
    ),
)

STRONG = (
    _fault("APGD: no momentum", "attacks/_apgd.py", "if k:\n", "if False:\n", "attacks/test_apgd.py"),
    _fault(
        "APGD: the step is never halved",
        "attacks/_apgd.py",
        "where(turn, size / 2, size)",
        "where(turn, size, size)",
        "attacks/test_apgd.py",
    ),
    _fault("APGD: it goes on from where it is", "attacks/_apgd.py", "where(turn, best, here)", "here", "attacks/test_apgd.py"),
    _fault("DLR: divided by the second logit", "attacks/_apgd.py", "top[:, 2:].mean(1)", "top[:, 1:].mean(1)", "attacks/test_apgd.py"),
    _fault(
        "FAB: the box is not seen", "attacks/_fab.py", "torch.minimum(speed * time, bound)", "speed * time", "attacks/test_minimal_norm.py"
    ),
    _fault("Square: worse images are kept", "attacks/_square.py", "(found < lowest -", "(found > -1e9 -", "attacks/test_square.py"),
    _fault(
        "AutoAttack: what FAB finds outside the ball counts",
        "attacks/_ensemble.py",
        "fooled = size <= ball.radius",
        "fooled = size.isfinite()",
        "attacks/test_autoattack.py",
    ),
    _fault(
        "an attack of others attacks its own network",
        "attacks/external.py",
        "twin.set_model(classifier)",
        "pass",
        "attacks/test_external.py",
    ),
)

CONVENTIONS = (
    _fault("a seed does not depend on the image", "randomness.py", 'f"{seed}/{stream}/{i}"', 'f"{seed}/{stream}"', "test_randomness.py"),
    _fault(
        "a row's randomness depends on the batch", "randomness.py", "z = seeds[:, None] +", "z = seeds[:1, None] +", "test_randomness.py"
    ),
    _fault("a changed map outlives its logits", "evidence.py", "if k not in stale}", "if True}", "test_evidence.py"),
    _fault("the guard flags at the threshold", "guard.py", "~(score <= self.threshold)", "~(score < self.threshold)", "test_guard.py"),
    _fault(
        "the guard's p-value has no +1",
        "guard.py",
        "(1 + at_least).to(torch.float32) / (1 + n)",
        "at_least.to(torch.float32) / n",
        "test_guard.py",
    ),
    _fault(
        "External: std where mean belongs",
        "classifiers/external.py",
        "- self.mean.to(x.dtype)",
        "- self.std.to(x.dtype)",
        "classifiers/test_external.py",
    ),
    _fault(
        "a key without its revision",
        "keys.py",
        '"REVISION": revision} if revision != 1',
        '"REVISION": revision} if revision == 0',
        "test_keys.py",
    ),
    _fault("a step's seed is not in its key", "runner/step.py", 'parts += [{"seed": seed}]', "parts += []", "runner/test_run.py"),
    _fault(
        "a fingerprint leaves out buffers that are not in the state",
        "learned.py",
        "dict(module.named_buffers()) | module.state_dict()",
        "module.state_dict()",
        "test_learned.py",
    ),
    _fault(
        "probabilities are taken for logits", "preflight.py", "and (kind := probabilities(z))", "and (kind := None)", "test_preflight.py"
    ),
    _fault("two answers to one image may differ", "preflight.py", "GAP = 1e-3", "GAP = 1e3", "test_preflight.py"),
    _fault(
        "logits that are not finite are taken", "preflight.py", "(~torch.isfinite(z)).any(1)", "(z > torch.inf).any(1)", "test_preflight.py"
    ),
)

PROTOCOL = (
    _fault(
        "strict adversarials are not rounded",
        "protocol.py",
        "if protocol.bits is None:\n        return x_adv",
        "if True:\n        return x_adv",
        "test_protocol.py",
    ),
    _fault(
        "budget attacks are rounded away from the natural",
        "protocol.py",
        ".trunc().clamp(-limit",
        ".ceil().clamp(-limit",
        "test_protocol.py",
    ),
    _fault(
        "attacks that failed count", "protocol.py", "return right & changed & in_budget", "return right & in_budget", "test_protocol.py"
    ),
    _fault(
        "images that were wrong before count",
        "protocol.py",
        "return right & changed & in_budget",
        "return changed & in_budget",
        "test_protocol.py",
    ),
    _fault(
        "controls that changed the prediction count",
        "protocol.py",
        "right & ~changed if is_control",
        "right if is_control",
        "test_protocol.py",
    ),
    _fault("every role begins one image early", "protocol.py", "start += size", "start += size - 1", "test_protocol.py"),
    _fault("one image may have two roles", "protocol.py", "if (count > 1).any():", "if (count > 2).any():", "test_protocol.py"),
    _fault(
        "rows of the next role are taken",
        "runner/step.py",
        "== ROLES.index(role))",
        "== ROLES.index(role) + 1)",
        "runner/test_run.py",
    ),
    _fault(
        "detectors train on adversarials that do not count",
        "experiment/stored_evidence.py",
        "np.flatnonzero(of_mixture(counted))",
        "np.arange(len(counted[0]))",
        "experiment/test_steps.py",
    ),
    _fault(
        "paired batches hold another's twin",
        "experiment/stored_evidence.py",
        "self._pairs(one if self.paired else",
        "self._pairs(rng.permutation(one) if self.paired else",
        "experiment/test_steps.py",
    ),
    _fault(
        "thresholds come from another set than the calibration images",
        "experiment/scoring.py",
        'thresholds_of(scores_of(found, natural_set("calibration")), protocol)',
        "thresholds_of(list(found.values())[-1], protocol)",
        "experiment/test_steps.py",
    ),
)

NUMBERS = (
    _fault("one calibration image too many above the threshold", "calibration.py", '"right")) - 1', '"right"))', "test_calibration.py"),
    _fault("a p-value without +1", "calibration.py", "return (1 + int(", "return (int(", "test_calibration.py"),
    _fault(
        "ties of an AUROC do not count",
        "metrics.py",
        '+ np.searchsorted(ranked, adversarial, "right")',
        '+ np.searchsorted(ranked, adversarial, "left")',
        "test_metrics.py",
    ),
    _fault(
        "an image at the threshold is flagged",
        "results/trained.py",
        "r.of(name) > r.thresholds[level]",
        "r.of(name) >= r.thresholds[level]",
        "results/test_scores.py",
    ),
    _fault(
        "an interval of 900 resamples",
        "metrics.py",
        "resamples: int = RESAMPLES) -> None",
        "resamples: int = RESAMPLES - 100) -> None",
        "test_metrics.py",
    ),
    _fault("an interval of 90 %", "inference.py", "LEVEL = 0.95", "LEVEL = 0.9", "test_metrics.py"),
    _fault(
        "300 of 300 is certain",
        "metrics.py",
        "if clusters and (value.hi",
        "if not clusters and (value.hi",
        "test_metrics.py",
    ),
    _fault("an interval over four seeds", "inference.py", "LEAST_SEEDS = 5", "LEAST_SEEDS = 4", "test_inference.py"),
    _fault("a spread over seeds of one seed too many", "inference.py", "ddof=1", "ddof=0", "test_inference.py"),
    _fault("one question of many counts as the only one", "inference.py", "np.arange(len(order), 0, -1)", "1", "test_inference.py"),
    _fault(
        "a worst case without its worst attack", "metrics.py", "np.asarray(~missed.any(0))", "np.asarray(~missed.all(0))", "test_metrics.py"
    ),
    _fault(
        "mixtures take rows of another attack",
        "metrics.py",
        "columns[k][k :: len(columns)]",
        "columns[k][:: len(columns)][: len(out[k :: len(columns)])]",
        "test_metrics.py",
    ),
)

DETECTORS = (
    _fault(
        "Margin: the sign is wrong", "detectors/margin.py", "top[:, 1:] - top[:, :1]", "top[:, :1] - top[:, 1:]", "detectors/test_views.py"
    ),
    _fault(
        "JSD sees the gradient alone",
        "detectors/jsd.py",
        "torch.cat([evidence.image, gradient], 1)",
        "torch.cat([gradient, gradient], 1)",
        "detectors/test_jsd.py",
    ),
    _fault(
        "heads learn with labels shifted",
        "detectors/_cnn.py",
        "torch.cat([scores.new_zeros(len(natural)), scores.new_ones(len(adversarial))])",
        "torch.cat([scores.new_ones(len(natural)), scores.new_zeros(len(adversarial))])",
        "detectors/test_cnn.py",
    ),
    _fault(
        "a logistic baseline does not standardise",
        "detectors/_logistic.py",
        "module.mean.copy_(x.mean(0))",
        "module.mean.zero_()",
        "detectors/test_logistic.py",
    ),
    _fault("the map's area has no weight", "saliency/_losses.py", "self.area * map_.mean()", "map_.mean()", "saliency/test_losses.py"),
    _fault(
        "matched noise is half as large",
        "controls/noise.py",
        "target = _rms(x_adv - x)",
        "target = _rms(x_adv - x) / 2",
        "controls/test_controls.py",
    ),
    _fault(
        "Reversed does not turn the perturbation round", "controls/reversed.py", "(2 * x - x_adv)", "x_adv", "controls/test_controls.py"
    ),
    _fault(
        "gradient maps have a sign",
        "saliency/_gradients.py",
        ".abs().amax(1, keepdim=True)",
        ".amax(1, keepdim=True)",
        "saliency/test_gradients.py",
    ),
)

STORE = (
    _fault("a flipped bit in a stored result is taken", "store.py", "refuse_other(file, sums[name])", "pass", "test_files.py"),
    _fault(
        "DONE stands before the rename",
        "store.py",
        "            yield fresh, sums\n",
        "            path.mkdir(exist_ok=True)\n            (path / SUMS).touch()\n            yield fresh, sums\n",
        "test_store.py",
    ),
    _fault(
        "a new image keeps the old image's columns", "rows.py", '"image" not in self._columns or name in IDENTITY', "True", "test_rows.py"
    ),
    _fault(
        "rows that were taken are read from the start",
        "rows.py",
        "found[at if self._at is None else self._at[at]]",
        "found[at]",
        "test_rows.py",
    ),
    _fault(
        "shards that are there are passed over without their batches",
        "runner/results.py",
        "_ = [next(borders) for _ in batches]",
        "pass",
        "runner/test_run.py",
    ),
    _fault(
        "rows that are not aligned are computed with",
        "runner/results.py",
        "(other.ids == inputs[0].ids).all()",
        "True",
        "runner/test_run.py",
    ),
    _fault(
        "operations that depend on the rows are said",
        "runner/operations.py",
        "len(set(self.found.values())) > 1",
        "len(self.found) > 9",
        "runner/test_operations.py",
    ),
    _fault(
        "pictures of two batches are decoded together",
        "picture_decoding.py",
        "batch - self._handed % batch",
        "batch",
        "test_picture_decoding.py",
    ),
    _fault(
        "a worker computes again what another one has just finished",
        "runner/executors.py",
        "    _inputs_seen(maker, todo[task.step])\n",
        "",
        "runner/test_shared_disk.py",
    ),
    _fault(
        "a rename whose answer was lost is an error",
        "store.py",
        "shared_disk.LATE if perhaps else 0",
        "0",
        "runner/test_shared_disk.py",
    ),
    _fault(
        "threads of a process compute at once",
        "runner/run.py",
        "with ALONE:\n            if h.fingerprint",
        "with contextlib.nullcontext():\n            if h.fingerprint",
        "runner/test_threads_of_a_worker.py",
    ),
    _fault(
        "threads of a worker note each other's warnings",
        "runner/executors.py",
        "    with ALONE:\n        began",
        "    with contextlib.nullcontext():\n        began",
        "runner/test_threads_of_a_worker.py",
    ),
)

WATCHING = (
    _fault("the alarm for drift starts no new bets", "drift.py", "shares - grown], 1)", "shares - 1e9], 1)", "test_drift.py"),
    _fault(
        "a bet counts the image that made it start",
        "drift.py",
        "shares - grown], 1)",
        "shares - np.pad(grown, ((0, 0), (1, 0)))[:, :-1]], 1)",
        "test_drift.py",
    ),
    _fault(
        "what was bet is counted as waiting too",
        "drift.py",
        "np.log(np.log(begun + 1.0))",
        "np.log(np.log(0.0 * begun + 2))",
        "test_drift.py",
    ),
    _fault("bets are made on half the level", "drift.py", "* (x - self.level)).cumsum", "* (x - self.level / 2)).cumsum", "test_drift.py"),
    _fault("an alarm ends by itself", "drift.py", "self.rang_at is None and (over", "(over", "test_drift.py"),
    _fault("a picture that was forgotten still counts", "campaign.py", "known.near[1:] - oldest", "known.near[1:]", "test_campaign.py"),
    _fault("pictures of the same bytes count each time", "campaign.py", "if digest in known.bytes", "if not digest", "test_campaign.py"),
    _fault(
        "pictures without a flag count as flagged", "campaign.py", "self.near, self.many))", "self.near, self.near))", "test_campaign.py"
    ),
    _fault(
        "the threshold stays that of before",
        "recalibration.py",
        "detector, threshold, level,",
        "detector, guard.threshold, level,",
        "test_recalibration.py",
    ),
    _fault(
        "each frame of a video is a bet",
        "video/watch.py",
        "math.floor(seconds / self.block + 1e-6)",
        "int(1e6 * seconds)",
        "video/test_watch.py",
    ),
    _fault("half a video is a video", "video/frames.py", "if i < promised:", "if False:", "video/test_watch.py"),
)

SERVE = (
    _fault(
        "answers of one pass go to other requests",
        "serve/worker.py",
        "zip(jobs, ends, strict=True)]",
        "zip(jobs[::-1], ends, strict=True)]",
        "serve/test_worker.py",
    ),
    _fault(
        "the queue has no end",
        "serve/worker.py",
        "if self._jobs and self._waiting + len(job) > self.batching.queue:",
        "if False:",
        "serve/test_worker.py",
    ),
    _fault(
        "what waited too long is computed", "serve/worker.py", "now - job.since > self.batching.deadline", "False", "serve/test_worker.py"
    ),
    _fault("any key will do", "serve/access.py", "if hmac.compare_digest(known, asked):", "if asked:", "serve/test_gate.py"),
    _fault("a body in pieces has no limit", "serve/gate.py", "            self._refuse(self.size)\n", "", "serve/test_gate.py"),
    _fault(
        "enforce gives the answer away",
        "serve/protocol.py",
        'if server.mode == "enforce" and judged.said:',
        "if False:",
        "serve/test_protocol.py",
    ),
)

FAULTS = (*ATTACKS, *STRONG, *CONVENTIONS, *PROTOCOL, *NUMBERS, *DETECTORS, *STORE, *WATCHING, *SERVE)
