"""Licences of backbones and images: named, warned of, and in the way where they have to be."""

import medmnist
import pytest
import timm

from src.bundle import card, contents, licences
from src.core.errors import InputError
from tests.bundle.support import bundle, recompose, with_rows


def origin(backbone, dataset="digits", **preprocessing):
    sheet = {"backbone": backbone, "dataset": dataset, "preprocessing": preprocessing}
    return licences.origins(sheet)


@pytest.mark.parametrize(
    ("backbone", "restricted", "known"),
    [
        ("vit_base_patch14_dinov2.lvd142m", False, True),  # apache-2.0
        ("resnet50.a1_in1k", False, True),
        ("vit_base_patch16_224.mae", True, True),  # cc-by-nc-4.0
        ("vit_base_patch16_dinov3.lvd1689m", True, True),
        ("convnext_base.eupe_lvd1689m", True, True),  # fair-noncommercial-research-license
        ("fastvit_mci0.apple_mclip", True, True),  # apple-amlr
        ("mobilevit_s.cvnets_in1k", False, False),
        ("resnet50.bamboo", False, False),
    ],
)
def test_what_timm_says_of_a_backbone(backbone, restricted, known):
    stated = timm.get_pretrained_cfg(backbone).license
    found, _ = origin(backbone, license=stated)
    assert (found.restricted, found.known) == (restricted, known), found
    assert (stated or "unknown") in str(found)


@pytest.mark.parametrize(
    ("backbone", "restricted"),
    [
        ("hf-hub:MahmoodLab/UNI", True),
        ("hf-hub:paige-ai/Virchow2", True),
        ("hf-hub:paige-ai/Virchow", False),
        ("hf-hub:bioptimus/H-optimus-1", True),
        ("hf-hub:bioptimus/H-optimus-0", False),
        ("hf-hub:owkin/phikon-v2", True),
    ],
)
def test_models_of_hubs_of_which_timm_has_no_licence(backbone, restricted):
    found, _ = origin(backbone)
    assert found.restricted == restricted
    assert found.known
    assert found.note.startswith("https://")


def test_hostile_licences_are_unknown():
    for stated in (None, 5, ["mit"], {}, "", "other"):
        assert origin("resnet18", license=stated)[0].licence == licences.UNKNOWN
    assert "\x1b" not in str(origin("resnet18", license="nd\n\x1b[2J")[0])


@pytest.mark.parametrize("name", [n for n in medmnist.INFO if n in licences.DATASETS])
def test_images_of_medmnist_as_its_package_says(name):
    assert licences.identifier(medmnist.INFO[name]["license"]) == licences.DATASETS[name]


def test_every_single_label_2d_medmnist_set_is_named():
    ours = {n for n, info in medmnist.INFO.items() if "3d" not in n and n != "chestmnist"}
    assert ours <= licences.DATASETS.keys()


@pytest.mark.parametrize(
    ("text", "name"),
    [("CC BY 4.0", "cc-by-4.0"), ("cc-by-nc-4.0", "cc-by-nc-4.0"), (" MIT ", "mit"),
     ("CC_BY_SA 4.0", "cc-by-sa-4.0"), ("Ours: ask", "Ours: ask")],
)  # fmt: skip
def test_names_that_hubs_have(text, name):
    assert licences.identifier(text) == name


# At the command line.


def dermamnist(folder):
    """The bundle as one of DermaMNIST, whose images are CC BY-NC 4.0."""
    with_rows(folder, dataset="dermamnist")
    recompose(folder)
    return folder


def test_export_ends_at_a_restricted_origin_until_it_is_accepted(copy):
    pytest.importorskip("pyarrow")
    output = copy.parent / "out"
    done = bundle("export", dermamnist(copy), "--output", output)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "images of 'dermamnist': cc-by-nc-4.0" in done.err
    assert "--accept_license" in done.err
    assert not output.exists()
    done = bundle("export", copy, "--output", output, "--accept_license")
    assert done.status == 0, done.err
    assert "its terms hold for the release too" in done.err
    assert "cc-by-nc-4.0" in (output / "README.md").read_text()
    assert "cc-by-nc-4.0" in (output / "croissant.json").read_text()


def with_sheet(home, **more):
    sheet = contents.read(home / "ksame").sheet
    return {**sheet, **more}


def test_restricted_origins_are_refused_until_accepted(home):
    sheet = with_sheet(
        home,
        backbone="vit_base_patch16_224.mae",
        preprocessing={"license": "cc-by-nc-4.0"},
    )
    with pytest.raises(InputError, match=r"'vit_base_patch16_224.mae': cc-by-nc-4.0.*--accept"):
        licences.require_accepted(sheet, accepted=False)
    (said,) = licences.require_accepted(sheet, accepted=True)
    assert "its terms hold for the release too" in said
    text = card.render(sheet)
    assert "backbone 'vit_base_patch16_224.mae': cc-by-nc-4.0" in text


def test_what_is_not_known_is_said(home):
    sheet = with_sheet(home, backbone="mine", dataset="lesions", preprocessing={})
    told = licences.require_accepted(sheet, accepted=False)
    assert [line.split(":")[0] for line in told] == [
        "weights of the backbone 'mine'",
        "images of 'lesions'",
    ]
    assert all("unknown" in line for line in told)
    sheet = with_sheet(
        home,
        license="not stated",
        backbone="resnet18",
        preprocessing={"license": "apache-2.0", "own_weights": True},
    )
    told = licences.require_accepted(sheet, accepted=False)
    assert "these came from a file" in told[0]
    assert "states no licence" in told[1]
