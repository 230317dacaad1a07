(() => {
if (customElements.get("TAG")) return;
const STYLE = `
TAG { display: block; font-family: inherit; }
TAG .dr-row { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
TAG canvas.dr-pad { width: 280px; max-width: 100%; aspect-ratio: 1; background: #fff; border: 2px solid #777; border-radius: 6px;
  touch-action: none; cursor: crosshair; }
TAG canvas.dr-pad:focus-visible { outline: 3px solid #1c95d9; outline-offset: 2px; }
TAG canvas.dr-small { width: 84px; height: 84px; image-rendering: pixelated; border: 1px solid #777; }
TAG canvas.dr-maps { max-width: 100%; image-rendering: pixelated; border: 1px solid #777; }
TAG ol { list-style: none; margin: 0; padding: 0; width: 15rem; max-width: 100%; font-variant-numeric: tabular-nums; }
TAG li { display: grid; grid-template-columns: 1.4rem 1fr 4.4rem; gap: .4rem; align-items: center; line-height: 1.5; margin: 0; }
TAG li b { text-align: center; } TAG li.dr-best b { outline: 2px solid currentColor; border-radius: 4px; }
TAG .dr-bar { height: .8rem; border: 1px solid color-mix(in srgb, currentColor 45%, transparent); border-radius: 3px; overflow: hidden; }
TAG .dr-bar i { display: block; height: 100%; background: #0072b2; } TAG li span:last-child { text-align: right; white-space: nowrap; }
TAG .dr-tools { display: flex; flex-wrap: wrap; gap: .4rem; margin: .6rem 0; align-items: center; max-width: 46rem; }
TAG button, TAG select { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 5px;
  padding: .15rem .6rem; min-height: 2rem; min-width: 2rem; cursor: pointer; }
TAG select option { color: #111; background: #fff; }
TAG p { margin: .4rem 0; max-width: 46rem; } TAG .dr-help { font-size: .86em; }`;
const LAYERS = ["C1", "S2", "C3", "S4"];
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// --- the network: five layers, plain loops
function unpack(l) {
  const q = new Int8Array(bytes(l.weight).buffer), units = l.shape[0], per = q.length / units;
  return { w: Float32Array.from(q, (v, i) => v * l.scale[Math.floor(i / per)]), b: l.bias, units, per, inputs: l.shape[1] };
}
function convolve(x, side, layer, padding) {  // x: maps of side*side; a 5x5 convolution and ReLU
  const out = side + 2 * padding - 4, y = new Float32Array(layer.units * out * out);
  for (let k = 0; k < layer.units; k++) for (let r = 0; r < out; r++) for (let c = 0; c < out; c++) {
    let sum = layer.b[k];
    for (let m = 0; m < layer.inputs; m++) for (let i = 0; i < 5; i++) {
      const row = r + i - padding;
      if (row < 0 || row >= side) continue;
      for (let j = 0; j < 5; j++) {
        const col = c + j - padding;
        if (col >= 0 && col < side) sum += layer.w[k * layer.per + m * 25 + i * 5 + j] * x[m * side * side + row * side + col];
      }
    }
    y[(k * out + r) * out + c] = Math.max(sum, 0);
  }
  return [y, out];
}
function pool(x, side, kind) {
  const out = side >> 1, maps = x.length / side / side, y = new Float32Array(maps * out * out);
  for (let m = 0; m < maps; m++) for (let r = 0; r < out; r++) for (let c = 0; c < out; c++) {
    const p = (m * side + 2 * r) * side + 2 * c, four = [x[p], x[p + 1], x[p + side], x[p + side + 1]];
    y[(m * out + r) * out + c] = kind === "max" ? Math.max(...four) : (four[0] + four[1] + four[2] + four[3]) / 4;
  }
  return [y, out];
}
function dense(x, layer, relu) {
  return Float32Array.from({ length: layer.units }, (_, k) => {
    let sum = layer.b[k];
    for (let i = 0; i < layer.per; i++) sum += layer.w[k * layer.per + i] * x[i];
    return relu ? Math.max(sum, 0) : sum;
  });
}
function network(spec) {
  const [c1, c3, c5, f6, last] = spec.layers.map(unpack);
  return (pixels) => {  // 28x28 values of 0..255, ink is bright: {logits, p, maps}
    let x = Float32Array.from(pixels, (v) => (v - spec.mean) / spec.sd), side = 28;
    const maps = {};
    [x, side] = convolve(x, side, c1, 2); maps.C1 = [x, side];
    [x, side] = pool(x, side, spec.pool); maps.S2 = [x, side];
    [x, side] = convolve(x, side, c3, 0); maps.C3 = [x, side];
    [x, side] = pool(x, side, spec.pool); maps.S4 = [x, side];
    const logits = dense(dense(dense(x, c5, true), f6, true), last, false), top = Math.max(...logits);
    const e = Array.from(logits, (v) => Math.exp(v - top)), all = e.reduce((a, b) => a + b, 0);
    return { logits: Array.from(logits), p: e.map((v) => v / all), maps };
  };
}

// --- from strokes to 28x28 pixels, as MNIST was made: the drawing scaled into 20x20, its centre of mass in the middle
const SIZE = 280, PEN = 22;
function paint(context, strokes, colour) {
  Object.assign(context, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: colour });
  for (const s of strokes) {
    context.beginPath(); context.moveTo(...s[0]);
    for (const p of s.length > 1 ? s.slice(1) : [[s[0][0] + .1, s[0][1]]]) context.lineTo(...p);
    context.stroke();
  }
}
function surface(side) {
  const c = document.createElement("canvas"); c.width = c.height = side;
  return c.getContext("2d", { willReadFrequently: true });
}
function scaled(strokes) {
  if (!strokes.length) return new Uint8Array(784);
  const xs = strokes.flat().map((p) => p[0]), ys = strokes.flat().map((p) => p[1]);
  const left = Math.min(...xs) - PEN / 2, top = Math.min(...ys) - PEN / 2;
  const wide = Math.max(...xs) - left + PEN / 2, tall = Math.max(...ys) - top + PEN / 2, longest = Math.max(wide, tall);
  // four times too large first, then averaged, so that thin lines do not break up
  const big = surface(112), k = 80 / longest;
  const draw = (dx, dy) => {
    big.setTransform(1, 0, 0, 1, 0, 0); big.clearRect(0, 0, 112, 112);
    big.setTransform(k, 0, 0, k, dx - left * k, dy - top * k); paint(big, strokes, "#fff");
    return big.getImageData(0, 0, 112, 112).data;
  };
  let data = draw(16, 16), mass = 0, mx = 0, my = 0;
  for (let i = 0; i < 112 * 112; i++) { const a = data[4 * i + 3]; mass += a; mx += a * (i % 112 + .5); my += a * (Math.floor(i / 112) + .5); }
  const place = (centre, size) => Math.max(0, Math.min(112 - k * size, 16 + 56 - centre));  // and not over the edge
  data = draw(place(mx / mass, wide), place(my / mass, tall));
  return Uint8Array.from({ length: 784 }, (_, i) => {
    let sum = 0;
    for (let r = 0; r < 4; r++) for (let c = 0; c < 4; c++) sum += data[4 * ((Math.floor(i / 28) * 4 + r) * 112 + (i % 28) * 4 + c) + 3];
    return Math.round(sum / 16);
  });
}

const sheet = document.createElement("style"); sheet.textContent = STYLE; document.head.append(sheet);
customElements.define("TAG", class extends HTMLElement {
  connectedCallback() {
    if (this.started) return;
    this.started = true;
    const spec = JSON.parse(this.dataset.spec);
    this.read = network(spec);
    this.strokes = []; this.pixels = new Uint8Array(784); this.pen = [SIZE / 2, SIZE / 2]; this.down = false;
    const digits = [...Array(10).keys()];
    this.innerHTML = `<div class="dr-row"><div><canvas class="dr-pad" width="${SIZE}" height="${SIZE}" tabindex="0" role="application"
      aria-label="Field to draw a digit on. Arrow keys move the pen, space sets it down or lifts it, Delete clears."></canvas></div>
      <div><ol aria-label="Probability of each digit">${digits.map((d) => `<li><b>${d}</b><span class="dr-bar" aria-hidden="true"><i></i></span><span></span></li>`).join("")}</ol></div>
      <div><canvas class="dr-small" width="28" height="28" role="img" aria-label="The 28 by 28 pixels that the network gets"></canvas><p class="dr-help">what the<br>network gets</p></div></div>
      <p role="status" class="dr-said"></p>
      <div class="dr-tools"><button type="button" class="dr-clear">Clear</button><span>Draw an example:</span>
      ${digits.map((d) => `<button type="button" class="dr-example" aria-label="Draw an example of ${d}">${d}</button>`).join("")}</div>
      <div class="dr-tools"><label>Show what layer <select class="dr-layer">${LAYERS.map((l) => `<option>${l}</option>`).join("")}</select> makes of it</label></div>
      <canvas class="dr-maps" role="img"></canvas>
      <p class="dr-help">Draw with the mouse, a finger, or the keyboard: arrow keys move the pen, space sets it down and lifts it, Delete clears.</p>`;
    this.pad = this.querySelector(".dr-pad");
    const at = (e) => { const b = this.pad.getBoundingClientRect(); return [(e.clientX - b.left) / b.width * SIZE, (e.clientY - b.top) / b.height * SIZE]; };
    this.pad.addEventListener("pointerdown", (e) => { this.pad.setPointerCapture(e.pointerId); this.fresh(); this.keyed = false; this.strokes.push([at(e)]); this.drawing = true; this.update(); });
    this.pad.addEventListener("pointermove", (e) => { if (this.drawing) { this.strokes.at(-1).push(at(e)); this.update(); } });
    for (const end of ["pointerup", "pointercancel"]) this.pad.addEventListener(end, () => { this.drawing = false; });
    this.pad.addEventListener("keydown", (e) => this.key(e));
    this.pad.addEventListener("focus", () => this.show());
    this.pad.addEventListener("blur", () => { this.down = false; this.show(); });
    this.querySelector(".dr-clear").addEventListener("click", () => this.clear());
    this.querySelectorAll(".dr-example").forEach((b, d) => b.addEventListener("click", () => this.example(bytes(spec.examples[d]))));
    this.querySelector(".dr-layer").addEventListener("change", () => this.show());
    this.example(bytes(spec.examples[7]));
    this.dataset.live = "";
  }
  fresh() { if (this.shown) { this.shown = null; this.strokes = []; } }
  clear() { this.strokes = []; this.shown = null; this.down = false; this.update(); }
  example(pixels) { this.strokes = []; this.down = false; this.shown = pixels; this.update(); }
  key(e) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (step) {
      this.pen = this.pen.map((v, i) => Math.max(PEN, Math.min(SIZE - PEN, v + 14 * step[i])));
      if (this.down) this.strokes.at(-1).push([...this.pen]);
    } else if (e.key === " ") {
      this.down = !this.down;
      if (this.down) { this.fresh(); this.strokes.push([[...this.pen]]); }
    } else if (e.key === "Delete" || e.key === "Backspace") this.clear();
    else return;
    this.keyed = true;
    e.preventDefault(); e.stopPropagation(); this.update();
  }
  update() {
    this.pixels = this.shown || scaled(this.strokes);
    this.empty = !this.shown && !this.strokes.length;
    this.result = this.read(this.pixels);
    this.show();
  }
  show() {
    const c = this.pad.getContext("2d");
    c.clearRect(0, 0, SIZE, SIZE);
    if (this.shown) { const small = this.image(28, this.shown, true); c.imageSmoothingEnabled = false; c.drawImage(small, 0, 0, SIZE, SIZE); }
    paint(c, this.strokes, "#111");
    if (document.activeElement === this.pad && this.keyed !== false) {
      Object.assign(c, { lineWidth: 3, strokeStyle: this.down ? "#d55e00" : "#0072b2" });
      c.beginPath(); c.arc(...this.pen, 9, 0, 7); c.moveTo(this.pen[0] - 16, this.pen[1]); c.lineTo(this.pen[0] + 16, this.pen[1]);
      c.moveTo(this.pen[0], this.pen[1] - 16); c.lineTo(this.pen[0], this.pen[1] + 16); c.stroke();
    }
    this.querySelector(".dr-small").getContext("2d").drawImage(this.image(28, this.pixels, false), 0, 0);
    const p = this.result.p, best = p.indexOf(Math.max(...p));
    this.querySelectorAll("li").forEach((li, d) => {
      li.classList.toggle("dr-best", !this.empty && d === best);
      li.querySelector("i").style.width = this.empty ? 0 : `${100 * p[d]}%`;
      li.lastElementChild.textContent = this.empty ? "" : `${(100 * p[d]).toFixed(1)} %`;
    });
    const said = this.empty ? "Draw a digit." : `It reads ${best}, with a probability of ${(100 * p[best]).toFixed(0)} %.`;
    const status = this.querySelector(".dr-said");
    if (status.textContent !== said) status.textContent = said;
    const name = this.querySelector(".dr-layer").value, [x, side] = this.result.maps[name], n = x.length / side / side;
    const wide = name[1] < 3 ? n : n / 2, gap = 1, canvas = this.querySelector(".dr-maps");
    canvas.width = wide * (side + gap) + gap; canvas.height = Math.ceil(n / wide) * (side + gap) + gap;
    const scale = { C1: 3, S2: 4, C3: 6, S4: 9 }[name];
    canvas.style.width = `${scale * canvas.width}px`;
    const m = canvas.getContext("2d"), top = Math.max(...x, 1e-9);
    m.fillStyle = "#777"; m.fillRect(0, 0, canvas.width, canvas.height);
    for (let k = 0; k < n; k++) {
      const one = Uint8Array.from(x.slice(k * side * side, (k + 1) * side * side), (v) => 255 * Math.max(v, 0) / top);
      m.drawImage(this.image(side, one, false), gap + (k % wide) * (side + gap), gap + Math.floor(k / wide) * (side + gap));
    }
    canvas.setAttribute("aria-label", `${name}: ${n} maps of ${side} by ${side} values; bright is a large value`);
  }
  image(side, values, dark) {  // a grey picture; with `dark` as ink on paper
    const c = surface(side), d = c.createImageData(side, side);
    for (let i = 0; i < side * side; i++) { const v = dark ? 255 - values[i] : values[i]; d.data.set([v, v, v, 255], 4 * i); }
    c.putImageData(d, 0, 0);
    return c.canvas;
  }
});
})();
