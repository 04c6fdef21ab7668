"""The benchmarks' core, at tiny sizes."""

import dataclasses
import platform
import runpy
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_m3oe import batch, literal, plan_of, schema_of, scrambled
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    arithmetic,
    auc,
    backbones,
    experts,
    jobs,
    limit,
    m3oe,
    machine,
    multi_domain,
    own_log,
    process,
    reading,
    report,
    rows,
    shares,
    together,
    whole_run,
)
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.lazy_adam import parity
from benchmarks.m3oe_literal import LiteralM3oE
from benchmarks.ours import Entrant, Loop
from benchmarks.peers.base import PEERS, enter
from benchmarks.results import OURS, Measurement, read, throughput, write
from benchmarks.study import settings
from benchmarks.timing import in_turns, spread
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.models.multi.m3oe import Model
from domain_experts.training import checkpoint
from domain_experts.training.adam import Adam
from domain_experts.training.lanes import Lane
from domain_experts.training.losses import balanced, mean

TINY = Effort(
    threads=1, rows=4000, slow_rows=600, steps=1, rounds=2, scales=(200, 2000), domains=(2, 3),
    growing_domains=(2, 3),
)  # fmt: skip

# Timing


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, seconds, log, name):
        def run():
            log.append(name)
            self.now += seconds

        return run


def test_reading_of_logs_is_extrapolated_by_a_straight_line():
    found = {rows: {"seconds": 2 + rows / 1e6, "peak_mb": 300 + rows / 1e5} for rows in (10, 10**7)}
    assert own_log.extrapolated(found) == pytest.approx({"seconds": 202, "peak_mb": 2300})


def test_contestants_take_turns_in_alternating_order_after_a_warm_up():
    clock, log = Clock(), []
    contestants = {"a": clock.work(1, log, "a"), "b": clock.work(3, log, "b")}
    seconds = in_turns(contestants, rounds=3, warm_up=1, clock=clock)
    assert log == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert seconds == {"a": [1, 1, 1], "b": [3, 3, 3]}


def test_ratios_are_paired_by_round():
    # the machine slows down fourfold, for both
    seconds = {OURS: [1.0, 2.0, 4.0], "peer": [2.0, 4.0, 8.0]}
    ours, peer = throughput("step", "wdl", seconds, rows=80, batch=8, threads=1)
    assert (ours.value, ours.lower, ours.upper) == (40, 30, 60)
    assert (peer.value, peer.lower, peer.upper) == (20, 15, 30)
    assert (ours.ratio, ours.ratio_lower) == (None, None)
    assert (peer.ratio, peer.ratio_lower, peer.ratio_upper) == (2, 2, 2)
    assert peer.rounds == 3


def test_spread_is_median_and_quartiles():
    assert spread([5.0, 1.0, 2.0, 3.0, 4.0]) == (3, 2, 4)


def test_results_are_a_table_and_come_back(tmp_path):
    found = [
        Measurement("step", "wdl", OURS, "rows/s", 123456.0, 1.0, 2.0, rows=10, batch=5),
        Measurement("start", "cli", OURS, "s", 0.25, 0.2, 0.3),
    ]
    write(found, tmp_path / "b.csv")
    table = read(tmp_path / "b.csv")
    assert table.value.tolist() == [123500, 0.25]
    assert table.rows[0] == 10
    assert table.ratio.isna().all()
    assert ",10,5,1\n" in (tmp_path / "b.csv").read_text()


def test_new_results_replace_those_of_the_same_model(tmp_path):
    def step(model, value):
        return Measurement("step", model, OURS, "rows/s", value, 1.0, 2.0, rounds=3)

    path = tmp_path / "b.csv"
    write([step("wdl", 1.0), step("mlp", 2.0)], path)
    write([step("wdl", 3.0), step("dcn", 4.0)], path)
    table = read(path)
    assert list(zip(table.model, table.value, strict=True)) == [("wdl", 3), ("mlp", 2), ("dcn", 4)]
    assert ",3,,,1\n" in path.read_text()


