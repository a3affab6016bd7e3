"""Linear heads fitted together: one batched product in place of many small ones.

A step of a small head takes the time of its ten operations, not of its arithmetic; those of
several heads take hardly longer. Each head's numbers are those that it would have alone, except
for rounding, which some widths and processors share out differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from src.core import threads
from src.core.errors import InputError
from src.core.progress import bar
from src.core.threads import Team
from src.networks.heads import LinearHead
from src.networks.training import Adam, Course, Fit, Schedule

WIDTH = 16  # of a vector register, in float32 numbers
STEP_BYTES = 4 << 20  # of the rows of a step, so that a processor's cache holds them


class Case(NamedTuple):
    """A head to be fitted."""

    linear: LinearHead  # its first weights, in place of which it gets its best ones
    held_out: Tensor  # validation rows [v, D], standardised
    labels: Tensor  # of them [v] int64
    schedule: Schedule


class Source(NamedTuple):
    """Where the batches of a case come from."""

    rows: Tensor  # standardised and padded [n, padded D]; cases may share the tensor
    labels: Tensor  # [n] int64
    generator: torch.Generator  # of their order


Batches = Callable[[Sequence[int], Team], Iterable[tuple[Tensor, Tensor]]]


def padded(rows: Tensor) -> Tensor:
    """Rows [n, D] with zeros up to a multiple of WIDTH features."""
    missing = -rows.shape[1] % WIDTH
    return F.pad(rows, (0, missing)) if missing else rows


def at_once(dim: int, batch_size: int) -> int:
    """How many heads are worth fitting together."""
    return max(1, STEP_BYTES // (4 * dim * batch_size))


def shuffled(sources: Sequence[Source], batch_size: int) -> Batches:
    """Each epoch, each source's rows in a fresh random order; all have the same number n.

    Returns:
        Called with the numbers of the sources that go on (m), it gives an epoch's batches: rows
        [m, b, padded D] and labels [m, 1, b], b = `batch_size` or, at the end, less.
    """
    distinct = list({id(source.rows): source for source in sources}.values())
    one = len(distinct) == 1
    rows = distinct[0].rows if one else torch.cat([source.rows for source in distinct])
    labels = distinct[0].labels if one else torch.cat([source.labels for source in distinct])
    count = len(distinct[0].rows)
    places = {id(source.rows): count * i for i, source in enumerate(distinct)}

    def epoch(going: Sequence[int], _: Team) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = [sources[i] for i in going]
        order = torch.stack(
            [
                torch.randperm(count, generator=s.generator, device=s.generator.device)
                + places[id(s.rows)]
                for s in chosen
            ]
        )
        for part in order.split(batch_size, 1):
            flat, shape = part.flatten(), part.shape
            yield (
                rows.index_select(0, flat).view(*shape, -1),
                labels.index_select(0, flat).view(shape[0], 1, shape[1]),
            )

    return epoch


class Stack:
    """The weights of the heads that go on, and a step of them all.

    Attributes:
        weight: [m, C, padded D]; bias: [m, padded C].
    """

    def __init__(self, heads: Sequence[LinearHead]) -> None:
        self.classes, self.dim = heads[0].weight.shape
        weight = torch.stack([padded(head.weight.detach()) for head in heads])
        bias = torch.stack([padded(head.bias.detach()[None])[0] for head in heads])
        self.adam = Adam([weight, bias], [torch.zeros_like(weight), torch.zeros_like(bias)])

    @property
    def parameters(self) -> list[Tensor]:
        """Weight and bias."""
        return self.adam.tensors[0]

    def keep(self, slots: Sequence[int]) -> None:
        """Only these heads go on."""
        chosen = torch.tensor(slots, dtype=torch.long, device=self.parameters[0].device)
        for kind in self.adam.tensors:
            kind[:] = [tensor.index_select(0, chosen) for tensor in kind]

    def put(self, slot: int, head: LinearHead) -> None:
        """Write one's weights where they belong."""
        weight, bias = self.parameters
        head.weight.copy_(weight[slot, :, : self.dim])
        head.bias.copy_(bias[slot, : self.classes])

    def gradients(self, team: Team, x: Tensor, labels: Tensor) -> None:
        """Set those of the mean cross-entropies of rows [m, b, padded D], labels [m, 1, b]."""
        heads, count, dim = x.shape
        weight, bias = self.parameters
        by_weight, by_bias = self.adam.tensors[1]
        found = x.new_empty(heads, self.classes, count)
        minus = x.new_full((heads, 1, count), -1.0)

        def rows(part: slice) -> None:
            logits = torch.baddbmm(
                bias[:, : self.classes, None], weight, x[:, part].transpose(1, 2)
            )
            errors = logits.softmax(1).scatter_add_(1, labels[:, :, part], minus[:, :, part])
            torch.div(errors, count, out=found[:, :, part])

        def sums(part: slice) -> None:
            torch.bmm(found[:, part], x, out=by_weight[:, part])
            torch.sum(found[:, part], 2, out=by_bias[:, part][:, : self.classes])

        flop = 4 * self.classes * dim * count  # of one head, whose bytes depend on nothing else
        cut = threads.parts(count, flop)
        if len(cut) == 1:
            rows(cut[0])
            sums(slice(0, self.classes))
            return
        team.run([partial(rows, part) for part in cut])
        team.run([partial(sums, part) for part in threads.parts(self.classes, flop)])


@torch.no_grad()
def fit(cases: Sequence[Case], batches: Batches) -> list[Fit | InputError]:
    """Fit the heads with Adam, each until its own validation loss stops falling.

    Args:
        batches: of an epoch, of the cases that go on.

    Returns:
        How each went, its `linear` having its best weights; an error for one that diverged.
    """
    stack, going = Stack([case.linear for case in cases]), list(range(len(cases)))
    courses = [Course(case.schedule, "linear head") for case in cases]
    best = [_weights(case.linear) for case in cases]
    errors: dict[int, InputError] = {}
    name = "linear head" if len(cases) == 1 else f"{len(cases)} linear heads"
    epochs = max(case.schedule.num_epochs for case in cases)
    with threads.team(best[0][0].device) as team, bar(total=epochs, desc=name, unit="epoch") as b:
        while going:
            own = [courses[i] for i in going]
            for x, labels in batches(going, team):
                with team.step(x.shape[1]):
                    stack.gradients(team, x, labels)
                stack.adam.step(own)
            for slot, i in enumerate(going):
                case = cases[i]
                stack.put(slot, case.linear)
                try:
                    if courses[i].note(float(case.linear.loss(case.held_out, case.labels))):
                        best[i] = _weights(case.linear)
                except InputError as error:
                    errors[i] = error
            left = [s for s, i in enumerate(going) if i not in errors and not courses[i].over]
            if len(left) < len(going):
                stack.keep(left)
                going = [going[slot] for slot in left]
            b.update()
    for case, weights in zip(cases, best, strict=True):
        torch._foreach_copy_(list(case.linear.parameters()), weights)
    return [errors.get(i) or course.fit() for i, course in enumerate(courses)]


def _weights(head: LinearHead) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in head.parameters()]
