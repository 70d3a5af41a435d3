"""Tables of the attacks and of the maps."""

from __future__ import annotations

from .spec import Across, Column, Table

PROTOCOLS = {"published": "published: float32", "strict": "strict: 8 bits"}
ACCURACY = Table(
    "Table 4: classifier accuracy",
    "Of all test images, under each attack; untargeted, away from its own prediction.",
    rows=("protocol",),
    where={"kind": "attack"},
    heads=("images",),
    order={"protocol": PROTOCOLS},
    columns=(Across("attack", (Column("", "{accuracy}"),)),),
)
SIZES = Table(
    "Table 2: size of the perturbations",
    "Mean over all test images, with the standard deviation over images below; L2 is the root mean square over all features, as the "
    "paper's sizes show it.",
    rows=("attack",),
    where={"kind": "attack"},
    heads=("attack",),
    columns=(
        Across(
            "protocol",
            (
                Column("L0 share", "{l0}\n± {l0-spread|bare}"),
                Column("L2 (RMS)", "{rms}\n± {rms-spread|bare}"),
                Column("L∞", "{linf}\n± {linf-spread|bare}"),
                Column("prediction changed", "{changed}"),
            ),
            PROTOCOLS,
        ),
    ),
)
ROUNDING = Table(
    "Rounding to 8 bits",
    "Of the images that were right and that an attack without a budget fooled in float: strict numbers use the search along the "
    "perturbation; attacks with a budget are rounded towards the natural image.",
    rows=("attack",),
    where={"kind": "attack", "protocol": "strict", "measure": ("survives-rounding", "survives-search", "search-cost")},
    heads=("attack",),
    columns=(
        Column("still fools after plain rounding", "{survives-rounding|percent}"),
        Column("after a search along its perturbation", "{survives-search|percent}"),
        Column("RMS after the search over RMS in float", "{search-cost}"),
    ),
)
COUNTING = Table(
    "What counts, and what was dropped",
    "Published: every adversarial counts. Strict: it counts when the natural was right, the stored 8-bit image is wrong, and the "
    "perturbation is within the budget; with fewer than 50 that count no rate is printed.",
    rows=("attack", "protocol"),
    where={"kind": "attack"},
    heads=("attack", "protocol"),
    columns=tuple(
        Column(head, "{" + measure + "|count}")
        for head, measure in (
            ("count", "counts"),
            ("natural already wrong", "natural-wrong"),
            ("right, but not fooled", "unchanged"),
            ("over budget", "over-budget"),
            ("fooled in float, not in 8 bits", "fooled-in-float-only"),
        )
    ),
    fold=True,
)
VANISHING = Table(
    "Where the gradient vanishes (C19)",
    "Share of images whose gradient is that small at every pixel. The paper first took the gradient of the softmax output and got a zero "
    "matrix; the gradient of a vector output is, in its framework, that of its sum, and probabilities sum to 1.",
    rows=("attack",),
    where={"kind": "gradient"},
    heads=("images (float)",),
    columns=(
        Column("gradient of the logit is 0", "{logit is zero|percent}"),
        Column("of the probability is 0", "{probability is zero|percent}"),
        Column("of the sum of all probabilities is below 10⁻⁶", "{sum is zero|percent}"),
    ),
)
FIGURES = (
    Column("area", "{area}"),
    Column("area, fake class", "{fake_area}"),
    Column("kept by the marked part", "{kept}"),
    Column("… by another image's map", "{kept_other}"),
    Column("left when it is destroyed", "{destroyed}"),
    Column("… by another image's map", "{destroyed_other}"),
    Column("all removed", "{emptied}"),
    Column("kept gain", "{kept-gain}"),
    Column("destroyed gain", "{destroyed-gain}"),
)


def sanity(fills: list[str]) -> Table:
    """All images together, under each fill."""
    return Table(
        "Are the maps maps?",
        "Share of predictions that stay when only the marked part is kept, or when it is destroyed, on natural validation images. The "
        "sanity check asks for both gains at least .05 with intervals above 0, and a smaller map for a class that is not there.",
        rows=("saliency", "part"),
        where={"kind": "map", "class_number": None},
        heads=("map", "pixels are replaced by"),
        order={"part": {f: "black" if "black" in f else "the paper's blur and colour" for f in fills}},
        columns=FIGURES,
        warned=True,
    )


