from itertools import pairwise

import pytest
import torch
from torch import nn

from partalign.training.optimizer import (
    CaffeSGD,
    make_optimizer,
    optimizer_state,
    rate_share,
    restore_optimizer,
    set_rates,
)
from partalign.training.settings import OptimizerSettings, ScheduleSettings


def run(optimizer, weight, gradients, rates):
    for gradient, rate in zip(gradients, rates, strict=True):
        weight.grad = torch.full_like(weight, gradient)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return weight.item()


def test_caffe_momentum_keeps_the_rate_of_old_steps():
    gradients, rates = [1.0, -2.0, 0.5], [0.1, 0.1, 0.01]
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    found = run(CaffeSGD([weight], lr=0.1, momentum=0.9, weight_decay=0.2), weight, gradients, rates)
    w, v = 1.0, 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        v = 0.9 * v + rate * (gradient + 0.2 * w)
        w -= v
    assert found == pytest.approx(w, abs=1e-12)
    ordinary = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    other = run(torch.optim.SGD([ordinary], 0.1, momentum=0.9, weight_decay=0.2), ordinary, gradients, rates)
    assert other != pytest.approx(found, abs=1e-3), "a falling rate tells the two apart"


def test_rates_and_decay_by_kind_of_parameter():
    network = nn.ModuleDict({"old": nn.Linear(2, 2), "new": nn.Linear(2, 2)})
    settings = OptimizerSettings(rate=0.1, new_rate=1.0, bias_rate=2.0, bias_decay=False, weight_decay=0.5)
    optimizer = make_optimizer(network.named_parameters(), lambda name: name.startswith("new"), settings)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    expected = {"old.weight": (0.1, 0.5), "old.bias": (0.2, 0.0), "new.weight": (1.0, 0.5), "new.bias": (2.0, 0.0)}
    assert {name: found[id(p)] for name, p in network.named_parameters()} == expected
    set_rates(optimizer, 0.5)
    assert sorted(g["lr"] for g in optimizer.param_groups) == [0.05, 0.1, 0.5, 1.0]


def test_the_papers_schedule_divides_by_five_every_20000():
    schedule = ScheduleSettings()
    assert [rate_share(schedule, i) for i in (0, 19_999, 20_000, 40_000, 74_999)] == pytest.approx(
        [1, 1, 0.2, 0.04, 0.008]
    )


def test_cosine_falls_to_zero_after_warm_up():
    schedule = ScheduleSettings(kind="cosine", iterations=100, warmup=10)
    shares = [rate_share(schedule, i) for i in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == pytest.approx(1, abs=0.03)
    assert shares[50] == pytest.approx(0.5)
    assert 0 < shares[99] < 1e-3
    assert all(a > b for a, b in pairwise(shares[10:]))


@pytest.mark.parametrize("name", ["sgd", "caffe-sgd", "adam", "adamw"])
def test_a_restored_optimiser_goes_on_as_before(name):
    def make():
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        return network, make_optimizer(
            network.named_parameters(), lambda _: True, OptimizerSettings(name=name, rate=0.05)
        )

    def steps(network, optimizer, count):
        for i in range(count):
            optimizer.zero_grad()
            (network(torch.ones(1, 3)) ** 2).sum().mul(i + 1).backward()
            optimizer.step()

    network, optimizer = make()
    steps(network, optimizer, 3)
    weights, memory = {k: v.clone() for k, v in network.state_dict().items()}, optimizer_state(optimizer)
    memory = {k: v.clone() for k, v in memory.items()}
    steps(network, optimizer, 4)
    again, second = make()
    again.load_state_dict(weights)
    restore_optimizer(second, memory)
    steps(again, second, 4)
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
