# SPDX-License-Identifier: Apache-2.0
"""Schedules as torch schedulers: rates, groups, checkpoints, and torch's own schedulers."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import steepest
import steepest.torch as st


def make(cls=torch.optim.SGD, **options):
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.5}]
    return cls(groups, lr=2.0, **options)


def run(optimizer, scheduler, steps):
    """The rates with which the optimizer's steps ran, of both groups."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW, st.AdamW])
@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "inverse_sqrt", "inverse"])
def test_rates(cls, kind):
    optimizer = make(cls)
    scheduler = st.ScheduleLR(optimizer, 20, kind, warmup_steps=4)
    factors = steepest.schedule_fill(kind, 20, lr=1.0, warmup_steps=4)
    np.testing.assert_allclose(run(optimizer, scheduler, 20), factors[:, None] * [2, 0.5])
    # After the end the last rate stays.
    np.testing.assert_allclose(run(optimizer, scheduler, 3), factors[[19] * 3, None] * [2, 0.5])
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]


def test_a_schedule_and_fields_of_it():
    schedule = steepest.Schedule("warmup_stable_decay", lr=7.0, warmup_steps=2)
    optimizer = make()
    scheduler = st.ScheduleLR(optimizer, 10, schedule, decay_steps=4)
    factors = steepest.schedule_fill(schedule, 10, lr=1.0, decay_steps=4)
    np.testing.assert_allclose(run(optimizer, scheduler, 10)[:, 0], 2 * factors)


def test_an_array():
    lr, _ = steepest.schedule_optimal(10)
    optimizer = make()
    scheduler = st.ArrayLR(optimizer, lr / lr.max())
    np.testing.assert_allclose(run(optimizer, scheduler, 10)[:, 0], 2 * lr / lr.max())


MAKERS = [
    lambda o: st.ScheduleLR(o, 12, "cosine", warmup_steps=3),
    lambda o: st.ArrayLR(o, np.linspace(1, 0.1, 12)),
]


@pytest.mark.parametrize("make_scheduler", MAKERS)
def test_a_checkpoint_goes_on(make_scheduler):
    optimizer = make(st.AdamW)
    scheduler = make_scheduler(optimizer)
    whole = run(optimizer, scheduler, 12)

    optimizer = make(st.AdamW)
    scheduler = make_scheduler(optimizer)
    first = run(optimizer, scheduler, 5)
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), scheduler.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)

    optimizer = make(st.AdamW)
    # Made with other options, which the checkpoint replaces.
    scheduler = (
        st.ScheduleLR(optimizer, 99, "linear")
        if isinstance(scheduler, st.ScheduleLR)
        else st.ArrayLR(optimizer, [1.0])
    )
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    np.testing.assert_array_equal(np.concatenate([first, run(optimizer, scheduler, 7)]), whole)
    assert scheduler.state_dict().keys() == make_scheduler(make()).state_dict().keys()


def test_last_epoch_goes_on():
    optimizer = make()
    scheduler = st.ScheduleLR(optimizer, 12, "cosine")
    whole = run(optimizer, scheduler, 12)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    again = st.ScheduleLR(optimizer, 12, "cosine", last_epoch=4)
    np.testing.assert_allclose(run(optimizer, again, 7), whole[5:])


def test_with_torchs_schedulers():
    """Chained behind one of torch's, as SequentialLR does it."""
    optimizer = make()
    first = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=3)
    second = st.ScheduleLR(optimizer, 10, "linear")
    sequence = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, second], [3])
    rates = run(optimizer, sequence, 13)[:, 0]
    np.testing.assert_allclose(rates[:3], 1.0)
    np.testing.assert_allclose(rates[3:], 2 * steepest.schedule_fill("linear", 10, lr=1.0))


def test_a_copy_is_independent():
    optimizer = make()
    scheduler = st.ScheduleLR(optimizer, 10, "linear")
    other = copy.deepcopy(scheduler)
    run(optimizer, scheduler, 4)
    assert other.last_epoch == 0
    assert scheduler.last_epoch == 4


def test_errors():
    optimizer = make()
    with pytest.raises(ValueError, match="kind"):
        st.ScheduleLR(optimizer, 10, "exponential")
    with pytest.raises(ValueError, match="total_steps is 0"):
        st.ScheduleLR(optimizer, 0)
    with pytest.raises(TypeError, match="the peak is the lr"):
        st.ScheduleLR(optimizer, 10, lr=3)
    with pytest.raises(TypeError, match="colour"):
        st.ScheduleLR(optimizer, 10, colour=3)
    for bad in ([], [[1.0]], [1, -1], [1, np.nan]):
        with pytest.raises(ValueError, match="factors"):
            st.ArrayLR(optimizer, bad)
