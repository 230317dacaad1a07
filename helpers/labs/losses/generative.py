"""Losses of models that draw: the variational auto-encoder, a generative adversarial network, a decoder in the page."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from helpers import checks, claims, streams, training
from helpers.claims import Evidence
from helpers.labs.losses import Nets, nearly

# --- the variational auto-encoder, and a generative adversarial network beside it


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) summed over the last axis (Kingma & Welling 2014, appendix B)."""
    return (mu.square() + logvar.exp() - 1 - logvar).sum(-1) / 2


def negative_elbo(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor, beta=1.0, sd: float = 0.2) -> Tensor:
    """The VAE's loss for each example: reconstruction (a Gaussian around `decoded`, up to a constant) + beta KL."""
    return (x - decoded).square().sum(-1) / (2 * sd**2) + beta * kl(mu, logvar)


def exact_kl(draws: int = 100_000) -> tuple[dict[str, Evidence], float]:
    """The VAE's loss, checked (R3): closed-form KL against torch.distributions and against the mean of log q - log p
    over draws; and the largest difference of its gradients mu and (exp(logvar) - 1) / 2 to autograd."""
    g = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 4, generator=g).double()
    sd = (logvar / 2).exp()
    q, prior = (torch.distributions.Normal(m, s) for m, s in ((mu, sd), (torch.zeros(4).double(), 1.0)))
    z = mu + sd * torch.randn(draws, 4, generator=g).double()
    each, closed = (q.log_prob(z) - prior.log_prob(z)).sum(1), kl(mu, logvar)
    error = each.std() / draws**0.5
    x = torch.rand(4, generator=g).double()
    two = negative_elbo(x, mu, mu, logvar, beta=2.0) - negative_elbo(x, mu, mu, logvar, beta=1.0)
    words = f"Closed form {closed:.4f}; mean of {draws:,} draws {each.mean():.4f}, standard error {error:.4f}."
    parts = {
        "closed_form": nearly(closed - torch.distributions.kl_divergence(q, prior).sum()),
        "by_drawing": claims.exact(words, bool(abs(each.mean() - closed) < 4 * error)),
        "two_terms": nearly(two - closed),
    }
    pulls = torch.func.grad(kl, (0, 1))(mu, logvar)
    gap = torch.stack([pulls[0] - mu, pulls[1] - (logvar.exp() - 1) / 2]).abs().max().item()
    return parts, gap


