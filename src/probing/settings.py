"""Hyperparameters of the linear head that a release is probed with."""

from __future__ import annotations

from dataclasses import dataclass, fields

from src.core.errors import InputError
from src.core.settings import Settings, setting

ADAM, LOGISTIC = "adam", "logistic"


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """Linear head: as published, or logistic regression whose strength validation chooses.

    Raises:
        InputError: a setting of `adam` beside `logistic`, which would not read it.
    """

    head: str = setting(
        "adam: early-stopped Adam (Di Salvo et al., BMVC 2024); logistic (recommended): "
        "multinomial logistic regression, L2 strength by validation loss, no random numbers",
        ADAM,
        tag="",
        choices=(ADAM, LOGISTIC),
    )
    clip: float | None = setting(
        "limit standardised features of all splits to this size, in standard deviations "
        "(recommended: 10; default: no limit, as published)",
        None,
        above=0,
    )
    learning_rate: float = setting("Adam's learning rate", 1e-3, above=0)
    num_epochs: int = setting("most epochs", 100, minimum=1)
    batch_size: int = setting("rows in a batch", 128, minimum=1)
    patience: int = setting(
        "epochs without a better validation loss before stopping", 5, minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self)[2:] if self.head == LOGISTIC else ():
            if getattr(self, field.name) != field.default:
                value = getattr(self, field.name)
                raise InputError(f"--{field.name} {value} has no effect with --head {LOGISTIC}")

    @property
    def published(self) -> bool:
        """Whether it is the paper's kind of head, whose values a report shows beside ours."""
        return not self.suffix

    @property
    def label(self) -> str:
        """`adam`, `logistic, clip 10`: what tells heads of one sweep apart."""
        return ", ".join(self.suffix.replace("clip", "clip ").split("_")[1:]) or ADAM

    @property
    def suffix(self) -> str:
        """How these settings show in a result's name: `_logistic`, `_clip10`, `_logistic_clip10`.

        The settings of `adam` do not show: other values want another --output_root.
        """
        shown = HeadSettings(head=self.head, clip=self.clip)
        return "".join(f"_{tag}" for tag in shown.tags)
