// The explorer's front end: one module, no dependency, no network, no eval.
// Contract: anywidget's `export default { render({ model, el }) }`. A page passes `page: true` and a model
// that only answers get("spec"); a notebook's widget also has the trait "choice", {column: value}.
const NS = "http://www.w3.org/2000/svg";
const put = (e, attrs) => {
  for (const [k, v] of Object.entries(attrs)) if (v !== undefined && v !== null) k === "text" ? (e.textContent = v) : e.setAttribute(k, v);
  return e;
};
const node = (tag, attrs = {}, ...kids) => { const e = put(document.createElement(tag), attrs); e.append(...kids); return e; };
const shape = (tag, attrs = {}, ...kids) => { const e = put(document.createElementNS(NS, tag), attrs); e.append(...kids); return e; };

// ---- numbers ----

const finite = Number.isFinite;
function unpack(field) {  // as decode in packing.py: NaN = no row, Infinity = a row without a finite value
  const raw = atob(field.data), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const view = new DataView(bytes.buffer), wide = field.type === "f4", n = raw.length / (wide ? 4 : 2), out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    if (wide) { out[i] = view.getFloat32(i * 4, true); continue; }
    const q = view.getInt16(i * 2, true), v = field.low + (q + 32766) * field.step;
    out[i] = q === -32768 ? NaN : q === -32767 ? Infinity : field.log ? 10 ** v : v;
  }
  return out;
}
const signed = (t) => t.replace(/^-(?=0(\.0*)?$)/, "").replace(/^-/, "−");  // a minus sign, and none before a zero
const short = (v, d = 3) => {
  if (!finite(v)) return "–";
  const a = Math.abs(v), t = a && (a < 1e-4 || a >= 1e6) ? (+v.toPrecision(d)).toExponential().replace("e+", "e") : String(+v.toPrecision(d));
  return signed(t);
};
const number = (v, digits) => (!finite(v) ? "–" : digits === null || digits === undefined ? short(v) : signed(v.toFixed(digits)));
const tickText = (v) => (Math.abs(v) >= 1e4 && Math.abs(v) < 1e6 ? short(v / 1000, 6) + "k" : short(v, 6));
function ticks([lo, hi], log, n, whole = false) {
  const out = [];
  if (log) {
    const a = Math.log10(lo), b = Math.log10(hi), every = Math.max(1, Math.ceil((b - a) / n)), in_ = b - a < 1.3 ? [1, 2, 5] : b - a < 2.2 && n > 4 ? [1, 3] : [1];
    for (let p = Math.floor(a); p <= b; p++) if (p % every === 0) for (const m of in_) if (m * 10 ** p >= lo * 0.9999 && m * 10 ** p <= hi * 1.0001) out.push(m * 10 ** p);
    if (out.length > 1) return out;
    out.length = 0;
  }
  const raw = (hi - lo) / n, p = 10 ** Math.floor(Math.log10(raw)), m = raw / p, step = (m <= 1 ? 1 : m <= 2 ? 2 : m <= 2.5 && (!whole || p > 1) ? 2.5 : m <= 5 ? 5 : 10) * p;
  if (whole && step < 1) return ticks([lo, hi], log, Math.max(1, Math.floor(hi - lo)));
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) out.push(+(i * step).toPrecision(10));
  return out;
}
const scaler = ([lo, hi], log, a, b) => {
  const f = log ? Math.log10 : (v) => v, l = f(lo), k = (b - a) / (f(hi) - l);
  return (v) => (log && !(v > 0) ? NaN : a + (f(v) - l) * k);
};

// ---- the look of a line: a colour, and also its own dashes and marker ----