def by_class(saliency: str, classes: dict[int, str]) -> Table:
    """Each class by itself."""
    return Table(
        "Class by class",
        "A map may pass for all images together because it tells classes apart; here another image's map is one of the same predicted "
        "class, as large on average, so that what is gained is the image's own.",
        rows=("class_number",),
        where={"kind": "map", "saliency": saliency},
        heads=("called",),
        order={"class_number": classes},
        columns=[c for c in FIGURES if c.head != "area, fake class"],
        warned=True,
    )


def moved(protocol: str, saliency: str, title: str) -> Table:
    """Table 1."""
    return Table(
        title,
        "Distance (root mean square) of a map to the natural's, each for the class that the classifier predicts on its image. Effect: "
        "rank-biserial against distances between different images, from −1 (always smaller) to 1; p by Mann and Whitney's test.",
        rows=("attack",),
        where={"kind": "shift", "protocol": protocol, "saliency": saliency, "measure": lambda m: m != "pair"},
        heads=("attack",),
        columns=(
            Column("distance", "{shift}\n± {spread|bare}"),
            Column("noise of the same size", "{noise}"),
            Column("beyond the noise", "{beyond-noise}"),
            *((Column("class changed, pixels held", "{class}"), Column("pixels changed, class held", "{pixels}"))),
            Column("predicted to true class", "{true label}"),
            Column("effect", "{rank-biserial|bare}"),
            Column("p, larger", "{p-greater|p}"),
            Column("p, two-sided", "{p-two-sided|p}"),
        ),
    )


OTHERS = Table(
    "Distances between maps of different images",
    "What the distances under attack are compared with: the maps of two images, of two images of one class, and of one image for the "
    "predicted and the true class.",
    rows=("protocol", "saliency"),
    where={"kind": "shift", "attack": None},
    heads=("protocol", "map"),
    columns=(
        Column("different images", "{other}\n± {spread|bare}"),
        Column("of the same class", "{same class}"),
        Column("class held", "{other, class held}"),
        Column("predicted to true class", "{true label}"),
    ),
)
PAIRS = Table(
    "Table 5: distance between the maps of two attacks on the same image",
    "Root mean square, mean over all test images, published protocol.",
    rows=("attack",),
    where={"kind": "shift", "protocol": "published", "measure": "pair"},
    heads=("attacks",),
    columns=(Across("saliency", (Column("", "{pair}"),)),),
    fold=True,
)
GRADIENTS = Table(
    "Gradient maps and learnt maps, strict",
    "The distance under attack, below it the same for noise of that size, the effect against other images, and p for larger.",
    rows=("saliency",),
    where={"kind": "shift", "protocol": "strict", "measure": lambda m: m != "pair"},
    heads=("map",),
    columns=(
        Column("different images", "{other}", {"attack": None}),
        Across("attack", (Column("", "{shift}\nnoise {noise|bare}\neffect {rank-biserial|bare}, p {p-greater|p}"),)),
    ),
)


def fixed(saliency: str, title: str) -> Table:
    """What moves a map."""
    return Table(
        title,
        "Strict, mean over all test images. As used: the map of the class that the classifier predicts on the changed image. Class held: "
        "the map of the class predicted on the natural, so that only pixels can move it.",
        rows=("attack",),
        where={"kind": "shift", "protocol": "strict", "saliency": saliency, "measure": lambda m: m != "pair"},
        heads=("attack",),
        columns=(
            Column("the attack", "{shift}\nclass held {pixels}"),
            Column("noise of that size", "{MatchedNoise}\nclass held {MatchedNoise, class held}"),
            Column("another image's perturbation", "{Transplant}\nclass held {Transplant, class held}"),
            Column("the perturbation reversed", "{Reversed}\nclass held {Reversed, class held}"),
        ),
    )