class VAEs(nn.Module):
    """N variational auto-encoders side by side. Input (N, batch, d + k): examples, and the draws of their k codes.

    Output (N, batch, d + 2 k): the decoded example, mu and logvar.
    """

    def __init__(self, d: int, k: int, hidden: Sequence[int], seeds: Sequence[int], squash: bool):
        super().__init__()
        self.d, self.k, self.squash = d, k, squash
        self.encoder = Nets([d, *hidden, 2 * k], seeds)
        self.decoder = Nets([k, *reversed(hidden), d], seeds)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, n, k) -> examples (N, n, d)."""
        return self.decoder(z).sigmoid() if self.squash else self.decoder(z)

    def forward(self, both: Tensor) -> Tensor:
        x, noise = both[..., : self.d], both[..., self.d :]
        mu, logvar = self.encoder(x).chunk(2, -1)
        return torch.cat([self.decode(mu + (logvar / 2).exp() * noise), mu, logvar], -1)


def train_vaes(
    x: Tensor, *, betas: Sequence[float], seeds: int, k: int = 2, hidden=(64,), epochs: int = 50, lr: float = 0.003,
    sd: float = 0.2, squash: bool = True, batch: int = 100,
) -> VAEs:  # fmt: skip
    """Train one VAE for each beta and seed (beta changes slowest) on x (n, d); `sd` is that of the decoder's Gaussian.

    `squash`: decoded values pass a sigmoid, for x in 0..1.
    """
    for beta in betas:
        checks.number("beta", beta, low=0, try_="1.0")
    cells = [(beta, seed) for beta in betas for seed in range(seeds)]
    model = VAEs(x.shape[1], k, hidden, [seed for _, seed in cells], squash)
    weight, g = torch.tensor([[beta] for beta, _ in cells]), torch.Generator().manual_seed(streams.seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr)

    def batches():
        for epoch in range(epochs):
            orders = [training.batch_order(seed, len(x), batch, epoch) for seed in range(seeds)]
            for i in torch.stack(orders, 1).repeat(1, len(betas), 1):
                draws = torch.randn(seeds, i.shape[1], k, generator=g).repeat(len(betas), 1, 1)
                yield torch.cat([x[i], draws], -1), i

    def loss(out, i):
        decoded, mu, logvar = out.split([x.shape[1], k, k], -1)
        return negative_elbo(x[i], decoded, mu, logvar, weight, sd).mean(1)

    for _ in training.fit(model, loss, optimizer, batches(), lambda step: None):
        pass
    return model


@torch.no_grad()
def codes(model: VAEs, x: Tensor) -> tuple[Tensor, Tensor]:
    """mu and logvar (N, n, k) of the examples x (n, d)."""
    mu, logvar = model.encoder(x.expand(len(model.encoder.weights[0]), -1, -1)).chunk(2, -1)
    return mu, logvar


def use_of_codes(model: VAEs, x: Tensor, betas: Sequence[float], seeds: int) -> pd.DataFrame:
    """How much each code tells about the examples x: its mean KL, in nats, the most telling code first.

    Rows: beta, seed, code, nats, error (root mean square of x minus what its mean code decodes to).
    """
    mu, logvar = codes(model, x)
    with torch.no_grad():
        error = (model.decode(mu) - x).square().mean((1, 2)).sqrt()
    told = ((mu.square() + logvar.exp() - 1 - logvar) / 2).mean(1).sort(1, descending=True).values
    rows = []
    for i, (beta, seed) in enumerate((b, s) for b in betas for s in range(seeds)):
        about = {"beta": beta, "seed": seed, "error": error[i].item()}
        rows += [{**about, "code": c + 1, "nats": v} for c, v in enumerate(told[i].tolist())]
    return pd.DataFrame(rows)


SPREAD = 0.2  # of the points around each place on the ring
MODES = 2 * torch.tensor([[math.cos(t), math.sin(t)] for t in torch.arange(8) * math.pi / 4])


def ring(n: int, seed: int, sd: float = SPREAD) -> Tensor:
    """n points (n, 2) around eight places on a circle of radius 2, with this standard deviation."""
    g = torch.Generator().manual_seed(streams.seed(seed))
    return MODES[torch.randint(8, (n,), generator=g)] + sd * torch.randn(n, 2, generator=g)


def coverage(samples: Tensor, sd: float = SPREAD) -> dict[str, float]:
    """`modes`: how many of the eight places have at least 1 % of the samples (n, 2) within 3 sd; `on`: the share of
    samples that lie within 3 sd of any."""
    near = torch.cdist(samples, MODES) < 3 * sd
    return {"modes": int((near.double().mean(0) >= 0.01).sum()), "on": near.any(1).double().mean().item()}


def ring_vaes(*, seeds: int, epochs: int, n: int = 1000) -> Tensor:
    """Samples (seeds, n, 2) of VAEs trained on `ring` (n points): codes from the prior, decoded, with its noise."""
    model = train_vaes(ring(n, 0), betas=[1.0], seeds=seeds, hidden=(32, 32), epochs=epochs, sd=SPREAD, squash=False)
    g = torch.Generator().manual_seed(streams.seed(1))
    with torch.no_grad():
        clean = model.decode(torch.randn(seeds, n, 2, generator=g))
    return clean + SPREAD * torch.randn(clean.shape, generator=g)


def ring_gans(
    *, seeds: int, steps: int, lr_d: float = 2e-3, lr_g: float = 2e-3, each: int = 1, n: int = 1000
) -> Tensor:
    """Samples (seeds, n, 2) of generative adversarial networks (Goodfellow et al. 2014) trained on `ring` (n points).

    In each step the discriminator learns to tell 100 points from 100 made ones, then the generator learns to be taken
    for real (the loss that does not saturate), `each` times. `lr_d`, `lr_g`: their learning rates.
    """
    made, judge = Nets([2, 32, 32, 2], range(seeds)), Nets([2, 32, 32, 1], range(100, 100 + seeds))
    opt_g, opt_d = (torch.optim.Adam(m.parameters(), r, betas=(0.5, 0.9)) for m, r in ((made, lr_g), (judge, lr_d)))
    g, x = torch.Generator().manual_seed(streams.seed(0)), ring(n, 0)
    for _ in range(steps):
        real = x[torch.randint(n, (seeds, 100), generator=g)]
        fake = made(torch.randn(seeds, 100, 2, generator=g)).detach()
        loss_d = (F.softplus(-judge(real)) + F.softplus(judge(fake))).mean(1).sum()
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        for _ in range(each):
            loss_g = F.softplus(-judge(made(torch.randn(seeds, 100, 2, generator=g)))).mean(1).sum()
            opt_g.zero_grad()
            loss_g.backward()
            opt_g.step()
    with torch.no_grad():
        return made(torch.randn(seeds, n, 2, generator=g))


# --- a decoder that runs in the page

# One classic script without imports or look-ups outside its own element: it works from a file and twice on a page.
PAGE = """(() => {
if (customElements.get("%(tag)s")) return;
const NS = "http://www.w3.org/2000/svg";
const make = (name, attributes, ...inside) => {
  const svg = /^(svg|g|text|line|circle)$/.test(name);
  const e = svg ? document.createElementNS(NS, name) : document.createElement(name);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...inside);
  return e;
};
const read = ({ data, rows, columns, scale }) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  const at = (i, j) => scale * view.getInt16(2 * (i * columns + j), true);
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => at(i, j)));
};
const decode = (layers, z) => layers.reduce((x, w, k) => w[0].map((_, j) => {
  let sum = w[x.length][j];
  x.forEach((v, i) => { sum += (k ? Math.max(v, 0) : v) * w[i][j]; });
  return k === layers.length - 1 ? 1 / (1 + Math.exp(-sum)) : sum;
}), z);
let made = 0;
const told = (v) => v.toFixed(1).replace(/^-(?=0\\.0$)/, "").replace("-", "\\u2212");
const start = (host, spec) => {
  const layers = spec.layers.map(read), { reach, side, points } = spec, sliders = [], outputs = [];
  const form = make("form", { class: "vd-form" }), number = ++made;
  form.addEventListener("submit", (event) => event.preventDefault());
  ["z1", "z2"].forEach((name, i) => {
    const id = host.tagName.toLowerCase() + "-" + number + "-" + name;
    sliders[i] = make("input", { type: "range", id, min: -reach, max: reach, step: 0.1, value: spec.start[i] });
    outputs[i] = make("output", { for: id });
    const label = make("label", { for: id }, name + (i ? " (up)" : " (to the right)"));
    form.append(make("div", {}, make("span", { class: "vd-head" }, label, outputs[i]), sliders[i]));
  });
  const canvas = make("canvas", { width: side, height: side, role: "img" });
  const cross = [make("line"), make("line"), make("circle", { r: 0.14 })];
  const box = [-reach, -reach, 2 * reach, 2 * reach].join(" ");
  const map = make("svg", { viewBox: box, role: "img", "aria-label": spec.map });
  map.append(...points.map(([x, y, c]) => make("text", { x, y: -y, dy: "0.35em" }, spec.names[c])), ...cross);
  const status = make("p", { class: "vd-status", role: "status" });
  const panel = (e, caption) => make("figure", {}, e, make("figcaption", {}, caption));
  const stage = make("div", { class: "vd-stage" }, panel(map, spec.mapped), panel(canvas, "the decoded image"));
  const title = make("p", { class: "vd-title" }, spec.title), note = make("p", { class: "vd-note" }, spec.note);
  const place = make("div", { class: "vd" }, title, form, stage, status, note);
  const draw = () => {
    const z = sliders.map((s) => Number(s.value)), values = decode(layers, z), brush = canvas.getContext("2d");
    const image = brush.createImageData(side, side);
    values.forEach((v, i) => image.data.set([255 * v, 255 * v, 255 * v, 255], 4 * i));
    brush.putImageData(image, 0, 0);
    host.values = values;
    outputs.forEach((o, i) => { o.textContent = told(z[i]); sliders[i].setAttribute("aria-valuetext", told(z[i])); });
    const places = [{ x1: z[0], x2: z[0], y1: -reach, y2: reach }, { x1: -reach, x2: reach, y1: -z[1], y2: -z[1] }];
    [...places, { cx: z[0], cy: -z[1] }].forEach((place, i) => {
      Object.entries(place).forEach(([k, v]) => cross[i].setAttribute(k, v));
    });
    const [d, c] = points.map(([x, y, c]) => [Math.hypot(x - z[0], y - z[1]), c]).sort((a, b) => a[0] - b[0])[0];
    const near = "the nearest encoded image shows a " + spec.names[c] + ", at a distance of ";
    const code = z.map(told).join(", ");
    const what = (d > 0.5 ? "no encoded image is nearer than " : near) + d.toFixed(2) + ".";
    status.textContent = "Code (" + code + "): " + what;
    canvas.setAttribute("aria-label", "Image decoded from the code " + code + ".");
  };
  sliders.forEach((s) => s.addEventListener("input", draw));
  map.addEventListener("click", (event) => {
    const { left, top, width, height } = map.getBoundingClientRect();
    [(event.clientX - left) / width, 1 - (event.clientY - top) / height].forEach((v, i) => {
      sliders[i].value = (2 * v - 1) * reach;
    });
    draw();
  });
  draw();
  host.prepend(make("style", {}, spec.css), place);
};
customElements.define("%(tag)s", class extends HTMLElement {
  connectedCallback() {
    if (this.started) return;
    this.started = true;
    try { start(this, JSON.parse(this.dataset.spec)); this.dataset.live = ""; } catch (error) { console.error(error); }
  }
});
})();"""
SHEET = """%(tag)s[data-live] > figure { display: none }
.vd { color: inherit; font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 1rem 0 }
.vd p { margin: 0 0 .5rem } .vd-title { font-size: 1.15em; font-weight: 650 } .vd-note { font-size: .85em; opacity: .8 }
.vd-form, .vd-stage { display: grid; gap: .6rem 1.75rem; margin: 0 0 .6rem }
.vd-form, .vd-stage { grid-template-columns: repeat(auto-fit, minmax(min(100%%, 13rem), 1fr)) }
.vd-head { display: flex; justify-content: space-between }
.vd-head output { font-weight: 700; font-variant-numeric: tabular-nums }
.vd input { display: block; width: 100%%; height: 26px; margin: 2px 0; accent-color: #0072b2; cursor: pointer }
.vd input:focus-visible { outline: 2px solid currentColor; outline-offset: 1px }
.vd figure { margin: 0 } .vd figcaption { font: inherit; font-size: .85em; text-align: center }
.vd svg, .vd canvas { display: block; width: 100%%; aspect-ratio: 1; border: 1px solid #8c959f }
.vd svg { cursor: crosshair } .vd canvas { image-rendering: pixelated }
.vd svg text { font-size: .2px; text-anchor: middle; fill: currentColor }
.vd line { stroke: #d55e00; stroke-width: .02 } .vd circle { fill: none; stroke: #d55e00; stroke-width: .05 }
html[data-theme=dark] .bd-content div.cell_output .output.text_html:has(.vd) {
  background: none; color: inherit; padding: 0 }
html[data-theme=dark] .vd input { accent-color: #6cb8f0 }
@media (max-width: 30rem) { .vd canvas { max-width: 12rem; margin: 0 auto } }"""


class LatentExplorer:
    """A decoder with two sliders, drawn by the page itself: no kernel, no network. Show it as a cell's last line."""

    def __init__(self, layers: list[dict], spec: dict, finding: str):
        self.layers, self.spec, self.finding = layers, spec, finding

    def decode(self, z) -> np.ndarray:
        """What the page draws for the codes z (n, 2): values in 0..1, (n, pixels), from the rounded weights."""
        x = np.atleast_2d(np.asarray(z, dtype=float))
        for k, layer in enumerate(self.layers):
            rounded = np.frombuffer(base64.b64decode(layer["data"]), "<i2").reshape(layer["rows"], layer["columns"])
            w = rounded * layer["scale"]
            x = (np.maximum(x, 0) if k else x) @ w[:-1] + w[-1]
        return 1 / (1 + np.exp(-x))

    def sheet(self, n: int = 9) -> np.ndarray:
        """All images on a grid of n x n codes as one picture, z2 upwards: (n (side + 1), same) values in 0..1."""
        at = np.linspace(-self.spec["reach"], self.spec["reach"], n)
        side = self.spec["side"]
        images = self.decode([(x, y) for y in at[::-1] for x in at]).reshape(n, n, side, side)
        framed = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.4)
        return framed.swapaxes(1, 2).reshape(n * (side + 1), n * (side + 1))

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        pixels = np.kron(np.round(255 * self.sheet()), np.ones((4, 4))).astype(np.uint8)
        Image.fromarray(pixels).quantize(16).save(out, "png", optimize=True)
        return out.getvalue()

    def _repr_html_(self) -> str:
        tag = "vae-decoder-" + hashlib.sha256((PAGE + SHEET).encode()).hexdigest()[:8]
        spec = json.dumps({**self.spec, "layers": self.layers, "css": SHEET % {"tag": tag}}, separators=(",", ":"))
        image = base64.b64encode(self._repr_png_()).decode()
        alt = f"A sheet of images decoded from codes on a grid, z1 to the right, z2 upwards. {self.finding}"
        says = f"{self.finding} The sliders need JavaScript; in a notebook, run the cell. {self.spec['note']}"
        return (
            f'<{tag} data-spec="{html.escape(spec)}"><figure style="margin:0"><img src="data:image/png;base64,{image}" '
            f'alt="{html.escape(alt)}" style="max-width:100%;height:auto"><figcaption>{html.escape(says)}</figcaption>'
            f"</figure></{tag}>\n<script>{PAGE % {'tag': tag}}</script>"
        )

    def __repr__(self) -> str:
        return f"<{self.spec['title']}. {self.finding}>"


def latent_explorer(
    model: VAEs, points: Tensor, labels: Tensor, names: Sequence[str], *, title: str, finding: str, note: str = "",
    reach: float = 3.0, start=(0.0, 0.0),
) -> LatentExplorer:  # fmt: skip
    """Two sliders through the plane of codes of a trained VAE, decoded in the page.

    model : `train_vaes` of one network with two codes, of square images; points (n, 2), labels (n,): codes of known
    images and their classes, drawn as the `names` of these; reach : the codes go from -reach to reach. The weights
    travel as 16 bit numbers, each layer with its biases as the last row. Raises ValueError for another model.
    """
    if model.k != 2 or len(model.decoder.weights[0]) != 1 or math.isqrt(model.d) ** 2 != model.d or not model.squash:
        raise ValueError("model must be one VAE with two codes for square images; train_vaes(x, betas=[1], seeds=1).")
    layers = []
    for w, b in zip(model.decoder.weights, model.decoder.biases, strict=True):
        both = torch.cat([w[0], b[0]]).detach().double().numpy()
        scale = float(np.abs(both).max() / 32767) or 1.0
        data = base64.b64encode(np.round(both / scale).astype("<i2").tobytes()).decode()
        layers.append({"data": data, "rows": both.shape[0], "columns": both.shape[1], "scale": scale})
    inside = points.abs().amax(1) < reach
    kept = zip(points[inside].tolist(), labels[inside].tolist(), strict=True)
    placed = [[round(x, 2), round(y, 2), c] for (x, y), c in kept]
    spec = {"reach": reach, "side": math.isqrt(model.d), "start": list(start), "title": title, "note": note}
    spec |= {"points": placed, "names": list(names)}
    spec["map"] = "The plane of codes, with the class of each encoded image at its place; the lines cross at your code."
    return LatentExplorer(layers, spec | {"mapped": "the codes of known images, by class"}, finding)
