// The filter of the claims ledger. Without this script the page is a plain table.
(() => {
  const ledger = document.querySelector(".tt-ledger");
  if (!ledger) return;
  const rows = [...ledger.querySelectorAll("tr[data-verdict]")], status = ledger.querySelector(".tt-count");
  const whole = status.textContent;
  const make = (tag, attributes, text = "") => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(text);
    return element;
  };
  const form = make("form", { className: "tt-filter" });
  const select = make("select", { id: "tt-verdict-filter" });
  select.append(make("option", { value: "" }, "all verdicts"));
  for (const tile of ledger.querySelectorAll(".tt-counts li"))
    select.append(make("option", { value: tile.dataset.verdict }, tile.lastChild.textContent.trim()));
  const search = make("input", { id: "tt-text-filter", type: "search", placeholder: "a word, an id, a source" });
  for (const [control, name] of [[select, "Verdict"], [search, "Text"]]) {
    const field = make("div", { className: "tt-field" });
    field.append(make("label", { htmlFor: control.id }, name), control);
    form.append(field);
  }
  ledger.insertBefore(form, status);

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !((!select.value || row.dataset.verdict === select.value) && words.every((w) => text.includes(w)));
      shown += !row.hidden;
    }
    for (const group of ledger.querySelectorAll(".tt-group")) group.hidden = !group.querySelector("tr[data-verdict]:not([hidden])");
    status.textContent = shown === rows.length ? whole : `${shown} of ${rows.length} claims shown.`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
