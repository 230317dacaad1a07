// Predictions: the reader's guesses, kept on this device alone, and how well calibrated they are.
// Without this script a prediction is a numbered list, and its answer is a sentence.
(() => {
  const boxes = [...document.querySelectorAll(".admonition.predict")].filter((box) => box.querySelector("ol"));
  const answers = [...document.querySelectorAll(".tt-answer")];
  if (!boxes.length) return;
  const prefix = "tt-guess:", page = location.pathname.split("/").pop().replace(/\.html$/, "");
  const memory = new Map();  // where the browser keeps nothing
  const store = {
    get(key) { try { return JSON.parse(localStorage.getItem(prefix + key)) ?? memory.get(key); } catch { return memory.get(key); } },
    set(key, value) { memory.set(key, value); try { localStorage.setItem(prefix + key, JSON.stringify(value)); } catch { /* private mode */ } },
    drop(key) { memory.delete(key); try { localStorage.removeItem(prefix + key); } catch { /* private mode */ } },
    keys() { try { return Object.keys(localStorage).filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length)); } catch { return [...memory.keys()]; } },
  };
  const make = (tag, attributes, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };
  const percent = (p) => `${Math.round(100 * p)} %`;
  const valid = (g) => g && Number.isInteger(g.choice) && g.choice > 0 && g.sure >= 0 && g.sure <= 1;
  const key = (k) => `${page}:${k + 1}`;
  const right = (k) => (answers[k] ? answers[k].dataset.right.split(",").map(Number) : []);

  const redraw = boxes.map((box, k) => {
    const list = box.querySelector("ol"), items = [...list.children], name = `tt-guess-${k}`;
    const radios = items.map((item, i) => {
      const radio = make("input", { type: "radio", name, value: i + 1 });
      item.replaceChildren(make("label", {}, radio, " ", make("span", {}, ...item.childNodes)));
      return radio;
    });
    list.setAttribute("role", "radiogroup");
    list.setAttribute("aria-label", "Your prediction");
    items.forEach((item) => item.setAttribute("role", "presentation"));
    const chance = 1 / items.length;
    const levels = [...new Set([chance, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])].filter((p) => p >= chance - 1e-9);
    const sure = make("select", { id: name + "-sure" }, ...levels.map((p, i) => make("option", { value: p }, i ? percent(p) : `${percent(p)} (a guess)`)));
    const keep = make("button", { type: "button", className: "tt-keep" }, "Keep my prediction");
    const note = make("span", { className: "tt-kept" });
    note.setAttribute("role", "status");
    list.after(make("div", { className: "tt-guess" }, make("label", { htmlFor: sure.id }, "How sure are you?"), " ", sure, " ", keep, " ", note));
    const result = answers[k] && make("span", { className: "tt-result" });
    if (result) answers[k].append(" ", result);

    const draw = () => {
      const guess = store.get(key(k)), kept = valid(guess) && guess.choice <= items.length;
      if (kept) {
        radios[guess.choice - 1].checked = true;
        sure.value = levels.reduce((a, b) => (Math.abs(b - guess.sure) < Math.abs(a - guess.sure) ? b : a));
      } else radios.forEach((radio) => { radio.checked = false; });
      [...radios, sure].forEach((control) => { control.disabled = kept; });
      keep.textContent = kept ? "Choose again" : "Keep my prediction";
      note.textContent = kept ? `Kept: ${guess.choice}, ${percent(guess.sure)} sure.` : "";
      if (result) {
        const hit = kept && right(k).includes(guess.choice);
        result.textContent = kept ? `You chose ${guess.choice}, ${percent(guess.sure)} sure: ${hit ? "right" : "not this time"}.` : "";
        result.dataset.hit = hit ? "yes" : "no";
        if (kept && guess.hit !== hit) store.set(key(k), { ...guess, hit });
      }
    };
    keep.addEventListener("click", () => {
      if (valid(store.get(key(k)))) store.drop(key(k));
      else {
        const chosen = radios.find((radio) => radio.checked);
        if (!chosen) { note.textContent = "Choose an answer first."; return; }
        store.set(key(k), { choice: +chosen.value, sure: +sure.value, at: Date.now() });
      }
      redraw.forEach((each) => each());
      tally();
    });
    return draw;
  });

  // ---- at the end of the chapter: how well calibrated ----
  const board = make("div", { className: "tt-calibration" });
  const words = make("p", {});
  words.setAttribute("role", "status");
  const forget = make("button", { type: "button" }, "Forget all my predictions");
  forget.addEventListener("click", () => {
    store.keys().forEach((k) => store.drop(k));
    redraw.forEach((each) => each());
    tally();
  });
  board.append(make("p", { className: "tt-group-title" }, "Your predictions"), words, forget);
  if (answers.length) document.querySelector(".bd-article")?.append(board);
  function tell(guesses, where) {
    const n = guesses.length, hits = guesses.filter((g) => g.hit).length, mean = guesses.reduce((sum, g) => sum + g.sure, 0) / n;
    const brier = guesses.reduce((sum, g) => sum + (g.sure - (g.hit ? 1 : 0)) ** 2, 0) / n;
    return `${where}: ${hits} of ${n} right, and you were ${percent(mean)} sure on average (Brier score ${brier.toFixed(2)}; 0 is perfect).`;
  }
  function tally() {
    const settled = (list) => list.map((k) => store.get(k)).filter((g) => valid(g) && typeof g.hit === "boolean");
    const here = settled(boxes.map((_, k) => key(k))), all = settled(store.keys());
    const judge = () => {
      const gap = all.reduce((sum, g) => sum + g.sure - (g.hit ? 1 : 0), 0) / all.length;
      if (all.length < 5) return "After five predictions you can see whether you tend to be too sure.";
      return Math.abs(gap) < 0.1 ? "You are as sure as you are right: well calibrated." : gap > 0 ? "You are surer than you are right." : "You are right more often than you think.";
    };
    words.textContent = here.length || all.length
      ? [here.length ? tell(here, "In this chapter") : "", all.length > here.length ? tell(all, "In the whole book") : "", judge(), "They are kept on this device only."].filter(Boolean).join(" ")
      : "Keep a prediction before you read on, and its result appears here. It stays on this device.";
    forget.hidden = !all.length && !store.keys().length;
  }
  redraw.forEach((each) => each());
  tally();
})();