def test_the_machine_is_described():
    found = machine.describe(threads=1)
    assert found["processor"]
    assert found["gemm_gflops"] > 0
    assert found["versions"]["torch"] == torch.__version__


# Data


def test_generated_rows_have_the_asked_shape():
    fields = ("user", "item", "gender", "genre", "domain")
    data = rows_like_movielens(5000, fields, domains=3, tasks=2, dense=1, seed=1)
    assert data.fields.shape == (5000, 5)
    assert (data.fields.max(0) < data.schema.sizes).all()
    assert (data.fields.min(0) >= 0).all()
    assert (data.fields[:, 4] == data.domain).all()
    assert np.bincount(data.domain, minlength=3).min() > 500
    assert data.labels.mean(0).tolist() == pytest.approx([0.5, 0.37], abs=0.05)
    # what belongs to a user is the same in all of the user's rows
    user = data.fields[:, 0]
    for column in (data.fields[:, 2], data.domain, data.dense[:, 0]):
        pairs = np.unique(np.stack([user, column], 1), axis=0)
        assert len(pairs) == len(np.unique(user))


# The package as a contestant


def small_loop(train):
    chosen = settings("base", "ml-1m-gender", "wdl", {"training.batch_size": 16})
    chosen = chosen.model_copy(
        update={"model": chosen.model.model_copy(update={"dropout": 0.0, "hidden": (8, 4)})}
    )
    data = rows_like_movielens(64, ("user", "item", "domain"))
    plan = CTRContext(data.schema, chosen.model, torch.Generator().manual_seed(0))
    return build("wdl", plan), data, chosen, np.arange(train)


def test_an_epoch_is_a_pass_of_plain_steps():
    model, data, chosen, index = small_loop(16)
    loop = Loop(model, data, chosen, decay=1e-3)
    twin, *_ = small_loop(16)
    penalised = {id(p) for p in twin.penalised()}
    groups = [
        ([p for p in twin.parameters() if (id(p) in penalised) == kind], decay)
        for kind, decay in ((True, 1e-3), (False, 0.0))
    ]
    adam = Adam(groups, chosen.training.learning_rate)
    fields, dense, domain, labels = loop.rows.take(torch.from_numpy(index))
    for _ in range(3):
        loss = mean(twin(fields, dense, domain), labels, domain, [16]).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        # one batch, whose order changes the sums' rounding alone
        assert loop.epoch(index) == pytest.approx(loss.item(), abs=1e-6)
    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


# M3oE


def test_the_literal_model_is_the_oracle_of_the_tests():
    schema = schema_of(3, 2)
    model = scrambled(Model(plan_of(schema, shared_experts=2)))
    inputs = batch(schema)
    found = LiteralM3oE(model).double().logits(*inputs)
    torch.testing.assert_close(found, literal(model, *inputs), rtol=0, atol=1e-10)
    torch.testing.assert_close(found, model(*inputs), rtol=0, atol=1e-10)


def test_both_ways_of_m3oe_learn_the_same():
    schema = schema_of(3, 2)
    model = scrambled(Model(plan_of(schema)), torch.float32)
    fields, dense, domain = batch(schema, dtype=torch.float32)
    labels = torch.randint(2, (23, 2), generator=torch.Generator().manual_seed(2)).float()
    twin = m3oe.Literal(LiteralM3oE(model), 1e-2, 1e-5, [fields, dense, domain, labels])
    before = twin.step()
    expected = balanced(model(fields, dense, domain), labels, domain, [23]).item()
    assert before == pytest.approx(expected, rel=1e-4)
    assert twin.step() < before


def test_m3oe_is_measured_both_ways():
    found = list(m3oe.measure(TINY, batch=256))
    assert [(m.benchmark, m.contestant) for m in found] == [
        ("evaluation", OURS),
        ("evaluation", m3oe.LITERAL),
        ("training step", OURS),
        ("training step", m3oe.LITERAL),
    ]
    assert all(m.value > 0 and m.rows == 256 for m in found)


