"""The flat loop against the plainest PyTorch loop one could write."""

import pytest
import torch
import torch.nn.functional as F

from helpers import data, training
from helpers.recipe import Recipe


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_equals_a_plain_pytorch_loop(digits):
    recipe = Recipe(width=16, epochs=2, optimizer="momentum", lr=0.05, clip_norm=1.0)
    model = training.fresh_model(recipe, digits)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(2):
        for i in training.batch_order(0, digits.n_train, 64, epoch):
            loss = F.cross_entropy(model(digits.x_train[i]), digits.y_train[i])
            sgd.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            sgd.step()
    ours, curve = training.train_one(recipe, digits)
    for a, b in zip(ours.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    accuracy = (model(digits.x_val).argmax(1) == digits.y_val).float().mean().item()
    assert curve[-1]["val_accuracy"] == pytest.approx(accuracy, abs=0.006)


def test_training_really_learns(digits):
    _, curve = training.train_one(Recipe(epochs=10), digits, test="does it learn")
    assert curve[-1]["test_accuracy"] > 0.93 and curve[-1]["train_loss"] < 0.2 * curve[0]["train_loss"]


def test_batch_order_covers_the_data_once_and_changes_by_epoch_and_seed():
    order = training.batch_order(3, 10, 3, epoch=0)
    assert order.shape == (3, 3) and order.flatten().unique().numel() == 9
    assert torch.equal(order, training.batch_order(3, 10, 3, epoch=0))
    assert not torch.equal(order, training.batch_order(3, 10, 3, epoch=1))
    assert not torch.equal(order, training.batch_order(4, 10, 3, epoch=0))
    assert training.batch_order(0, 10, None, 0).shape == (1, 10)
    assert training.batch_order(0, 10, 64, 0).shape == (1, 10)


def test_arms_share_weights_and_order_where_shapes_allow(digits):
    a, b = (training.fresh_model(Recipe(optimizer=o), digits) for o in ("sgd", "adam"))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_schedule_is_taken_at_the_middle_of_a_step():
    linear = Recipe(schedule="linear", epochs=2)
    assert [training.lr_factor_at(linear, s, 2) for s in range(4)] == pytest.approx([0.875, 0.625, 0.375, 0.125])
    warm = Recipe(warmup=1.0, epochs=1)
    assert [training.lr_factor_at(warm, s, 2) for s in range(2)] == pytest.approx([0.25, 0.75])


def test_label_noise_touches_training_labels_only(digits):
    noisy = training.prepared(Recipe(label_noise=1.0), digits)
    assert (noisy.y_train != digits.y_train).float().mean() > 0.8
    assert torch.equal(noisy.y_val, digits.y_val)


def _stopped(losses, patience):
    """(epoch at which the rule stops or None, epoch of the weights kept)."""
    rule = training.EarlyStop(patience)
    for epoch, value in enumerate(losses, 1):
        if rule.see({"epoch": epoch, "val_loss": value, "val_accuracy": -value}, lambda e=epoch: {"weights of": e}):
            return epoch, rule.state["weights of"]
    return None, rule.state["weights of"]


def test_patience_by_hand():
    losses = [5.0, 3.0, 4.0, 2.0, 2.5, 2.0, 2.6, 1.0]
    assert _stopped(losses, 1) == (3, 2)  # the first epoch without a fall
    assert _stopped(losses, 2) == (6, 4)  # an equal loss is no fall
    assert _stopped(losses, 3) == (7, 4)
    assert _stopped(losses, 4) == (None, 8)  # epoch 8 comes in time
    assert _stopped([1.0, float("nan"), float("nan")], 2) == (3, 1)  # a loss that is not finite never counts as lower


def test_settle_writes_the_scores_of_the_weights_kept():
    rule, curve = training.EarlyStop(2), []
    for epoch, value in enumerate([3.0, 1.0, 2.0, 2.0], 1):
        curve.append({"epoch": epoch, "val_loss": value, "val_accuracy": 1 / value, "train_loss": 0.1 * epoch})
        rule.see(curve[-1], lambda e=epoch: e)
    assert rule.settle(curve) == 2
    assert curve[-1] == {"epoch": 4, "val_loss": 1.0, "val_accuracy": 1.0, "train_loss": 0.4, "best_epoch": 2}
    assert curve[2]["val_loss"] == 2.0 and "best_epoch" not in curve[2]