const DASHES = ["", "8 4", "2 3", "10 3 2 3", "6 3 2 3 2 3", "14 5", "1 3 6 3"];
const R = (v) => Math.round(v * 100) / 100;
const poly = (x, y, pts) => "M" + pts.map(([a, b]) => `${R(x + a)} ${R(y + b)}`).join("L") + "Z";
const MARKERS = [
  (x, y, r) => `M${R(x - r)} ${R(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (x, y, r) => poly(x, y, [[-r, -r], [r, -r], [r, r], [-r, r]].map(([a, b]) => [a * 0.9, b * 0.9])),
  (x, y, r) => poly(x, y, [[0, -1.2 * r], [1.15 * r, 0.9 * r], [-1.15 * r, 0.9 * r]]),
  (x, y, r) => poly(x, y, [[0, -1.3 * r], [1.3 * r, 0], [0, 1.3 * r], [-1.3 * r, 0]]),
  (x, y, r) => poly(x, y, [[0, 1.2 * r], [1.15 * r, -0.9 * r], [-1.15 * r, -0.9 * r]]),
  (x, y, r) => poly(x, y, [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]].map(([a, b]) => [a * r, b * r])),
  (x, y, r) => poly(x, y, [[0, -0.55], [0.75, -1.3], [1.3, -0.75], [0.55, 0], [1.3, 0.75], [0.75, 1.3], [0, 0.55], [-0.75, 1.3], [-1.3, 0.75], [-0.55, 0], [-1.3, -0.75], [-0.75, -1.3]].map(([a, b]) => [a * r, b * r])),
];
const look = (i) => ({ cls: `rx-c${i % 7}`, dash: DASHES[(i + Math.floor(i / 7) * 3) % 7], mark: MARKERS[(i + Math.floor(i / 7)) % 7] });
function swatch(i, kind, pinned) {
  const s = look(i), wide = kind === "dot" ? 14 : 34;
  const e = shape("svg", { class: "rx-swatch " + (pinned ? "rx-pinned" : s.cls), viewBox: `0 0 ${wide} 14`, width: wide, height: 14, "aria-hidden": "true" });
  if (kind === "bar") e.append(shape("path", { class: "rx-area", d: "M2 13V5H18V2H32V13Z" }), shape("path", { class: "rx-mean", "stroke-dasharray": s.dash, d: "M2 13V5H18V2H32V13" }));
  else if (kind !== "dot") e.append(shape("path", { class: "rx-mean", "stroke-dasharray": pinned ? "4 3" : s.dash, d: "M1 7H33" }));
  if (kind !== "bar") e.append(shape("path", { class: "rx-mark", d: s.mark(wide / 2, 7, kind === "dot" ? 5 : 4) }));
  return e;
}

// ---- the setting in the address, #<id>=column:index,… (a frame may refuse: then there is no link) ----

const inLab = () => !!document.getElementById("jupyter-config-data");
function readLink(id) {
  try {
    const mine = location.hash.slice(1).split("&").find((t) => t.startsWith(id + "="));
    if (!mine) return null;
    const found = {};
    for (const item of mine.slice(id.length + 1).split(",")) {
      const [key, value, ...more] = item.split(":");
      try { if (value !== undefined && !more.length) found[decodeURIComponent(key)] = value; } catch { /* not ours */ }
    }
    return found;
  } catch { return null; }
}
function linkWith(id, items) {
  const others = location.hash.slice(1).split("&").filter((t) => t.includes("=") && !t.startsWith(id + "="));
  const mine = Object.entries(items).map(([k, v]) => `${encodeURIComponent(k)}:${v}`).join(",");
  return "#" + [...others, `${id}=${mine}`].join("&");
}
const firstHash = (() => { try { return location.hash; } catch { return ""; } })();
let written = { id: "", time: 0 };
function writeLink(id, items) {  // one step back for each move of the reader, not for each notch of a slider
  try {
    const hash = linkWith(id, items), again = written.id === id && Date.now() - written.time < 1500;
    if (hash === location.hash) return;
    if (again) history.replaceState(history.state, "", hash); else history.pushState(null, "", hash);
    written = { id, time: Date.now() };
  } catch { /* a sandboxed frame */ }
}
async function copied(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { return false; }
}

let count = 0;

function render({ model, el, page = false }) {
  const S = model.get("spec"), uid = `${S.id}-${++count}${Math.random().toString(36).slice(2, 6)}`;
  const C = S.controls, names = S.color ? S.color.names : [""], lines = names.map((_, i) => i), P = S.points;
  const reps = S.band ? S.band.n : 1, data = S.fields.map(unpack), kind = S.kind;
  const bandName = S.band ? S.band.label : "", many = reps > 1;
  const plural = (n) => `${n} ${bandName}${n === 1 ? "" : "s"}`;
  const home = () => ({ at: [...S.start], hidden: new Set(), axis: 0, each: false });
  let now = home(), pin = null, memo = new Map();

  // ---- what a state shows: for each line and y, the mean, the range and every replicate ----
  function series(at, line, yi, axis) {
    const key = [at, line, yi, axis].join("|");
    if (memo.has(key)) return memo.get(key);
    if (memo.size > 600) memo = new Map();
    let cell = 0;
    for (let i = 0; i < C.length; i++) cell = cell * S.shape[i] + at[i];
    cell = (cell * lines.length + line) * reps;
    const X = S.x[axis], y = data[S.y[yi].field], x = X.values ? null : data[X.field];
    const s = { x: [], mean: [], lo: [], hi: [], n: [], lost: [], last: -1, any: false, end: -1, runs: 0, each: Array.from({ length: reps }, () => []) };
    const alive = new Set();
    for (let p = 0; p < P; p++) {
      let n = 0, sum = 0, lo = Infinity, hi = -Infinity, lost = 0, nx = 0, sx = 0;
      for (let r = 0; r < reps; r++) {
        const o = (cell + r) * P + p, v = y[o], u = x ? x[o] : X.values[p];
        if (finite(u)) { nx++; sx += u; }
        if (!Number.isNaN(v)) alive.add(r);
        if (finite(v)) { n++; sum += v; lo = Math.min(lo, v); hi = Math.max(hi, v); s.each[r].push(finite(u) ? [u, v] : null); }
        else { if (v === Infinity) lost++; s.each[r].push(null); }
      }
      s.x.push(nx ? sx / nx : NaN); s.mean.push(n ? sum / n : NaN); s.lo.push(n ? lo : NaN); s.hi.push(n ? hi : NaN); s.n.push(n); s.lost.push(lost);
      if (n) s.last = p;
      if (n || lost) { s.any = true; s.end = p; }
    }
    s.runs = alive.size;
    memo.set(key, s);
    return s;
  }
  const settings = (at) => C.map((c, i) => `${c.label} ${c.names[at[i]]}`).join(", ");
  const drawnLines = () => lines.filter((i) => !now.hidden.has(i));
  const xText = (X, v, p) => (X.names ? X.names[p] : X.values ? short(v, 6) : number(v, X.digits));

  // ---- controls: native form elements, so that keyboards and screen readers work ----
  const form = node("form", { class: "rx-form", autocomplete: "off", "aria-label": `${S.title}: settings` }), sync = [];
  form.addEventListener("submit", (e) => e.preventDefault());
  const grid = node("div", { class: "rx-controls" });
  C.forEach((c, i) => {
    const id = `${uid}-${i}`, name = node("label", { for: id, text: c.label });
    let input;
    if (c.type === "range") {
      input = node("input", { type: "range", id, min: 0, max: c.names.length - 1, step: 1, "data-column": c.column });
      const out = node("output", { for: id, "aria-hidden": "true" });  // the input says it itself: aria-valuetext
      grid.append(node("div", { class: "rx-control rx-slide" }, node("div", { class: "rx-head" }, name, out), input,
        node("div", { class: "rx-ends", "aria-hidden": "true" }, node("span", { text: c.names[0] }), node("span", { text: c.names.at(-1) }))));
      sync.push(() => { input.value = now.at[i]; out.textContent = c.names[now.at[i]]; input.setAttribute("aria-valuetext", c.names[now.at[i]]); });
    } else {
      input = node("select", { id, "data-column": c.column }, ...c.names.map((t, v) => node("option", { value: v, text: t })));
      grid.append(node("div", { class: "rx-control" }, node("div", { class: "rx-head" }, name), input));
      sync.push(() => { input.value = now.at[i]; });
    }
    if (c.names.length < 2) input.disabled = true;
    input.addEventListener("input", () => { now.at[i] = +input.value; changed(); });
  });
  if (C.length) form.append(grid);
  const legend = node("fieldset", { class: "rx-legend" });
  if (S.color) {
    legend.append(node("legend", { text: S.color.label }));
    for (const i of lines) {
      const box = node("input", { type: "checkbox", "data-line": i });
      box.addEventListener("input", () => { box.checked ? now.hidden.delete(i) : now.hidden.add(i); changed(); });
      legend.append(node("label", { class: "rx-chip" }, box, swatch(i, kind), node("span", { text: names[i] })));
      sync.push(() => { box.checked = !now.hidden.has(i); });
    }
    form.append(legend);
  }
  const tools = node("div", { class: "rx-tools" });
  const pinner = node("button", { type: "button", class: "rx-pin" });
  pinner.addEventListener("click", () => { pin = pin ? null : [...now.at]; layout(); update(); });
  if (C.length) tools.append(pinner);
  let eachBox = null;
  if (many && kind !== "bar") {
    eachBox = node("input", { type: "checkbox", class: "rx-each-box" });
    eachBox.addEventListener("input", () => { now.each = eachBox.checked; changed(); });
    tools.append(node("label", { class: "rx-chip rx-plain" }, eachBox, node("span", { text: `each ${bandName}` })));
    sync.push(() => { eachBox.checked = now.each; });
  }
  if (S.x.length > 1) {
    const id = `${uid}-axis`, pick = node("select", { id, class: "rx-axis" }, ...S.x.map((a, i) => node("option", { value: i, text: a.label })));
    pick.addEventListener("input", () => { now.axis = +pick.value; layout(); changed(); });
    tools.append(node("div", { class: "rx-inline" }, node("label", { for: id, text: "x axis" }), pick));
    sync.push(() => { pick.value = now.axis; });
  }
  const linker = node("button", { type: "button", class: "rx-link", text: "Copy link" });
  const linkNote = node("p", { class: "rx-linknote", "aria-live": "polite" });
  linker.addEventListener("click", async () => {
    const address = location.href.split("#")[0] + linkWith(S.id, linkItems());
    if (await copied(address)) linkNote.textContent = "The link to this setting is copied.";
    else linkNote.replaceChildren("Copy this link to the setting: ", node("a", { href: address, text: address }));
  });
  if (page && C.length && !inLab() && location.protocol !== "about:") tools.append(linker);
  const pinNote = node("p", { class: "rx-pinnote" });

  // ---- panels ----
  const panels = node("div", { class: "rx-panels" });
  const views = S.y.map((y, yi) => {
    const id = `${uid}-p${yi}`, svg = shape("svg", { role: "img", "aria-labelledby": id }), tip = node("div", { class: "rx-tip", "aria-hidden": "true" });
    const box = node("div", { class: "rx-panel" }, svg, tip);
    panels.append(box);
    const view = { y, yi, id, svg, tip, box };
    if (kind === "line" || kind === "bar") {
      svg.addEventListener("pointermove", (e) => hover(view, e));
      svg.addEventListener("pointerdown", (e) => hover(view, e));
      svg.addEventListener("pointerleave", () => { tip.style.display = "none"; view.guide?.replaceChildren(); });
    }
    return view;
  });
  const backdrop = () => {
    const b = S.background;
    return b ? b.pictures[b.control === null ? "all" : String(now.at[b.control])] ?? b.pictures.all ?? null : null;
  };
  const wide = (text) => [...text].reduce((w, c) => w + (/[il.,:;|' ]/.test(c) ? 3.6 : /[mwMW%@]/.test(c) ? 10.4 : 7), 0);

  // frame and axes: drawn once for a width, not for each state
  let width = 0;
  function layout() {
    width = Math.round(panels.clientWidth) || 640;
    const across = Math.max(1, Math.min(S.y.length, Math.floor(width / 300))), w = Math.floor((width - (across - 1) * 16) / across);
    panels.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
    const X = S.x[now.axis], b = backdrop();
    for (const v of views) {
      const h = Math.round(Math.min(Math.max(w * (kind === "path" ? 0.75 : across > 1 ? 0.72 : 0.54), across > 1 ? 220 : 260), kind === "path" ? 520 : 400));
      const xlim = b ? b.extent.slice(0, 2) : X.lim, ylim = b ? b.extent.slice(2) : v.y.lim;
      const yt = ticks(ylim, v.y.log, Math.max(3, Math.floor(h / 60))), ytext = yt.map(tickText);
      const left = Math.ceil(Math.max(...ytext.map(wide), 12)) + 12;
      const most = Math.max(...v.y.lim.map((t) => wide(number(t, v.y.digits)))) + 6;
      const tags = names.map((n) => wide((pin ? "pinned: " : "") + n) + most + 20);
      v.tags = S.color && kind === "line" && w >= 440 && Math.max(...tags) < w * 0.32 && names.length * (pin ? 2 : 1) * 15 < h - 60;
      const right = v.tags ? Math.ceil(Math.max(...tags)) : 14;
      let low = 46, slant = false;
      const pw = w - left - right;
      let xt = ticks(xlim, X.log, Math.max(2, Math.floor(pw / 70)), !!X.values && X.values.every(Number.isInteger));
      if (X.names) {
        xt = X.values;
        const longest = Math.max(...X.names.map(wide));
        slant = longest > pw / X.names.length - 6;
        if (slant) low = Math.min(110, 40 + longest * 0.62);
      }
      const top = 30, ph = h - 46 - top;
      v.at = { left, top, pw, ph, w, h: top + ph + low };
      v.X = scaler(xlim, X.log, left, left + pw);
      v.Y = scaler(ylim, v.y.log, top + ph, top);
      v.svg.setAttribute("viewBox", `0 0 ${w} ${v.at.h}`);
      v.svg.setAttribute("data-plot", [left, top, pw, ph].join(" "));
      v.title = shape("title", { id: v.id });
      const clip = shape("clipPath", { id: v.id + "c" }, shape("rect", { x: left - 1, y: top - 1, width: pw + 2, height: ph + 2 }));
      const frame = shape("g", { "aria-hidden": "true" });
      v.image = shape("g", { "clip-path": `url(#${v.id}c)` });
      yt.forEach((t, i) => frame.append(shape("line", { class: b ? "rx-none" : "rx-grid", x1: left, x2: left + pw, y1: R(v.Y(t)), y2: R(v.Y(t)) }),
        shape("text", { x: left - 7, y: R(v.Y(t)) + 4, "text-anchor": "end", text: ytext[i] })));
      let reach = -99;
      xt.forEach((t, i) => {
        const px = R(v.X(t)), text = X.names ? X.names[i] : tickText(t), half = wide(text) / 2;
        frame.append(shape("line", { class: "rx-tick", x1: px, x2: px, y1: top + ph, y2: top + ph + 4 }));
        if (slant) { frame.append(shape("text", { x: px + 4, y: top + ph + 16, "text-anchor": "end", transform: `rotate(-40 ${px + 4} ${top + ph + 16})`, text })); return; }
        if (px - half < reach + 6 || px + half > w + 8) return;
        reach = px + half;
        frame.append(shape("text", { x: Math.min(px, w - half - 1), y: top + ph + 18, "text-anchor": "middle", text }));
      });
      frame.append(shape("line", { class: "rx-base", x1: left, x2: left + pw, y1: top + ph, y2: top + ph }),
        shape("text", { class: "rx-name", x: 2, y: 15, text: v.y.label }),
        shape("text", { class: "rx-xname", x: left + pw / 2, y: v.at.h - 6, "text-anchor": "middle", text: X.label }));
      v.marks = shape("g", { "clip-path": `url(#${v.id}c)` });
      v.over = shape("g");
      v.guide = shape("g", { "aria-hidden": "true" });
      v.svg.replaceChildren(v.title, shape("defs", {}, clip), v.image, frame, v.marks, v.over, v.guide);
      v.tip.style.display = "none";
    }
  }

  const joined = (points) => {  // a line with gaps where a value is missing
    let d = "", pen = false;
    for (const p of points) { if (!p) { pen = false; continue; } d += `${pen ? "L" : "M"}${R(p[0])} ${R(p[1])}`; pen = true; }
    return d;
  };
  const pieces = (list) => {
    const out = []; let run = [];
    for (const p of list) { if (p) run.push(p); else if (run.length) { out.push(run); run = []; } }
    return run.length ? [...out, run] : out;
  };
  function edges(xs) {  // bin borders in pixels: half way between the centres
    const mid = xs.slice(1).map((x, i) => (x + xs[i]) / 2), w = xs.length > 1 ? mid[0] - xs[0] : 10;
    return [xs[0] - w, ...mid, xs.at(-1) + (xs.length > 1 ? xs.at(-1) - mid.at(-1) : 10)];
  }
  function drawLine(v, line, at, pinned, ends) {
    const s = series(at, line, v.yi, now.axis), k = look(line), cls = pinned ? "rx-pinned" : k.cls, dash = pinned ? "4 3" : k.dash;
    const X = (u) => v.X(u), Y = (u) => v.Y(u);
    const pts = s.mean.map((m, p) => { const a = X(s.x[p]), b = Y(m); return finite(a) && finite(b) ? [a, b, p] : null; });
    const there = pts.filter(Boolean), g = shape("g", { class: cls, "data-line": line, "data-pinned": pinned ? 1 : null });
    if (!there.length) return;
    const path = (c, d, more = {}) => g.append(shape("path", { class: c, d, ...more }));
    v.marks.append(g);
    if (kind === "bar") {
      const e = edges(there.map((p) => p[0])), zero = v.at.top + v.at.ph;
      const steps = (f) => there.map((p, i) => `${R(e[i])} ${R(f(p))}L${R(e[i + 1])} ${R(f(p))}`).join("L");
      const back = (f) => there.map((p, i) => [i, p]).reverse().map(([i, p]) => `${R(e[i + 1])} ${R(f(p))}L${R(e[i])} ${R(f(p))}`).join("L");
      const top = (p) => Math.min(p[1], zero), d = `M${R(e[0])} ${R(zero)}L${steps(top)}L${R(e.at(-1))} ${R(zero)}`;
      if (!pinned) path("rx-area", d + "Z");
      if (many && !pinned) path("rx-band", `M${steps((p) => Math.min(Y(s.hi[p[2]]), zero))}L${back((p) => Math.min(Y(s.lo[p[2]]) || zero, zero))}Z`);
      path("rx-mean", d, { "stroke-dasharray": dash, fill: "none" });
      return;
    }
    if (kind === "dot") {
      const shown = drawnLines().length * (pin ? 2 : 1), slot = shown > 1 ? Math.min(16, (v.at.pw / Math.max(2, P)) * 0.7 / shown) : 0;
      const turn = drawnLines().indexOf(line) * (pin ? 2 : 1) + (pinned ? 1 : 0), dx = (turn - (shown - 1) / 2) * slot;
      for (const [a, b, p] of there) {
        if (many && s.n[p] > 1) path("rx-whisker", `M${R(a + dx)} ${R(Y(s.lo[p]))}V${R(Y(s.hi[p]))}M${R(a + dx - 4)} ${R(Y(s.lo[p]))}h8M${R(a + dx - 4)} ${R(Y(s.hi[p]))}h8`);
        if (now.each && !pinned) s.each.forEach((e, r) => { if (e[p]) path("rx-seed-dot", MARKERS[0](a + dx + ((r % 5) - 2) * 1.5, Y(e[p][1]), 2)); });
        path("rx-mark", k.mark(a + dx, b, 5.5));
      }
      return;
    }
    const seeds = now.each && many && !pinned;
    if (seeds) for (const e of s.each) path("rx-seed", joined(e.map((q) => { const z = q && [X(q[0]), Y(q[1])]; return z && finite(z[1]) ? z : null; })));
    if (kind === "line" && many && !pinned && !seeds) {
      for (const run of pieces(pts)) {
        const up = run.map((p) => `${R(p[0])} ${R(Y(s.hi[p[2]]))}`), down = run.map((p) => `${R(p[0])} ${R(Y(s.lo[p[2]]))}`).reverse();
        path("rx-band", "M" + [...up, ...down].join("L") + "Z");
      }
    }
    const d = joined(pts);
    path("rx-halo", d, { "stroke-dasharray": kind === "path" ? dash : null });
    path("rx-mean", d, { "stroke-dasharray": dash });
    const inside = ([a, b]) => a >= v.at.left - 1 && a <= v.at.left + v.at.pw + 1 && b >= v.at.top - 1 && b <= v.at.top + v.at.ph + 1;
    const first = there[0], last = there.at(-1), on = shape("g", { class: cls });
    if (kind === "path") {
      if (there.length <= 200) on.append(shape("path", { class: "rx-step", d: there.filter(inside).map((q) => k.mark(q[0], q[1], 2.4)).join("") }));
      if (inside(first)) on.append(shape("path", { class: "rx-mark rx-hollow", d: MARKERS[0](first[0], first[1], 5.5) }));
    } else if (!pinned && there.length > 2) {  // a few markers along the way, apart for each line
      const every = Math.max(1, Math.round(there.length / 5)), from = Math.floor((line * every) / Math.max(1, lines.length));
      let d = "";
      for (let i = from; i < there.length - 1; i += every) if (inside(there[i])) d += k.mark(there[i][0], there[i][1], 3.4);
      if (d) on.append(shape("path", { class: "rx-mark", d }));
    }
    if (inside(last)) {
      on.append(shape("path", { class: "rx-mark" + (pinned ? " rx-hollow" : ""), d: k.mark(last[0], last[1], kind === "path" ? 6 : 4.6) }));
      if (v.tags) ends.push({ x: last[0], y: last[1], text: (pinned ? "pinned: " : "") + names[line], value: number(s.mean[last[2]], v.y.digits), pinned });
    }
    v.over.append(on);
  }
  function drawTags(v, ends) {  // names at the ends of the lines, pushed apart
    ends.sort((a, b) => a.y - b.y);
    const lo = v.at.top + 4, hi = v.at.top + v.at.ph + 4;
    ends.forEach((e, i) => { e.at = Math.max(e.y, i ? ends[i - 1].at + 15 : lo); });
    for (let i = ends.length - 1; i >= 0; i--) ends[i].at = Math.min(ends[i].at, i === ends.length - 1 ? hi : ends[i + 1].at - 15);
    for (const e of ends) {
      if (Math.abs(e.at - e.y) > 5) v.over.append(shape("path", { class: "rx-lead", d: `M${R(e.x + 6)} ${R(e.y)}L${R(e.x + 11)} ${R(e.at)}` }));
      v.over.append(shape("text", { class: "rx-tag" + (e.pinned ? " rx-pinned" : ""), x: R(e.x + 13), y: R(e.at + 4) }, e.text + " ", shape("tspan", { text: e.value })));
    }
  }

  // ---- words: the live sentence, the caption, the table ----
  const live = node("p", { class: "rx-status", role: "status" });
  const caption = node("p", { class: "rx-caption" });
  const cellText = (s, p, y) => number(s.mean[p], y.digits) + (many && kind !== "path" && s.n[p] > 1 ? ` (${number(s.lo[p], y.digits)} to ${number(s.hi[p], y.digits)})` : "");
  function sentence(at) {
    const shown = drawnLines(), X = S.x[now.axis], out = [];
    if (!shown.length) return "No line is shown: tick one in the legend.";
    S.y.forEach((y, yi) => {
      const all = shown.map((i) => [i, series(at, i, yi, now.axis)]).filter(([, s]) => s.any);
      if (!all.length) return;
      const same = all.every(([, s]) => s.last === all[0][1].last && s.x[s.last] === all[0][1].x[s.last]) && all[0][1].last >= 0;
      const where = (s) => (kind === "path" ? "" : ` at ${X.label} ${xText(X, s.x[s.last], s.last)}`);
      const said = all.map(([i, s]) => {
        const who = S.color ? S.color.said[i] + (kind === "dot" && P > 1 ? ": " : " ") : "";
        const lost = s.end >= 0 ? s.lost[s.end] : 0, note = lost ? `, ${lost} of ${many ? plural(s.runs) : "1 run"} diverged` : "";
        if (s.last < 0) return `${who}diverged${many ? ` in ${lost} of ${plural(s.runs)}` : ""}`;
        if (kind === "path") return `${who}ends at ${number(s.x[s.last], X.digits)}, ${number(s.mean[s.last], y.digits)}${note}`;
        if (kind === "dot" && P > 6) {
          const [a, b] = s.mean.reduce(([h, l], m, p) => (finite(m) ? [h < 0 || m > s.mean[h] ? p : h, l < 0 || m < s.mean[l] ? p : l] : [h, l]), [-1, -1]);
          return `${who}highest ${xText(X, s.x[a], a)} ${number(s.mean[a], y.digits)}, lowest ${xText(X, s.x[b], b)} ${number(s.mean[b], y.digits)}${note}`;
        }
        if (kind === "dot" && P > 1) return who + s.mean.map((m, p) => (finite(m) ? `${xText(X, s.x[p], p)} ${number(m, y.digits)}` : "")).filter(Boolean).join(", ") + note;
        if (kind === "bar") { const p = s.mean.reduce((b, m, q) => (m > s.mean[b] || !finite(s.mean[b]) ? q : b), 0); return `${who}largest ${number(s.mean[p], y.digits)} at ${xText(X, s.x[p], p)}`; }
        return `${who}${all.length > 6 ? number(s.mean[s.last], y.digits) : cellText(s, s.last, y)}${same ? "" : where(s)}${note}`;
      });
      const lead = kind === "path" ? "" : y.label + (same && kind === "line" ? where(all[0][1]) : "") + ": ";
      const text = lead + said.join("; ") + ".";
      out.push(text.replace(/^(sgd|pca|mlp|cnn|rnn)\b|^./, (start) => start.toUpperCase()));  // as checks.capital
    });
    return out.length ? out.join(" ") : "No run at this setting.";
  }
  const heads = () => {
    const out = [...(kind === "path" ? ["point"] : []), S.x[now.axis].label, ...(S.color ? [S.color.label] : [])];
    for (const y of S.y) {
      const before = S.y.length > 1 ? y.label + ", " : "";
      out.push(y.label);
      if (S.band && kind !== "path") out.push(before + "lowest", before + "highest");
      if (S.band) out.push(before + bandName + "s");
      if (S.diverged) out.push(before + "diverged");
    }
    return out;
  };
  // one row per x and line, as Explorer.at and Explorer.full in Python
  function rows(positions, at, mark, text) {
    const X = S.x[now.axis], out = [];
    for (const p of positions) for (const line of lines) {
      const all = S.y.map((_, yi) => series(at, line, yi, now.axis));
      if (!all.some((s) => s.n[p] || s.lost[p])) continue;
      const row = kind === "path" ? [p + 1] : [];
      row.push(X.names ? X.names[p] : text ? xText(X, all[0].x[p], p) : +all[0].x[p].toPrecision(9));
      if (S.color) row.push(mark + names[line]);
      all.forEach((s, yi) => {
        const say = (v) => (text ? number(v, S.y[yi].digits) : finite(v) ? +v.toPrecision(7) : "");
        row.push(say(s.mean[p]));
        if (S.band && kind !== "path") row.push(say(s.lo[p]), say(s.hi[p]));
        if (S.band) row.push(s.n[p]);
        if (S.diverged) row.push(s.lost[p]);
      });
      row.line = line; row.p = p;
      out.push(row);
    }
    return out;
  }
  const head = node("tr"), body = node("tbody"), tableBox = node("div", { class: "rx-scroll", tabindex: 0, role: "region", "aria-label": `${S.title}: table` },
    node("table", {}, node("thead", {}, head), body));
  const saver = node("button", { type: "button", class: "rx-save", text: "Download CSV" });
  const thin = S.rows.length < P ? `${S.rows.length} of ${P} values of x; the file has all of them.` : "";
  const details = node("details", { class: "rx-table" }, node("summary", { text: "Table" }), node("div", { class: "rx-tablebar" }, saver, node("span", { text: thin })), tableBox);
  function fillTable() {
    if (!details.open) return;
    head.replaceChildren(...heads().map((t) => node("th", { scope: "col", text: t })));
    const key = S.color ? heads().indexOf(S.color.label) : 0;
    const list = rows(S.rows, now.at, "", true);
    if (pin) list.push(...rows(S.rows, pin, "pinned: ", true));
    body.replaceChildren(...list.map((r, i) => node("tr", { class: i && list[i - 1].p !== r.p ? "rx-next" : null },
      ...r.map((t, j) => {
        const c = node(j === key ? "th" : "td", j === key ? { scope: "row" } : {});
        if (S.color && j === key) c.append(swatch(r.line, kind, t.startsWith("pinned: ") && pin), String(t)); else c.textContent = t;
        return c;
      }))));
  }
  details.addEventListener("toggle", fillTable);
  saver.addEventListener("click", () => {
    const inert = (t) => (typeof t === "string" && /^\s*[=+\-@|%]/.test(t) && !finite(+t) ? "'" + t : String(t));  // no formula
    const quote = (t) => { const cell = inert(t); return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell; };
    const table = (at, mark) => rows([...Array(P).keys()], at, mark, false).map((r) => [...C.map((c, i) => c.names[at[i]]), ...r]);
    const all = [[...C.map((c) => c.label), ...heads()], ...table(now.at, ""), ...(pin && S.color ? table(pin, "pinned: ") : pin ? table(pin, "") : [])];
    const url = URL.createObjectURL(new Blob([all.map((r) => r.map(quote).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }));
    const link = node("a", { href: url, download: S.id + ".csv" });
    root.append(link); link.click(); link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });

  function hover(v, e) {
    const b = v.svg.getBoundingClientRect(), px = ((e.clientX - b.left) / b.width) * v.at.w, X = S.x[now.axis];
    v.guide.replaceChildren();
    if (px < v.at.left - 4 || px > v.at.left + v.at.pw + 8) { v.tip.style.display = "none"; return; }
    const found = [];
    for (const i of drawnLines()) {
      const s = series(now.at, i, v.yi, now.axis);
      let best = -1;
      s.x.forEach((u, p) => { if (finite(s.mean[p]) && (best < 0 || Math.abs(v.X(u) - px) < Math.abs(v.X(s.x[best]) - px))) best = p; });
      if (best >= 0) found.push({ i, s, p: best, x: v.X(s.x[best]) });
    }
    if (!found.length) { v.tip.style.display = "none"; return; }
    found.sort((a, c) => Math.abs(a.x - px) - Math.abs(c.x - px));
    const near = found[0], shown = found.filter((f) => Math.abs(f.x - near.x) < 12).sort((a, c) => c.s.mean[c.p] - a.s.mean[a.p]);
    v.guide.append(shape("line", { class: "rx-guide", x1: R(near.x), x2: R(near.x), y1: v.at.top, y2: v.at.top + v.at.ph }));
    v.tip.replaceChildren(node("div", { class: "rx-tiphead", text: `${X.label} ${xText(X, near.s.x[near.p], near.p)}` }),
      ...shown.map((f) => node("div", { class: "rx-tiprow" }, ...(S.color ? [swatch(f.i, kind), node("span", { text: names[f.i] })] : []), node("b", { text: cellText(f.s, f.p, v.y) }))));
    v.tip.style.display = "block";
    const scale = b.width / v.at.w, tw = v.tip.offsetWidth, gx = near.x * scale;
    v.tip.style.left = `${Math.max(0, gx + 14 + tw < b.width ? gx + 14 : gx - 14 - tw)}px`;
    v.tip.style.top = `${(v.at.top + 6) * scale}px`;
  }

  let drawnExtent = "", linking = 0;
  function update() {
    const b = backdrop(), extent = b ? b.extent.join() : "";
    if (extent !== drawnExtent) { drawnExtent = extent; layout(); }
    for (const f of sync) f();
    pinner.textContent = pin ? "Remove pin" : "Pin for comparison";
    let seen = 0, least = Infinity, most = 0;
    for (const v of views) {
      v.marks.replaceChildren(); v.over.replaceChildren(); v.image.replaceChildren(); v.guide.replaceChildren();
      v.tip.style.display = "none";
      if (b) v.image.append(shape("image", { href: b.href, x: v.at.left, y: v.at.top, width: v.at.pw, height: v.at.ph, preserveAspectRatio: "none" }));
      const ends = [];
      if (pin) for (const i of drawnLines()) drawLine(v, i, pin, true, ends);
      for (const i of drawnLines()) {
        drawLine(v, i, now.at, false, ends);
        const s = series(now.at, i, v.yi, now.axis);
        if (s.any) { seen++; least = Math.min(least, s.runs); most = Math.max(most, s.runs); }
      }
      drawTags(v, ends);
      if (!drawnLines().some((i) => series(now.at, i, v.yi, now.axis).any))
        v.over.append(shape("text", { class: "rx-empty", x: v.at.left + v.at.pw / 2, y: v.at.top + v.at.ph / 2, "text-anchor": "middle",
          text: drawnLines().length ? "no run at this setting" : "no line is shown" }));
      v.title.textContent = `${v.y.label} against ${S.x[now.axis].label}${C.length ? ", " + settings(now.at) : ""}`;
    }
    const pinned = pin && sentence(pin);
    live.textContent = (drawnLines().length && !seen ? `No run at this setting${C.length ? ` (${settings(now.at)})` : ""}.` : sentence(now.at)) + (pin ? ` Pinned (${settings(pin)}): ${pinned}` : "");
    const said = seen && S.band ? (many ? (kind === "path" ? "Mean over " : now.each && kind === "line" ? "Mean and each of " : "Mean and range over ") + (least === most ? plural(most) : `${least} to ${plural(most)}`) + "." : `One ${bandName}.`) : "";
    caption.textContent = [said, kind === "path" && seen ? "Hollow circle: start; filled marker: end." : "", S.note].filter(Boolean).join(" ");
    pinNote.replaceChildren(...(pin ? [swatch(0, kind === "dot" ? "dot" : "line", true), node("span", { text: `pinned: ${settings(pin)}` })] : []));
    pinNote.hidden = !pin;
    fillTable();
  }
  function changed() {
    update();
    model.set("choice", Object.fromEntries(C.map((c, i) => [c.column, c.values[now.at[i]]])));
    model.save_changes();
    linkNote.textContent = "";
    if (!page || inLab()) return;
    clearTimeout(linking);  // browsers limit how often the address may change
    linking = setTimeout(() => writeLink(S.id, linkItems()), 200);
  }
  function linkItems() {
    const items = Object.fromEntries(C.map((c, i) => [c.column, now.at[i]]));
    if (now.axis) items[".x"] = now.axis;
    if (now.each) items[".each"] = 1;
    if (now.hidden.size) items[".hide"] = [...now.hidden].sort((a, b) => a - b).join("-");
    return items;
  }
  let linked = null;
  function follow() {  // take the setting from the address; what makes no sense there is left at the start
    let link = page && !inLab() ? readLink(S.id) : null;
    if (!link && page && linked !== null && !inLab() && location.hash === firstHash) link = {};  // back to where it began
    if (!link) return false;
    const below = (t, n) => (/^\d{1,5}$/.test(t ?? "") && +t < n ? +t : null);
    now = home();
    C.forEach((c, i) => { now.at[i] = below(link[c.column], c.names.length) ?? now.at[i]; });
    now.axis = below(link[".x"], S.x.length) ?? 0;
    now.each = !!eachBox && link[".each"] === "1";
    for (const t of (link[".hide"] ?? "").split("-")) if (S.color && below(t, lines.length) !== null) now.hidden.add(+t);
    return true;
  }
  function fromKernel() {
    const choice = model.get("choice") ?? {};
    C.forEach((c, i) => { const k = c.column in choice ? c.values.indexOf(choice[c.column]) : -1; if (k >= 0) now.at[i] = k; });
  }
  const onKernel = () => { fromKernel(); update(); };
  const onHash = () => { if (follow()) { layout(); update(); } };

  const root = node("div", { class: "rx", role: "group", "aria-label": S.title, id: document.getElementById(S.id) ? null : S.id }, node("p", { class: "rx-title", text: S.title }), form);
  if (tools.childElementCount) form.append(tools);
  root.append(linkNote, pinNote, panels, live, caption, details);
  // JupyterLab takes plain keys unless the focused element itself says no; other notebooks listen higher up
  for (const e of root.querySelectorAll("input, select, button, summary, [tabindex]")) e.setAttribute("data-lm-suppress-shortcuts", "true");
  root.addEventListener("keydown", (e) => { if (!e.ctrlKey && !e.metaKey && !e.altKey) e.stopPropagation(); });
  linked = follow();
  fromKernel();
  el.replaceChildren(root);
  layout(); update();
  let watch = null;
  let tallest = 0;  // the sentence keeps the height of its longest form so far: nothing below it jumps at a move
  const resized = () => {
    if (panels.clientWidth && Math.round(panels.clientWidth) !== width) { tallest = 0; live.style.minHeight = ""; layout(); update(); }
    if (live.offsetHeight > tallest) live.style.minHeight = `${tallest = live.offsetHeight}px`;
  };
  if (typeof ResizeObserver === "function") { watch = new ResizeObserver(resized); watch.observe(root); watch.observe(live); } else window.addEventListener("resize", resized);
  model.on("change:choice", onKernel);
  if (page) window.addEventListener("hashchange", onHash);
  if (linked) requestAnimationFrame(() => root.scrollIntoView({ block: "center" }));
  return () => {
    watch?.disconnect();
    clearTimeout(linking);
    window.removeEventListener("resize", resized);
    window.removeEventListener("hashchange", onHash);
    model.off?.("change:choice", onKernel);
  };
}
export default { render };
