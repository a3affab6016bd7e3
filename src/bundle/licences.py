"""Licences of a release's origins: its backbone's weights and its images.

They are named wherever a release goes. Where one forbids to share what was made with it, or lets
only some share it, whoever gives the release away has to say that they may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from src.bundle.rendering import shown
from src.core.errors import InputError

UNKNOWN = "unknown"
NOT_STATED = "not stated"  # of a bundle for which no --license was given
PIXELS = "pixels"  # the backbone without weights

# Licences that let everybody share what was made with the weights or images: the names that hubs
# have for them, and where they can be read.
ADDRESSES = {
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "bsd-3-clause": "https://opensource.org/license/bsd-3-clause",
    "mit": "https://opensource.org/license/mit",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "odc-by": "https://opendatacommons.org/licenses/by/1-0/",
    "odbl": "https://opendatacommons.org/licenses/odbl/1-0/",
    "pddl": "https://opendatacommons.org/licenses/pddl/1-0/",
}
# Licences that do not: non-commercial, without derivatives, or for those only who signed.
RESTRICTED = {
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "cc-by-nc-nd-4.0": "https://creativecommons.org/licenses/by-nc-nd/4.0/",
    "cc-by-nd-4.0": "https://creativecommons.org/licenses/by-nd/4.0/",
    "apple-amlr": "https://huggingface.co/apple/MobileCLIP-S1/blob/main/LICENSE",
    "dinov3-license": "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
}
RESTRICTING = re.compile(r"(^|[-_ ])(nc|nd|non-?commerc\w*|research|gated)($|[-_ ])")

# Models of hubs of which timm has no licence: how their names begin, and their model cards.
HUB = {
    "MahmoodLab/": ("cc-by-nc-nd-4.0", "https://huggingface.co/MahmoodLab/UNI"),
    "bioptimus/H-optimus-0": ("apache-2.0", "https://huggingface.co/bioptimus/H-optimus-0"),
    "bioptimus/": ("gated research licence", "https://huggingface.co/bioptimus/H-optimus-1"),
    "owkin/": ("owkin non-commercial licence", "https://huggingface.co/owkin/phikon-v2"),
    "paige-ai/Virchow2": ("cc-by-nc-nd-4.0", "https://huggingface.co/paige-ai/Virchow2"),
    "paige-ai/Virchow": ("apache-2.0", "https://huggingface.co/paige-ai/Virchow"),
    "facebook/dinov3": ("dinov3-license", RESTRICTED["dinov3-license"]),
}

# Images of the built-in datasets (docs/data.md; of MedMNIST as its package says).
MEDMNIST = ("blood", "breast", "oct", "organa", "organc", "organs", "path", "pneumonia", "retina",
            "tissue")  # fmt: skip
DATASETS = {
    "digits": "cc-by-4.0",  # https://archive.ics.uci.edu/dataset/80
    "octdl": "cc-by-4.0",  # https://doi.org/10.17632/sncdhf53xc
    "oxford-pets": "cc-by-sa-4.0",  # https://www.robots.ox.ac.uk/~vgg/data/pets/
    "dermamnist": "cc-by-nc-4.0",
    **{f"{name}mnist": "cc-by-4.0" for name in MEDMNIST},
}


class Origin(NamedTuple):
    """What a release was made with or from, and under which licence that is."""

    what: str  # "backbone 'resnet18'"
    licence: str
    note: str = ""  # where the licence is, or what is not known of it

    @property
    def restricted(self) -> bool:
        """Whether not everybody may share what was made with it."""
        return self.licence in RESTRICTED or bool(RESTRICTING.search(self.licence))

    @property
    def known(self) -> bool:
        """Whether it is known what the licence permits."""
        return self.licence in ADDRESSES or self.licence == PIXELS or self.restricted

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.what}: {'no weights' if self.licence == PIXELS else self.licence}{note}"


def identifier(text: str) -> str:
    """The name that hubs have for a licence (`CC BY 4.0` → `cc-by-4.0`); else the text itself."""
    plain = re.sub(r"[\s_-]+", "-", text.strip().lower())
    return plain if plain in ADDRESSES or plain in RESTRICTED else text


def origins(sheet: Mapping[str, Any]) -> list[Origin]:
    """The backbone and the dataset that a datasheet names, with their licences."""
    return [_backbone(sheet["backbone"], sheet["preprocessing"]), _dataset(sheet["dataset"])]


def _backbone(name: str, preprocessing: Mapping[str, Any]) -> Origin:
    what = f"weights of the backbone '{shown(name)}'"
    if name == PIXELS:
        return Origin(what, PIXELS)
    stated = preprocessing.get("license")
    hub = name.partition(":")[2]
    listed = next((found for prefix, found in HUB.items() if hub.startswith(prefix)), None)
    if listed is not None:
        return Origin(what, *listed)
    if not isinstance(stated, str) or stated in ("", "other"):
        return Origin(what, UNKNOWN)
    licence = identifier(shown(stated))
    note = {**ADDRESSES, **RESTRICTED}.get(licence, "")
    if preprocessing.get("own_weights"):
        note = "of the published weights; these came from a file"
    return Origin(what, licence, note)


def _dataset(name: str) -> Origin:
    licence = DATASETS.get(name, UNKNOWN)
    note = {**ADDRESSES, **RESTRICTED}.get(licence, "")
    return Origin(f"images of '{shown(name)}'", licence, note)


def require_accepted(sheet: Mapping[str, Any], accepted: bool) -> list[str]:
    """What is to be said of the licences before a release is given away.

    Raises:
        InputError: an origin is restricted, and nobody said that they may share it all the same.
    """
    found = origins(sheet)
    restricted = [str(origin) for origin in found if origin.restricted]
    if restricted and not accepted:
        raise InputError(
            f"{'; '.join(restricted)}: its licence forbids or restricts sharing what was made "
            "with it; --accept_license says that you may (with the owner's permission, or under "
            "the same terms)"
        )
    said = [f"{origin}: read its licence first" for origin in found if not origin.known]
    said += [f"{origin}: its terms hold for the release too" for origin in found
             if origin.restricted]  # fmt: skip
    said += [str(origin) for origin in found if origin.note.startswith("of the published")]
    if sheet["license"] == NOT_STATED:
        said.append("the release states no licence: nobody knows what they may do with it "
                    "(src.bundle create --license)")  # fmt: skip
    return said
