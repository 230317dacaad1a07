"""The losses chapter, held to closed forms, to torch and to scikit-learn; its decoder in a browser."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import log_loss

import helpers as h
from helpers import losses
from helpers.labs import losses as lab
from helpers.labs.losses import distances, generative

SMALL = h.Recipe(depth=1, width=16, batch_size=50, epochs=2, optimizer="momentum", lr=0.05)


@pytest.fixture(scope="module")
def digits():
    return h.load("digits", n_train=300)


@pytest.fixture(scope="module")
def vae(digits):
    return generative.train_vaes(lab.unit(digits)[0], betas=[1.0], seeds=1, hidden=(16, 8), epochs=20)


# ---- gradients and exact checks


def test_gradients_by_hand_for_one_example():
    z, y = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([1])
    assert lab.by_hand("cross_entropy", z, y)[0].tolist() == pytest.approx([0.75, -0.75])
    assert lab.by_hand("squared_error", z, y)[0].tolist() == pytest.approx([2 * math.log(3), -2])
    assert lab.by_hand("binary_cross_entropy", z, y)[0].tolist() == pytest.approx([0.75, -0.5])
    assert lab.by_hand("focal", z, y, gamma=0)[0].tolist() == pytest.approx([0.75, -0.75])
    with pytest.raises(ValueError, match="name='hinge' is not known"):
        lab.by_hand("hinge", z, y)


def test_the_table_of_gradients_agrees_with_autograd():
    assert lab.hand_table()["largest difference to autograd"].astype(float).max() < 1e-10


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_weight_is_the_ratio_of_two_derivatives(gamma):
    p = np.array([0.01, 0.3, 0.9])
    step = 1e-6
    slope = [((1 - q) ** gamma * np.log(q)) for q in (p - step, p + step)]
    numeric = (slope[1] - slope[0]) / (2 * step) * p  # over d log(p) / dp = 1 / p
    assert lab.focal_weight(p, gamma) == pytest.approx(numeric, rel=1e-4)


def test_focal_curves_hold_cross_entropy_and_gamma_zero_is_it():
    t = lab.focal_curves([0, 2], points=5)
    same = t[t["gamma"] == 0].pivot(index="p", columns="loss", values="gradient")
    assert same["focal"].tolist() == pytest.approx((1 - same.index).tolist())
    with pytest.raises(ValueError, match="gamma=-1 is not allowed"):
        lab.focal_weight(0.5, -1)


def test_exact_checks_come_out_and_the_two_step_version_overflows():
    found, overflow = lab.exact_checks()
    assert {k: {p: e.holds for p, e in v.items()} for k, v in found.items()} == {
        "LOSS-06": {"gamma_0_is_cross_entropy": True, "gamma_2_is_a_factor_on_it": True},
        "LOSS-15": {"softmax_for_ten_classes": True, "sigmoid_for_yes_or_no": True, "two_classes_either_way": True},
        "LOSS-03": {"measures_the_gap": True},
        "LOSS-05": {"the_weights": False},
    }
    assert overflow == {"naive": math.inf, "safe": 200}
    assert lab.nearly(torch.tensor(1e-3)).holds is False


def test_one_small_step_lowers_the_loss_and_hardest_share_lies_between(digits):
    assert (lab.one_step(SMALL.but(lr=0.01), digits, seeds=2) < 0).all()
    share = lab.hardest_share(SMALL, digits, seeds=2)
    assert ((share > 0.1) & (share < 1)).all()  # the hardest tenth pulls harder than the average


def test_late_rise_by_hand():
    curves = pd.DataFrame(
        {
            "label_noise": 0.0,
            "seed": 0,
            "val_loss": [3.0, 1.0, 1.5],
            "val_accuracy": [0.1, 0.7, 0.8],
            "epoch": [1, 2, 3],
        }
    )

    class Runs:
        frame = staticmethod(lambda: curves)

    row = lab.late_rise(Runs()).iloc[0]
    assert (row["val_loss"], row["val_accuracy"]) == pytest.approx((0.5, 0.1))


# ---- evidence


def test_gains_holds_fails_and_stays_open():
    assert lab.gains("x", [0.05, 0.06, 0.055], 0.02).holds is True
    assert lab.gains("x", [0.005, 0.006, 0.0055], 0.02).holds is False
    assert lab.gains("x", [-0.05, -0.06], 0.02).holds is False
    assert lab.gains("x", [-0.05, 0.09], 0.02).holds is None
    assert lab.gains("x", [0.05, 0.06, 0.055], 0.02).sentence == "x: +5.5 points, 95 % CI [4.3, 6.7], n = 3."


def test_inside_plain_and_told():
    assert lab.inside("x", [0.01, -0.01, 0.0], margin=0.1).holds is True
    assert lab.inside("x", [1.01, 1.02, 1.0], margin=0.1).holds is False
    assert lab.inside("x", [-1.0, 1.0], margin=0.1).holds is None
    scores = pd.DataFrame({"cross_entropy": [0.9, 0.91, 0.9], "focal": [0.8, 0.81, 0.8]})
    made = h.Comparison("loss", ("cross_entropy", "focal"), {}, (), None, None, scores, "test_accuracy", 0.005)
    assert lab.told(made).startswith("Cross entropy beats focal by 10.0 points")


def test_squared_error_is_among_the_defaults():
    found = lab.defaults_of_regressors()
    assert found["GradientBoostingRegressor"] == "squared_error" and len(found) > 5


# ---- data


def test_thinned_keeps_a_share_of_some_classes_alone(digits):
    thin = lab.thinned(digits, 0.1, [7, 8])
    before, after = (torch.bincount(d.y_train, minlength=10) for d in (digits, thin))
    assert after[:7].tolist() == before[:7].tolist() and after[7] == round(0.1 * int(before[7]))
    assert torch.equal(thin.x_val, digits.x_val)
    with pytest.raises(ValueError, match="share=0 is not allowed"):
        lab.thinned(digits, 0, [1])


def test_letters_are_means_of_two_by_two_pixels_and_sealed():
    small = lab.letters(n_train=52, n_val=26, n_test=26)
    large = h.load("glyphs", n_train=52, n_val=26, n_test=26, characters="ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert small.x_train[3, 0, 2, 5].item() == pytest.approx(large.x_train[3, 0, 4:6, 10:12].mean().item(), abs=1e-6)
    assert small.image_shape == (1, 14, 14) and small.test_readings == []


def test_few_digits_and_unit(digits):
    few = lab.few_digits()
    assert (few.n_train, len(few.y_val)) == (539, 719)
    x, x_val = lab.unit(digits)
    assert (x.min(), x.max()) == (0, 1) and x.shape[1] == 64 and x_val.max() <= 1


# ---- calibration


def test_calibration_error_by_hand():
    p = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.45, 0.55]])
    y = torch.tensor([0, 1, 1, 1])  # bins: 0.95 twice (half right), 0.65 once (right), 0.55 once (right)
    assert lab.ece(p, y) == pytest.approx((2 * 0.45 + 0.35 + 0.45) / 4)
    assert lab.reliability(p, y)["n"].tolist() == [1, 1, 2]


def test_temperature_minimises_scikit_learn_s_log_loss():
    g = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(200, 3, generator=g)
    y = torch.multinomial((z / 2.5).softmax(1), 1, generator=g).flatten()
    best = lab.temperature(z, y)
    score = [log_loss(y.numpy(), (z.double() / t).softmax(1).numpy()) for t in (best * 0.97, best, best * 1.03)]
    assert score[1] == min(score) and best == pytest.approx(2.5, rel=0.3)


def test_calibration_has_a_row_per_setting_and_scaling_keeps_the_answers(digits):
    table, bins = lab.calibration(SMALL.vary(label_smoothing=[0.0, 0.2]), digits, seeds=2)
    assert len(table) == 8 and {0.0, 0.2} == set(bins["label_smoothing"])
    right = table.pivot(index=["label_smoothing", "seed"], columns="scaling", values="accuracy")
    assert right["none"].tolist() == right["temperature"].tolist()


# ---- regression, many small networks


def test_nets_side_by_side_equal_torch_s_own_layers():
    nets, x = lab.Nets([3, 4, 2], [0, 5]), torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    for i in (0, 1):
        inner = F.relu(x[i] @ nets.weights[0][i] + nets.biases[0][i])
        alone = inner @ nets.weights[1][i] + nets.biases[1][i]
        assert torch.allclose(nets(x)[i], alone, atol=1e-6)
    assert not torch.equal(nets.weights[0][0], nets.weights[0][1])


def test_outliers_hurt_squared_error_most():
    t = lab.regression([0.0, 0.2], seeds=2, steps=40).groupby(["outliers", "loss"])["error"].mean()
    assert t[0.2, "squared"] > t[0.2, "absolute"] + 0.2
    with pytest.raises(ValueError, match="share=0.9 is not allowed"):
        lab.regression([0.9], seeds=1)


# ---- distances


def test_triplet_equals_torch_on_the_hardest_triplets():
    g = torch.Generator().manual_seed(0)
    e, y = torch.randn(12, 3, generator=g).double(), torch.arange(12) % 3
    hardest = []
    for i in range(12):
        d = (e - e[i]).norm(dim=1)
        p = max((j for j in range(12) if y[j] == y[i]), key=d.__getitem__)
        n = min((j for j in range(12) if y[j] != y[i]), key=d.__getitem__)
        hardest.append(F.triplet_margin_loss(e[i], e[p], e[n], margin=1.0, eps=0).item())
    assert distances.triplet(e, y).item() == pytest.approx(np.mean(hardest))


def test_contrastive_by_hand():
    e = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.6, 0.0]])
    # one pair of a class at distance 5; the others at 0.6 and beyond the margin
    assert distances.contrastive(e, torch.tensor([0, 0, 1])).item() == pytest.approx((25 + 0.4**2 + 0) / 3)


def test_relations_by_hand():
    e = torch.tensor([[0.0], [1.0], [10.0], [11.0], [2.5]])
    y = torch.tensor([0, 0, 1, 1, 1])
    found = distances.relations(e, y)  # anchor 0 alone: its mate is nearer than all three others
    assert found == {"ordered": 1.0, "recall": pytest.approx(4 / 5)}  # the last one's nearest is of class 0


def test_encoders_learn_their_own_classes_and_pixels_are_a_rival(digits):
    t = distances.distances(digits, seeds=2, epochs=3).groupby(["loss", "classes"])[["ordered", "recall"]].mean()
    assert len(t) == 10 and t["ordered"]["triplet", "known"] > t["ordered"]["none", "known"]
    with pytest.raises(ValueError, match="loss='triplets' is not known.*Did you mean 'triplet'"):
        distances.encode(digits, "triplets", seeds=1)


def test_contrastive_divergence_reconstructs_better_and_hears_no_labels(digits):
    errors, weights = distances.rbm(lab.unit(digits)[0], epochs=15)
    assert errors[-1] < 0.8 * errors[0] and weights.shape == (64, 32)
    parts = distances.exact_names(digits, seeds=2)
    assert parts["siamese_network"].holds is True and parts["contrastive_divergence"].holds is False


# ---- the variational auto-encoder and the ring


def test_kl_equals_torch_distributions_and_is_zero_for_the_prior():
    mu, logvar = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.0, 1.0]])
    q = torch.distributions.Normal(mu, (logvar / 2).exp())
    other = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    assert generative.kl(mu, logvar).item() == pytest.approx(other.item())
    assert generative.kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    parts, gap = generative.exact_kl()
    assert all(e.holds for e in parts.values()) and gap < 1e-10


def test_negative_elbo_by_hand():
    x, decoded, zero = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.0]]), torch.zeros(1, 1)
    assert generative.negative_elbo(x, decoded, zero, zero).item() == pytest.approx(0.04 / 0.08)
    assert generative.negative_elbo(x, x, zero + 2, zero, beta=3.0).item() == pytest.approx(3 * 2)


def test_a_large_beta_silences_the_codes(digits):
    x = lab.unit(digits)[0]
    model = generative.train_vaes(x, betas=[0.1, 100.0], seeds=1, k=3, hidden=(16,), epochs=25)
    told = generative.use_of_codes(model, x, [0.1, 100.0], 1).groupby("beta")
    assert told["nats"].sum()[0.1] > 1 and told["nats"].sum()[100.0] < 0.2
    assert told["error"].mean()[0.1] < told["error"].mean()[100.0]
    with pytest.raises(ValueError, match="beta=-1 is not allowed"):
        generative.train_vaes(x, betas=[-1], seeds=1)


def test_coverage_by_hand():
    assert generative.coverage(generative.ring(2000, 3))["modes"] == 8
    one = torch.cat([generative.MODES[:1].expand(50, 2), torch.zeros(50, 2)])
    assert generative.coverage(one) == {"modes": 1, "on": 0.5}


def test_ring_models_give_samples_for_each_seed():
    assert generative.ring_vaes(seeds=2, epochs=1, n=200).shape == (2, 200, 2)
    fake = generative.ring_gans(seeds=2, steps=3, n=200, each=2)
    assert fake.shape == (2, 200, 2) and not torch.equal(fake[0], fake[1])


# ---- the decoder in the page


def explorer(vae, digits, **more):
    centres, _ = generative.codes(vae, lab.unit(digits)[1])
    told = {"title": "Walk & see", "finding": "A <b>finding</b>.", "note": "a note"} | more
    return generative.latent_explorer(vae, centres[0][:60], digits.y_val[:60], digits.classes, **told)


def test_rounded_weights_decode_like_the_model(vae, digits):
    made, z = explorer(vae, digits), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    exact = vae.decode(z[None])[0].detach().numpy()
    assert np.abs(made.decode(z) - exact).max() < 2e-3
    assert Image.open(io.BytesIO(made._repr_png_())).size == (9 * 9 * 4, 9 * 9 * 4)


def test_the_html_is_small_escaped_and_has_a_picture_with_words(vae, digits):
    page = explorer(vae, digits, title="</script><img src=x>")._repr_html_()
    assert len(page) < 40_000 and "</script><img" not in page and "<b>finding" not in page
    picture = page.split("base64,", 1)[1].split('"', 1)[0]
    assert Image.open(io.BytesIO(base64.b64decode(picture))).format == "PNG"
    assert 'alt="A sheet of images decoded from codes on a grid' in page and "import" not in page.split("<script>")[1]


def test_latent_explorer_wants_two_codes(digits):
    other = generative.train_vaes(lab.unit(digits)[0], betas=[1.0], seeds=1, k=3, hidden=(4,), epochs=1)
    with pytest.raises(ValueError, match="model must be one VAE with two codes for square images"):
        generative.latent_explorer(other, torch.zeros(1, 2), torch.zeros(1).long(), "0", title="t", finding="f")


def test_the_page_decodes_what_torch_decodes(vae, digits, guarded, tmp_path):
    made = explorer(vae, digits, start=(0.5, -1.0))
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{made._repr_html_()}{made._repr_html_()}", "utf-8")
    page, outside = guarded(viewport={"width": 375, "height": 800})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    host, slider = page.locator("[data-live]").first, page.locator("input[type=range]").first
    assert page.locator("[data-live]").count() == 2 and not page.locator("[data-live] > figure").first.is_visible()

    def shown():
        return np.array(host.evaluate("e => e.values"))

    def decoded(*z):
        return vae.decode(torch.tensor([[z]]))[0, 0].detach().numpy()

    assert np.abs(shown() - decoded(0.5, -1.0)).max() < 2e-3
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert np.abs(shown() - decoded(0.8, -1.0)).max() < 2e-3
    pixels = "e => [...e.querySelector('canvas').getContext('2d').getImageData(0, 0, 8, 8).data]"
    drawn = np.array(host.evaluate(pixels)).reshape(64, 4)
    assert np.abs(drawn[:, 0] - 255 * shown()).max() <= 1 and (drawn[:, 3] == 255).all()
    assert "Code (0.8, −1.0)" in host.locator("[role=status]").inner_text()
    assert slider.get_attribute("aria-valuetext") == "0.8" and page.get_by_label("z2 (up)").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert (outside, errors) == ([], [])


def test_without_a_script_the_picture_stands_there(vae, digits, guarded, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{explorer(vae, digits)._repr_html_()}", "utf-8")
    page, _ = guarded(java_script_enabled=False)
    page.goto(file.as_uri())
    assert page.locator("figure img").is_visible() and "need JavaScript" in page.locator("figcaption").inner_text()


def test_losses_and_labs_agree_on_names():
    assert set(lab.hand_table()["loss"]) == set(lab.GRADIENTS) < set(losses.LOSSES)