# Models against peers


def tiny_job(model):
    tasks = 2 if model in backbones.MULTI_TASK else 1
    shape = dataclasses.replace(backbones.NINE, dim=4, batch=64)
    data = rows_like_movielens(300, shape.fields, domains=2 if tasks == 1 else 1, tasks=tasks)
    return backbones.with_held_out(model, shape, data, 300)


OF_PEERS = [
    (name, model)
    for name, peer in PEERS.items()
    for model in peer.models
    if not peer.several_domains
]
OUR_OWN = [(OURS, model) for model in (*backbones.CTR, *backbones.MULTI_TASK)]


@pytest.mark.parametrize(("contestant", "model"), OF_PEERS + OUR_OWN)
def test_a_contestant_trains_each_of_its_models(contestant, model):
    if contestant != OURS:
        pytest.importorskip(PEERS[contestant].package, reason="the extra `bench` is not installed")
    job = tiny_job(model)
    entrant = enter(contestant, job)
    before = entrant.predict()
    assert before.shape == job.labels(job.held_out).shape
    entrant.steps(2)
    entrant.epoch()
    after = entrant.predict()
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-5


WITH_DOMAINS = [name for name, peer in PEERS.items() if peer.several_domains]
# what the others have besides is told in the module of the peer
ALIKE = {"shared_bottom", "mmoe", "ple", "sarnet", "adasparse", "adaptdhm", "epnet", "hamur"}


@pytest.mark.parametrize("model", multi_domain.SIZES)
@pytest.mark.parametrize("contestant", [OURS, *WITH_DOMAINS])
def test_a_contestant_trains_its_models_of_several_domains(contestant, model):
    if contestant != OURS:
        pytest.importorskip(PEERS[contestant].package, reason="the extra `bench` is not installed")
    entrant = enter(contestant, multi_domain.job(model, batch=64))
    before = [p.detach().clone() for p in entrant.model.parameters()]
    entrant.steps(1)
    moved = [
        not torch.equal(p, old) for p, old in zip(entrant.model.parameters(), before, strict=True)
    ]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("model", multi_domain.SIZES)
@pytest.mark.parametrize("contestant", WITH_DOMAINS)
def test_models_of_several_domains_are_of_one_size(contestant, model):
    pytest.importorskip(PEERS[contestant].package, reason="the extra `bench` is not installed")
    own = multi_domain.job(model, batch=64)
    ours, theirs = (multi_domain.size(name, own)[0] for name in (OURS, contestant))
    assert theirs > 0.97 * ours
    assert model not in ALIKE or theirs < 1.01 * ours


def test_models_of_several_domains_are_measured_with_their_operations(monkeypatch):
    monkeypatch.setattr(multi_domain, "SIZES", {"shared_bottom": {}})
    monkeypatch.setattr(multi_domain, "BATCH", 64)
    monkeypatch.setattr(multi_domain, "contestants", lambda *_, **__: [OURS])
    parameters, operations, step, floor = multi_domain.measure(TINY)
    widths = [7 * 16, 512, 256, 256, 64, 64]
    assert parameters.value == pytest.approx(
        sum(n for _, n in multi_domain.job("shared_bottom", 8).data.schema.fields) * 16
        + sum((i + 3) * o for i, o in pairwise(widths[:5]))
        + 3 * (64 * 64 + 4 * 64 + 1)
    )
    # forward, and backward with respect to weights and inputs; the embedding takes one of x
    products = 6 * 64 * sum(i * o for i, o in pairwise(widths))
    assert operations.value == pytest.approx(products / 1e9)
    assert (step.contestant, floor.contestant) == (OURS, multi_domain.FLOOR)
    assert floor.ratio < 1.5


