"""The metrics of an audit, which are the rows of its table: their names and what they say."""

from __future__ import annotations

from typing import NamedTuple

HALVINGS = 5  # of the dimensions, for linkability
FPRS = (0.01, 0.001)
OUTSIDE = "reidentification_outside"  # of persons who are not in the release
QUANTILE = 0.01  # of the distances from H to M, below which a released row counts as near


class Measure(NamedTuple):
    """What a metric is called, and how it is read."""

    label: str
    finding: str  # what the value says; {} is the place of a share
    useless: float | None = None  # the value of an attack that learns nothing; None: no attack
    resolution: float | None = None  # share of the non-members that must be at least one row
    lower_is_better: bool = True
    fpr: float | None = None  # on H; on other rows it is higher, and so is the useless TPR
    proof: bool = True  # of a leak; False where mere averages of rows reach high values
    control: str = ""  # what is measured of the same release for chance; else disjoint real rows


def _membership_rows(key: str, attack: str) -> dict[str, Measure]:
    label = f"{attack}: AUC"
    rows = {f"{key}_auc": Measure(label, "members score higher in {} of pairs", 0.5)}
    for rate in FPRS:
        label = f"{attack}: TPR at {100 * rate:g}% FPR"
        rows[f"{key}_tpr_at_{rate:g}"] = Measure(
            label, "finds {} of members", rate, rate, fpr=rate
        )
    label = f"{attack}: balanced accuracy"
    rows[f"{key}_balanced_accuracy"] = Measure(label, "{} of guesses are right", 0.5)
    label = f"{attack}, a person's largest score: AUC"
    rows[f"{key}_max_auc"] = Measure(label, "members score higher in {} of pairs", 0.5)
    return rows


def _alone(label: str) -> Measure:
    return Measure(f"{label}: AUC", "members score higher in {} of pairs", 0.5)


ATTACKS = {"nearest": "nearest neighbour", "calibrated": "calibrated", "shadow": "shadow"}
MEASURES = {
    **_membership_rows("nearest", ATTACKS["nearest"]),
    **_membership_rows("calibrated", ATTACKS["calibrated"]),
    **_membership_rows("shadow", ATTACKS["shadow"]),
    "rmia_auc": _alone("relative likelihood (RMIA)"),
    "exposed_1_auc": Measure(
        "the most exposed 1%: AUC", "shadow releases tell them apart in {} of pairs", 0.5
    ),
    "exposed_5_auc": Measure(
        "the most exposed 5%: AUC", "shadow releases tell them apart in {} of pairs", 0.5
    ),
    "worst_class_auc": _alone("the worst class, chosen"),
    "density_auc": _alone("density by class"),
    "span_auc": _alone("distance from the span"),
    "values_auc": _alone("values of single features"),
    "paired_auc": _alone("midpoints of opposite rows"),
    "shape_auc": _alone("shape of each row"),
    "standardised_auc": _alone("nearest, standardised"),
    "standardised_calibrated_auc": _alone("calibrated, standardised"),
    "standardised_linked_auc": _alone("linked, standardised"),
    "standardised_copied_auc": _alone("copying, standardised"),
    "whitened_auc": _alone("nearest, whitened"),
    "whitened_calibrated_auc": _alone("calibrated, whitened"),
    "whitened_linked_auc": _alone("linked, whitened"),
    "whitened_copied_auc": _alone("copying, whitened"),
    "linked_auc": _alone(f"linked by {HALVINGS} random halves"),
    "copied_auc": _alone("copying, per real row"),
    "reidentification_rank1": Measure(
        "re-identification: found first", "another row finds {} of persons", 0.0, control=OUTSIDE
    ),
    "reidentification_auc": Measure(
        "re-identification: AUC", "another row tells members in {} of pairs", 0.5
    ),
    "linkability": Measure("linkability", "links {} of members beyond what H shows", 0.0),
    "copying_share": Measure(
        "copying: nearer to M than to H", "{} lie nearer to training rows", 0.5
    ),
    "exact_copies": Measure("copies: exact", "{} are training rows", 0.0),
    "near_copies": Measure(
        "copies: within 1/1000 of the distance between neighbours", "{} are training rows", 0.0
    ),
    "close_copies": Measure(
        "copies: nearer to one real row than chance allows", "{} hug a real row", 0.0
    ),
    "very_near": Measure(
        "copying: very near to M",
        "{} lie closer to a training row than 99% of test rows do",
        QUANTILE,
        QUANTILE,
        proof=False,
    ),
    "coverage": Measure(
        "coverage", "share of training rows with a released row nearby", lower_is_better=False
    ),
    "density": Measure(
        "density", "1 where released rows lie as densely as real ones", lower_is_better=False
    ),
    "frechet_distance": Measure("Fréchet distance", "0 for equal means and covariances"),
}
LOOKS = tuple(  # at who is a member, by an AUC over all units; what a summary chooses among
    key
    for key, measure in MEASURES.items()
    if key.endswith("_auc")
    and not key.startswith(("exposed_", "worst_", "reidentification_"))
    and not key.endswith("_max_auc")
)
