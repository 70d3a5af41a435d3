"""What older stores and records call things that have another name today: one translation, where they are read."""

from __future__ import annotations

from typing import Any

ROLES = {"fit": "train", "detect": "detector_train", "select": "validation", "calibrate": "calibration"}
GROUPS = {"floor": "baseline"}
KINDS = {"spoiled": "input ablation", "swap": "mixed parts", "ladder": "protocol step", "planted": "weak detector"}  # of sets and numbers
SCHEMES = {f"ladder {k}": f"protocol step {k}" for k in (0, 1, 2, 4, 5)}
DETECTORS = {"Exists": "ClassPresence", "Opinion": "SecondNet"}
JUDGED = {"logit margin": "linear margin"}  # detectors of verdicts and leaderboards
FACTS = {"family": "group", "form": "scheme", "afresh": "independent_rerun", "training_scheme": "scheme", "lent": "reused_from"}
COLUMNS = {"exists": "class_presence", "opinion": "second_net_logprobs", "counts": "evaluated"}
FIRST_ARGUMENTS = {
    "protocol": "rules",
    "independent_rerun": "afresh",
    "adversarials": "settled",
    "unstored": "proposed",
}  # of steps: what keys call them
FIRST_ROLES = {now: first for first, now in ROLES.items()}  # in keys, and in the names of a store's folders
FIRST_SCHEMES = {now: first for first, now in SCHEMES.items()}  # likewise
COUNT = "images"  # what stores and records call the number of rows that a step went through
FIRST_DETECTORS = {now: first for first, now in DETECTORS.items()}  # in ids of numbers
STEPS = {  # what people read of a step, by the name under which its results are stored
    "read_data": "data read",
    "train_classifier": "classifiers trained",
    "fit_encoder": "encoders of the saliency model trained",
    "take_trunk": "classifier's trunk as encoder",
    "fit_saliency": "saliency models trained",
    "look": "classifier's answers",
    "draw": "saliency maps",
    "differentiate": "gradients",
    "layer_activations": "activations",
    "made_elsewhere": "attacks on another network",
    "logits_under": "answers to changed images",
    "second_opinion": "second net's answers",
    "attack_images": "attacks",
    "settle": "attacked images stored",
    "strong_enough": "strength of the attacks",
    "change_harmlessly": "harmless changes",
    "control_images": "harmless changes beside attacks",
    "sanity": "what the maps keep and destroy",
    "gate": "sanity check of the maps",
    "fit_detector": "detectors trained",
    "cross_fit": "detectors trained without a kind of attack",
    "calibrate": "thresholds",
    "calibrate_fusion": "thresholds of fusions",
    "score": "scores",
    "scores": "scores",
    "score_images": "scores of one image set",
    "score_sets": "scores of several image sets",
    "fit_fusion": "fusions fitted",
    "score_fusion": "scores of fusions",
    "unseen_rates": "detection rates on unseen attacks",
    "choose_detector": "choice of the guard's detector",
    "choose_for_guard": "choice of the guard's detector",
    "choose_recipe": "choice of settings",
    "accuracy_of": "accuracy",
    "map_shift": "distances between maps",
    "gradient_sizes": "sizes of gradients",
    "swap": "parts of images mixed",
    "gallery": "pictures",
    "attack_defended": "attacks on classifier and detector",
    "passes": "the paper's white box",
    "binarization": "tests of the white-box attacks",
    "planted_weaknesses": "attacks on detectors weak by construction",
    "harden": "adversarial training of detectors",
    "confidence_rates": "detection by confidence of C&W",
    "lend": "images lent to another role",
    "borrow": "images put in another's place",
    "replaced": "evidence replaced",
    "keep_unchanged": "harmless changes that keep the answer",
    "answered_right": "rightly classified images",
    "answers_as_labels": "answers in place of labels",
    "right_ones": "rightly classified images to attack",
    "_take_first": "first images",
    "_take_role": "images of a role",
    "_take_roles": "images of several roles",
}


def translated_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of a store or of records under today's names; ``attack/column`` too."""
    parts = {k: k.rpartition("/") for k in columns}
    return {head + slash + COLUMNS.get(name, name): columns[k] for k, (head, slash, name) in parts.items()}


def translated(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of images, of a detector, of a module or of a number under today's names."""
    out = {FACTS.get(k, k): v for k, v in facts.items()}
    words = {"role": ROLES, "reused_from": ROLES, "group": GROUPS, "kind": KINDS, "scheme": SCHEMES, "detector": DETECTORS}
    out |= {k: known.get(out[k], out[k]) for k, known in words.items() if k in out}
    return out | ({"title": renamed_title(out["title"], DETECTORS)} if out.get("title") else {})


def renamed_title(title: str, names: dict[str, str]) -> str:
    """A detector's title, ``Exists (replica)``, with another name of the detector."""
    head, space, rest = title.partition(" ")
    return names.get(head, head) + space + rest


def step_words(name: str) -> str:
    """A step as people read it: in a plan, beside a bar, on a page."""
    return STEPS.get(name, name.strip("_").replace("_", " "))