def test_every_model_is_measured_by_all_contestants(monkeypatch):
    monkeypatch.setattr("benchmarks.backbones.contestants", lambda _: [OURS])
    shape = dataclasses.replace(backbones.THREE, batch=64)
    found = list(backbones.compare(shape, ("wdl",), TINY, epochs=True))
    names = ["training step", "epoch", "evaluation", "quality"]
    assert [(m.benchmark, m.model, m.contestant) for m in found] == [
        (name, "wdl, 3 fields", OURS) for name in names
    ]
    assert 0.2 < found[-1].value < 0.8


def test_a_whole_process_trains_and_tells_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.process.contestants", lambda _: [OURS])
    found = list(process.measure(tiny_job("wdl"), "wdl", rounds=1, threads=1))
    assert [(m.benchmark, m.unit) for m in found] == [("whole process", "s"), ("peak memory", "MB")]
    assert 1 < found[0].value < 300
    assert 100 < found[1].value < 4000


# The package against its parts, and its ways against others


def contestants_of(found):
    assert all(np.isfinite(m.value) and m.value > 0 for m in found)
    return [m.contestant for m in found]


def test_the_limits_of_a_step(monkeypatch):
    monkeypatch.setattr(limit, "CTR", ("mlp", "autoint"))
    monkeypatch.setattr(limit, "NINE", dataclasses.replace(backbones.NINE, batch=64))
    assert contestants_of(list(limit.measure(TINY))) == [
        OURS, limit.CHAIN, limit.FLOOR, OURS, limit.FLOOR,
    ]  # fmt: skip


def test_the_chain_of_products_has_the_operations_of_the_plain_tower():
    shape = dataclasses.replace(backbones.NINE, batch=64)
    data = rows_like_movielens(64, shape.fields)
    entrant = Entrant(backbones.job("mlp", shape, data, train=64))
    with FlopCounterMode(display=False) as counter:
        limit.Chain(entrant).run()
    widths = [9 * 16, 256, 128, 64, 1]
    products = 6 * 64 * sum(i * o for i, o in pairwise(widths))
    assert counter.get_total_flops() == limit.flops(entrant) == products


def test_experts_are_trained_three_ways():
    found = list(experts.measure(TINY))
    assert contestants_of(found) == [OURS, experts.ONE_BY_ONE, experts.MLORA] * 4
    grown = list(experts.growth(TINY))
    assert len(grown) == 2 * (2 + 2)


def test_side_by_side_and_one_by_one_train_the_same_experts():
    phases = experts.Phases(600, domains=3, batch=64)
    together, alone = phases.experts(), phases.experts()
    before = together.loop.model.state_dict()["tower.layers.0.experts.B.2"].clone()
    together.side_by_side()
    for lane in alone.lanes:
        alone.loop.epochs = 0
        alone.loop.side_by_side([lane])
    weights = together.loop.model.state_dict()
    assert (weights["tower.layers.0.experts.B.2"] - before).abs().max() > 1e-4
    for name, found in alone.loop.model.state_dict().items():
        torch.testing.assert_close(found, weights[name], rtol=1e-3, atol=1e-5, msg=name)


def test_the_whole_run_goes_both_ways():
    assert contestants_of(list(whole_run.measure(TINY))) == [OURS, whole_run.RELEASED]


def test_auc_agrees_with_sklearn_while_it_is_timed():
    assert contestants_of(list(auc.measure(TINY))) == [OURS, auc.SKLEARN] * 2


def test_jobs_run_at_once_and_one_by_one():
    found = list(jobs.measure(TINY))
    assert contestants_of(found) == [OURS, jobs.ONE_BY_ONE] * 2
    assert all(m.value > 0 for m in found)


def test_two_processes_together_are_timed_beside_one(monkeypatch):
    for name, values in {
        "MODELS": ("wdl",),
        "OPTIMIZERS": ("lazy_adam",),
        "BATCHES": (64,),
    }.items():
        monkeypatch.setattr(together, name, values)
    monkeypatch.setattr(together, "ROWS", 256)
    found = list(together.measure(TINY))
    assert contestants_of(found) == [OURS, together.ONE] * 2
    assert [m.unit for m in found] == ["rows/s"] * 2 + ["s"] * 2
    assert all(m.value > 0 and m.rounds == TINY.rounds for m in found)


