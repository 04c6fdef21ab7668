"""Models of all arms, trained for a moment on generated data, as they are saved."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from assignments import make_assignment, multi_data, needs

from domain_experts.data.interactions import Interactions
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.serving.collect import served_state
from domain_experts.serving.model import Origin, SavedModel
from domain_experts.serving.rebuild import Identity
from domain_experts.training.assignment import Upstream
from domain_experts.training.job import record_of

SETTINGS = {"training.max_epochs": 1, "model.hidden": [8, 4], "trees.max_rounds": 8}
MULTI = [name for name, backbone in BACKBONES.items() if backbone.family == "multi"]
CTR = [name for name, backbone in BACKBONES.items() if backbone.family == "ctr"]
CASES = [
    *((arm, "mlp") for arm, spec in ARMS.items() if spec.family == "ctr"),
    *(("moe_mlora", backbone) for backbone in CTR[1:]),
    *((arm, "mmoe") for arm, spec in ARMS.items() if spec.family == "multi" and spec.backbone),
    *(("mdmt", backbone) for backbone in MULTI if backbone != "mmoe"),
    ("autoifs", "none"),
]


class Trained:
    """Trains each arm once, in a folder."""

    def __init__(self, folder: Path, data: Interactions | None = None, **changed):
        self.folder, self.changed = folder, SETTINGS | changed
        self.data = multi_data() if data is None else data
        self.run = cache(self._run)

    def _run(self, arm, backbone="mlp"):
        upstream = {name: self.run(name, backbone)[1] for name in needs(arm)}
        assignment = make_assignment(
            self.folder, self.data, arm, backbone, upstream, **self.changed
        )
        made = assignment.run.spec.train(assignment)
        record = json.loads(json.dumps(record_of(assignment, made)))
        return assignment, Upstream(made.state, record), made

    def identity(self, arm, backbone="mlp"):
        assignment, upstream, _ = self.run(arm, backbone)
        run, scope = assignment.run, upstream.record["scope"]
        return Identity(
            run.dataset,
            run.backbone,
            arm,
            run.seed,
            run.settings,
            self.data.schema,
            self.data.planted_groups,
            scope["domain"],
            scope["task"],
        )

    def state(self, arm, backbone="mlp"):
        assignment, upstream, _ = self.run(arm, backbone)
        return served_state(assignment, upstream.weights)

    def model(self, arm, backbone="mlp", encoder=None, split=None):
        origin = Origin(run="r", data="d", split="s", code="c", libraries={})
        parts = self.identity(arm, backbone), self.state(arm, backbone)
        return SavedModel.of(*parts, origin, "# Card\n", encoder, split)

    def test_rows(self, arm, backbone="mlp"):
        """Test rows as a model sees them, and the logits that the run stored for them."""
        assignment, _, made = self.run(arm, backbone)
        rows = assignment.index("test")
        data = assignment.interactions
        parts = (data.fields[rows], data.dense[rows], data.domain[rows].astype(np.int64))
        return tuple(np.ascontiguousarray(part) for part in parts), made.logits["test"]
