"""Result files of a sweep made by hand, and a reader of the page that is made of them."""

import dataclasses
from html.parser import HTMLParser

import yaml

from src.audit.records import Case
from src.core.files import write_json
from src.probing import results
from src.report import grid

SWEEP = {
    "name": "by_hand",
    "datasets": ["my_set"],
    "backbones": ["pixels"],
    "seeds": [0, 1, 2],
    "head": {"head": "logistic", "clip": 10},
    "runs": [
        {"anonymizer": "identity"},
        {"anonymizer": "ksame", "k": 5},
        {"anonymizer": "cvae"},
        {"anonymizer": "dpcvae", "epsilon": 8},
    ],
    "audit": {"one_run": True},
    "report": {"figures": []},
}
AUCS = {"identity": 99.5, "ksame": 99.0, "cvae": 98.0, "dpcvae": 97.9}
SUMMARIES = {  # value, low, high, leak
    "identity": (1.0, 1.0, 1.0, True),
    "ksame": (0.8, 0.75, 0.85, True),
    "cvae": (0.53, 0.48, 0.58, False),
    "dpcvae": (0.51, 0.46, 0.56, False),
}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Logs:
    """A sweep, and its result files."""

    def __init__(self, folder, **changes):
        self.folder, self.root = folder, folder / "logs"
        self.config = folder / "sweep.yaml"
        self.config.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False))
        self.sweep = grid.read(self.config)

    def fill(self, **summaries):
        """Everything, with these summaries instead of the usual ones."""
        for place in self.sweep.judged():
            dataset, backbone, _ = place
            for anonymizer, seed in self.sweep.seeded():
                name = anonymizer.name
                auc = AUCS.get(name, 98.0) + (0.05 * seed if anonymizer.seeded else 0)
                for sigma in self.sweep.sigma:
                    self.result(place, anonymizer, seed, sigma, auc - 5 * sigma)
                value, low, high, leak = summaries.get(
                    name, SUMMARIES.get(name, SUMMARIES["cvae"])
                )
                self.audit(dataset, backbone, anonymizer, seed, summary={
                    "strongest": "shadow_auc", "value": value, "control": 0.5,
                    "low": low, "high": high, "leak": leak, "said": ["Sentence one.", "And two."],
                })  # fmt: skip
                self.one_run(dataset, backbone, anonymizer, seed, lower=3.0 if leak else 0.0)
        return self

    def result(self, place, anonymizer, seed, sigma, auc):
        dataset, backbone, head = place
        trial = results.Trial(
            dataset=dataset, backbone=backbone, id=anonymizer.release_id(seed),
            anonymizer=anonymizer.name, settings=dataclasses.asdict(anonymizer), head=head,
            seed=seed, sigma=sigma, inputs=inputs(anonymizer),
        )  # fmt: skip
        values = dict.fromkeys(("auc", "accuracy", "balanced_accuracy"), auc)
        content = dataclasses.asdict(trial) | values | {
            "average_mindistance": 1.0, "seconds": 0.5, "device": "cpu",
            "versions": {"python": "3.11", "torch": "2.11.0"},
        }  # fmt: skip
        write_json(trial.path(self.root), content)

    def case(self, dataset, backbone, anonymizer, seed):
        return Case(
            dataset=dataset, backbone=backbone, id=anonymizer.release_id(seed),
            anonymizer=anonymizer.name, settings=dataclasses.asdict(anonymizer), seed=seed,
            audit=dataclasses.replace(self.sweep.audit, unit="row"), inputs=inputs(anonymizer),
        )  # fmt: skip

    def audit(self, dataset, backbone, anonymizer, seed, *, summary, notes=(), **sizes):
        if anonymizer.name.endswith("-online") or not self.sweep.audit:
            return
        case = self.case(dataset, backbone, anonymizer, seed)
        estimate = {"value": 0.53, "low": 0.5, "high": 0.56}
        row = {
            "value": estimate, "ceiling": {"value": 1.0}, "chance": {"value": 0.5},
            "verdict": "no leak found (up to 0.560 not ruled out)",
        }  # fmt: skip
        unresolved = row | {"value": dict.fromkeys(("value", "low", "high"))}
        content = dataclasses.asdict(case) | {
            "unit": "row",
            "summary": summary,
            "sizes": {"members": 100, **sizes},
            "metrics": {"shadow_auc": row, "shadow_tpr_at_0.001": unresolved},
            "notes": list(notes),
        }
        write_json(case.path(self.root), content)

    def one_run(self, dataset, backbone, anonymizer, seed, *, lower):
        if anonymizer.name.endswith("-online") or not self.sweep.one_run:
            return
        case = dataclasses.asdict(self.case(dataset, backbone, anonymizer, seed))
        del case["audit"]
        content = case | {
            "inputs": {name: case["inputs"][name] for name in ("train", "val")},
            "unit": "row", "one_run": dataclasses.asdict(self.sweep.one_run) | {"unit": "row"},
            "epsilon_lower": lower, "epsilon_ceiling": 4.5, "guesses": 100, "right": 61,
            "delta": 1e-5, "canaries": 0, "candidates": 100,
        }  # fmt: skip
        path = self.case(dataset, backbone, anonymizer, seed).path(self.root)
        name = path.name.replace("_audit.json", "_onerun.json")
        write_json(path.with_name(name), content)

    def path(self, name, dataset="my_set", backbone="pixels"):
        return self.root / dataset / backbone / f"{dataset}_{name}.json"

    @property
    def page(self):
        return self.root / "reports" / self.sweep.name / "report.html"


def inputs(anonymizer):
    return {"train": "a", "val": "b", "test": "c", "release": anonymizer.name}


class Page(HTMLParser):
    """The elements of a page: tag, attributes, all text inside, and the tags around it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.source = [], [], text
        self.feed(text)
        self.close()
        assert not self.open, [tag for tag, *_ in self.open]

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), "", [e[0] for e in self.open]]
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), "", [e[0] for e in self.open]])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, *tags):
        """The elements of these tags: (tag, attributes, text, tags around it)."""
        return [element for element in self.elements if element[0] in tags]

    @property
    def text(self):
        (body,) = self.all("body")
        return " ".join(body[2].split())

    def answer(self, number=0):
        """Part by part, what the answer of a section says."""
        boxes = self.source.split('class="answer')[1:]
        inside = Page(f'<div class="answer{boxes[number].split("</dl>")[0]}</dl></div>')
        return dict(
            zip(
                (" ".join(e[2].split()) for e in inside.all("dt")),
                (" ".join(e[2].split()) for e in inside.all("dd")),
                strict=True,
            )
        )