def test_shares_are_of_the_training_of_an_epoch():
    found = list(shares.measure(TINY))
    parts = [m.model.split(", ")[0] for m in found]
    assert parts == ["batches", "validation"] * 4
    assert all(m.value > 0 for m in found)


def test_ways_of_arithmetic_are_settings(monkeypatch):
    # to compile takes half a minute
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(arithmetic, "MODELS", ("wdl",))
    assert contestants_of(list(arithmetic.measure(TINY))) == [OURS, "bfloat16"]


def test_reading_goes_both_ways(tmp_path):
    assert contestants_of(list(reading.measure(TINY))) == [OURS, reading.PANDAS]
    reading.write_ratings(tmp_path, 500)
    assert len(reading.by_pandas(tmp_path)) == 500


def test_rows_grow_on_disk(tmp_path):
    rows.write_rows(tmp_path, 300)
    found = rows.run(tmp_path)
    assert np.load(tmp_path / "fields.npy").shape == (300, 3)
    assert found["visited"] == rows.BATCHES * backbones.THREE.batch
    assert found["own_mb"] > 10 or platform.system() != "Linux"
    assert len(found["seconds"]) == rows.ROUNDS


# Report


def test_the_report_shows_ratios_and_tells_models_apart(tmp_path):
    pair = {OURS: [1.0, 1.0], "FuxiCTR": [2.0, 3.0], "DeepCTR-Torch": [4.0, 4.0]}
    found = throughput("training step", "wdl, 9 fields", pair, 100, 10, 1)
    pair = {OURS: [1.0], "FuxiCTR": [0.9]}
    found += throughput("training step", "mlp, 9 fields", pair, 100, 10, 1)
    found += [
        Measurement("quality", "wdl, 9 fields", name, "AUC", value, value, value)
        for name, value in ((OURS, 0.75), ("FuxiCTR", 0.752), ("DeepCTR-Torch", 0.74))
    ]
    write(found, tmp_path / "b.csv")
    report.write_report(read(tmp_path / "b.csv"), tmp_path)
    text = (tmp_path / report.TABLE).read_text()
    assert "training step, 9 fields, 2 models: 1.50 times" in text
    assert "0.90 times at least (mlp)" in text
    assert "- wdl, 9 fields: AUC 0.7500, but DeepCTR-Torch 0.7400." in text
    assert "| 2.50 (2.25 to 2.75) |" in text
    assert (tmp_path / f"{report.FIGURE}.png").stat().st_size > 1000


def test_the_report_does_without_other_libraries(tmp_path):
    write(list(auc.measure(TINY)), tmp_path / "b.csv")
    report.write_report(read(tmp_path / "b.csv"), tmp_path)
    assert "| 3 domains | scikit-learn |" in (tmp_path / report.TABLE).read_text()
    assert not (tmp_path / f"{report.FIGURE}.png").exists()


def test_an_unknown_benchmark_is_refused_by_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks", run_name="__main__")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "nonsense" in said
    assert "backbones" in said


def test_no_loop_goes_on_from_anothers_checkpoint(monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    model, data, chosen, index = small_loop(48)
    slow = Loop(model, data, chosen, decay=0.0)
    slow.leg("bench", [Lane("all", index, np.arange(48, 64), slow.parameters)])
    assert slow.checkpoint.load() is not None
    assert Loop(model, data, chosen, decay=0.0).checkpoint.load() is None


def test_parity_is_the_paired_difference_with_students_interval():
    lazy, dense = [0.71, 0.73, 0.70, 0.74], [0.72, 0.72, 0.71, 0.73]
    found = parity(lazy, dense, threads=1)
    paired = [a - b for a, b in zip(lazy, dense, strict=True)]
    half = 3.182446 * np.std(paired, ddof=1) / 2
    assert found.value == pytest.approx(np.mean(paired))
    assert (found.lower, found.upper) == pytest.approx((-half, half), abs=1e-6)
    assert found.rounds == 4
