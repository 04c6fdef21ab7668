"""The examples in CONTRIBUTING.md work as they stand there."""

import json
import re
import shutil

import numpy as np
import torch
from projects import ROOT, make_project

from domain_experts import digest
from domain_experts.digest import code_digest
from domain_experts.models.ctr import CTRContext
from domain_experts.params import load
from domain_experts.results import read
from domain_experts.runs import Job
from domain_experts.schema import Schema

EDIT = re.compile(
    r"^(?:New file|In) `(?P<path>[^`]+)`"
    r"(?:,\s+(?P<how>after|in place of)\s+the\s+line\s+`(?P<line>[^`]+)`)?"
    r":\n\n```\w+\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SETTINGS = {"model.hidden": [16, 8], "training.max_epochs": 1, "training.batch_size": 256}


def section(title):
    """Text below a heading of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found


def apply(text, folder):
    """Make the edits that a text describes."""
    edits = list(EDIT.finditer(text))
    assert len(edits) == len(re.findall(r"^```(?:python|yaml)$", text, re.MULTILINE))
    for edit in edits:
        path, code = folder / edit["path"], edit["code"]
        if edit["how"] is None:
            assert not path.exists()
            path.write_text(code)
            continue
        before = path.read_text()
        line = edit["line"] + "\n"
        assert ("\n" + before).count("\n" + line) == 1, f"{edit['path']}: {line}"
        kept = line if edit["how"] == "after" else ""
        path.write_text(("\n" + before).replace("\n" + line, "\n" + kept + code)[1:])


def keys(value):
    """Keys of a result file, at any depth, less those that data and libraries name."""
    if isinstance(value, list):
        return {key for item in value for key in keys(item)}
    if not isinstance(value, dict):
        return set()
    named = {"versions", "provenance", "settings", "upstream"}
    inner = {key for name, item in value.items() if name not in named for key in keys(item)}
    return set(value) | inner


# starting a process takes longer than what most of these do
EACH = """
import sys
from domain_experts.cli import app
for command in sys.argv[1:]:
    app(command.split(), standalone_mode=False)
"""


class Edited:
    """A copy of the project with the edits of one section, whose smoke tier is that section's."""

    def __init__(self, folder, title, experiment):
        self.project = make_project(folder)
        apply(section(title), folder)
        params = self.project.params()
        params["experiments"] = {experiment: params["experiments"][experiment]}
        params["tiers"]["smoke"] = {"seeds": [2022], "set": SETTINGS}
        self.project.write_params(params)
        # they are about the other experiments
        shutil.rmtree(folder / "claims")

    def run(self, *command, check=True):
        """Run a command with the copy's own code."""
        source = str(self.project.folder / "src")
        return self.project.run(*command, check=check, PYTHONPATH=source)

    def refused_fetch(self, source):
        """What is said of raw files that cannot be used."""
        done = self.run("domain-experts", "fetch", source, check=False)
        assert done.returncode == 1
        return done.stdout

    def train(self, dataset, *jobs, first=(), last=()):
        """Prepare, split and train, and what else is to be done; the records of each job's run."""
        trained = (
            f"train {phase} {dataset} {backbone} {arm} --tier smoke"
            for phase, backbone, arm in jobs
        )
        self.run(
            *("python", "-c", EACH, *first),
            *(f"prepare {dataset}", f"split {dataset} --tier smoke", *trained, *last),
        )
        runs = (f"{phase}/{dataset}/{backbone}/{arm}" for phase, backbone, arm in jobs)
        artifacts = self.project.folder / "artifacts/smoke"
        return [
            json.loads((artifacts / run / "default/seed=2022/record.json").read_text())
            for run in runs
        ]

    def retrained(self, monkeypatch):
        """Jobs that were there before and whose code counts as changed."""
        jobs = [
            Job("baselines", "planted-small", "none", "user_item_rate"),
            Job("backbones", "planted-small", "wdl", "base"),
            Job("gates", "planted-small", "mlp", "moe_mlora"),
        ]
        before = [code_digest(job.modules) for job in jobs]
        monkeypatch.setattr(digest, "ROOT", self.project.folder / "src" / "domain_experts")
        after = [code_digest(job.modules) for job in jobs]
        return [job for job, b, a in zip(jobs, before, after, strict=True) if a != b]


def write_clicks(path):
    """3000 impressions of 60 users and 30 items in three countries, the last of them small."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(1, 61, 3000), rng.integers(1, 31, 3000)
    country = rng.choice(["DE", "FR", "IT"], 3000, p=[0.5, 0.3, 0.2])
    click = (rng.random(3000) < item / 40).astype(int)
    rows = zip(user, item, country, click, strict=True)
    lines = ["user,item,country,click", *(",".join(map(str, row)) for row in rows)]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


def test_the_new_data_set_can_be_trained_on(tmp_path, monkeypatch):
    edited = Edited(tmp_path / "my project", "Add your data set", "countries")
    raw = edited.project.folder / "data/raw/click-log/clicks.csv"
    assert "put clicks.csv into data/raw/click-log/" in edited.refused_fetch("click-log")

    write_clicks(raw)
    good = raw.read_text()
    raw.write_text(good.replace("DE", "ES", 1))
    refused = edited.refused_fetch("click-log")
    assert re.search(r"clicks\.csv, line \d+: column country: 'ES' is no country", refused)

    raw.write_text(good)
    rate, base = edited.train(
        *("clicks", ("baselines", "none", "item_rate"), ("backbones", "mlp", "base")),
        first=["fetch click-log"],
        last=["evaluate clicks --tier smoke", "results --tier smoke"],
    )
    assert base["domains"] == ["DE", "FR", "IT"]
    assert sum(sum(rows) for rows in base["rows"].values()) == 3000
    found = read(edited.project.folder / "results/smoke/results.parquet")
    own = found[(found["arm"] == rate["run"]["arm"]) & (found["split"] == "test")]
    # items differ in their rate, and in nothing else
    assert own.set_index("metric")["value"]["wauc"] > 0.6
    assert edited.retrained(monkeypatch) == []


def test_the_new_backbone_can_be_trained(tmp_path, monkeypatch):
    edited = Edited(tmp_path / "my project", "Add a backbone", "dcnv2")
    base, mlora = edited.train(
        "planted-small", ("backbones", "dcnv2", "base"), ("baselines", "dcnv2", "mlora")
    )
    # embeddings of 100 users, 60 items, 4 domains; two cross layers; 24-16-8; head on both
    backbone = 164 * 8 + 2 * (24 * 24 + 24) + (24 * 16 + 16) + (16 * 8 + 8) + (24 + 8 + 1)
    assert base["parameters"]["total"] == backbone
    assert mlora["parameters"]["backbone"] == backbone
    assert mlora["parameters"]["experts"] > 0
    assert edited.retrained(monkeypatch) == []

    described = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    for name in ("record.json", "run.json"):
        files = edited.project.read_results("artifacts", name)
        assert len(files) == 2
        for content in files.values():
            assert keys(json.loads(content)) - set(base["tasks"]) <= described


def test_the_new_model_is_dcnv2():
    """Its cross network, element by element."""
    (edit,) = [e for e in EDIT.finditer(section("Add a backbone")) if e["how"] is None]
    names = {}
    exec(compile(edit["code"], edit["path"], "exec"), names)
    schema = Schema((("a", 3), ("b", 4)), (), ("d",), ("click",))
    settings = load(ROOT / "params.yaml").model.model_copy(update={"embedding_dim": 2})
    model = names["Model"](CTRContext(schema, settings, torch.Generator().manual_seed(0)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    model.eval().double()
    codes = torch.tensor([[2, 1], [0, 3]])
    found = model(codes, torch.zeros(2, 0), torch.zeros(2, dtype=torch.int64))
    for row, code in zip(found, codes, strict=True):
        x0 = model.embedding(code[None]).flatten()
        x = x0
        for W, b in zip(model.W, model.b, strict=True):
            x = torch.stack(
                [x0[j] * (sum(x[i] * W[i, j] for i in range(4)) + b[j]) + x[j] for j in range(4)]
            )
        both = torch.cat([x, model.tower(x0[None], None)[0]])
        torch.testing.assert_close(row, both @ model.head + model.bias)


def test_an_experiment_and_a_metric_take_what_is_written(tmp_path):
    """Training is as it was: no key holds either."""
    project = make_project(tmp_path / "copy")
    before = digests(project)
    apply(section("Add an experiment"), project.folder)
    apply(section("Add a metric"), project.folder)
    assert digests(project) == before
    code = (
        "import numpy as np; from domain_experts.evaluation.metrics import evaluate; "
        "from domain_experts.presence import load_study; "
        "from domain_experts.reporting.catalog import figure_names, table_names; "
        "logits, labels = np.zeros((4, 1)), np.array([[0], [1], [0], [1]]); "
        "found = evaluate(logits, labels, np.zeros(4, int), ['d'], ['t'], False); "
        "study = load_study('smoke'); "
        "print(found['t']['brier'], *('dropout' in f(study) for f in (table_names, figure_names)))"
    )
    assert in_copy(project, code) == "0.25 True True"


def digests(project):
    """Code digest of every arm, by the copy's own code."""
    code = (
        "from domain_experts.digest import code_digest; from domain_experts.registry import ARMS; "
        "print({n: code_digest(('domain_experts.training.job', a.trainer)) "
        "for n, a in ARMS.items()})"
    )
    return in_copy(project, code)


def in_copy(project, code):
    """What a line of Python prints in the copy."""
    return project.run("python", "-c", code, PYTHONPATH=str(project.folder / "src")).stdout.strip()


def test_a_claim_takes_what_is_written(tmp_path):
    project = make_project(tmp_path / "copy")
    for title in ("Add an experiment", "Add a metric", "Add a claim"):
        apply(section(title), project.folder)
    code = (
        "from domain_experts.presence import load_study; "
        "from domain_experts.reporting.claims import load_claims; "
        "print(*(one.paper for one in load_claims(load_study('smoke')) "
        "if one.claim.id == 'dropout-pays'))"
    )
    assert in_copy(project, code) == "Ours"
