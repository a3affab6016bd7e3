"""The rows of the benchmark's table and the target of each; `tasks.py` has what they run."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

AT_MOST = ("seconds", "memory_gib")  # quantities to be small; the others are to be large


class Target(NamedTuple):
    """A bound on a quantity of a row."""

    quantity: str
    bound: float
    text: str  # as people write it

    def met(self, row: Mapping[str, Any]) -> bool | None:
        """Whether the row keeps the bound; None where it has no such quantity."""
        value = row[self.quantity]
        keeps = operator.le if self.quantity in AT_MOST else operator.ge
        return None if value is None else bool(keeps(value, self.bound))


def faster(factor: float) -> Target:
    """At least `factor` times as fast as the released implementation, whose time is scaled."""
    return Target("speed_up", factor, f"{factor:g}× faster")


def seconds(bound: float) -> Target:
    """At most `bound` seconds."""
    return Target("seconds", bound, f"{bound:g} s")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A row; its name is a key of `tasks.TASKS`, and of the released implementation's times."""

    name: str
    title: str
    targets: tuple[Target, ...] = ()
    repeats: int = 15
    large: bool = False  # left out by --quick
    device: str = ""  # the only type of device it is for; "" for any


def of_bare(share: float) -> Target:
    """At least this share of the bare forward throughput."""
    return Target("of_baseline", share, f"{share:.0%} of the bare model")


ITEMS = {
    item.name: item
    for item in (
        Item(
            name="ksame-dense-k5",
            title="k-Same, n = 3,882, D = 784, k = 5",
            targets=(faster(20),),
        ),
        Item(
            name="ksame-dense-k2",
            title="k-Same, n = 3,882, D = 784, k = 2",
            targets=(faster(28),),
        ),
        Item(
            name="ksame-persons",
            title="k-Same by person, n = 3,882, D = 784, k = 5, beside by row",
            targets=(Target("of_baseline", 0.5, "2× the time by row"),),
        ),
        Item(
            name="ksame-20000",
            title="k-Same, n = 20,000, D = 768, k = 5",
            targets=(seconds(10),),
            repeats=3,
            large=True,
        ),
        Item(
            name="ksame-50000",
            title="k-Same on the fly, n = 50,000, D = 768, k = 5",
            targets=(seconds(240), Target("memory_gib", 2, "2 GiB")),
            repeats=1,
            large=True,
        ),
        Item(
            name="cvae-digits",
            title="CVAE fit, an epoch, n = 1,293, D = 64",
            targets=(faster(4.5),),
        ),
        Item(
            name="cvae-dense",
            title="CVAE fit, an epoch, n = 3,882, D = 784",
            targets=(faster(3), Target("of_yardstick", 0.6, "60% of the yardstick")),
        ),
        Item(
            name="head-digits",
            title="linear head, a whole fit, n = 1,293, D = 64",
            targets=(faster(30),),
        ),
        Item(
            name="head-dense",
            title="linear head, 100 epochs, n = 3,882, D = 784",
            targets=(faster(20),),
        ),
        Item(
            name="heads-digits",
            title="35 linear heads together, n = 1,293, D = 64, beside one by one",
            targets=(seconds(2.9),),
            repeats=3,
        ),
        Item(
            name="heads-wide",
            title="35 linear heads together, 20 epochs, n = 4,000, D = 1,280, beside one by one",
            repeats=3,
        ),
        Item(name="ksame-wide", title="k-Same, n = 4,000, D = 1,280, k = 5"),
        Item(name="cvae-wide", title="CVAE fit, an epoch, n = 4,000, D = 1,280", repeats=3),
        Item(name="head-wide", title="linear head, 100 epochs, n = 4,000, D = 1,280", repeats=5),
        Item(
            name="logistic-2",
            title="logistic head, n = 4,000, D = 1,280, two classes",
            targets=(seconds(5),),
            repeats=3,
        ),
        Item(
            name="logistic-10",
            title="logistic head, n = 4,000, D = 1,280, ten classes",
            targets=(seconds(20),),
            repeats=3,
        ),
        Item(
            name="online-digits",
            title="linear head on fresh draws, an epoch of 12,930, D = 64",
            targets=(faster(400),),
        ),
        Item(
            name="distance",
            title="distance to the originals, n = 20,000, D = 768",
            targets=(Target("of_baseline", 1 / 1.5, "1.5× one product"),),
            repeats=3,
            large=True,
        ),
        Item(
            name="extraction",
            title="extraction, 128 JPEG images, ViT-S/16",
            targets=(of_bare(0.95),),
            repeats=3,
            device="cpu",
        ),
        Item(
            name="extraction-lite0",
            title="extraction, 128 JPEG images, EfficientNet-Lite0",
            repeats=3,
            device="cpu",
        ),
        Item(
            name="extraction-bf16",
            title="extraction in bf16, 1,024 JPEG images, ViT-B/14",
            targets=(of_bare(0.9),),
            repeats=3,
            device="cuda",
        ),
        Item(
            name="help",
            title="a script's --help, mean of five",
            targets=(seconds(0.5),),
            repeats=5,
        ),
        Item(
            name="probing",
            title="probing.py on digits, whole command",
            targets=(seconds(6),),
            repeats=5,
        ),
    )
}
