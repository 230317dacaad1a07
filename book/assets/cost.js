// The cost of a sweep for the reader's own numbers. Without this script the page shows one example.
(() => {
  const box = document.querySelector(".tt-cost");
  if (!box) return;
  const total = box.querySelector(".tt-total"), fields = {};
  for (const cell of box.querySelectorAll("td[data-key]")) {
    const name = cell.previousElementSibling, unit = cell.textContent.split(" ").slice(1).join(" ");
    const field = document.createElement("input");
    Object.assign(field, { type: "number", min: cell.dataset.key === "start" || cell.dataset.key === "lost" ? 0 : 0.001, step: "any", value: cell.dataset.value });
    name.id = `tt-cost-${cell.dataset.key}`;
    field.setAttribute("aria-labelledby", name.id);
    cell.replaceChildren(field, unit ? ` ${unit}` : "");
    fields[cell.dataset.key] = field;
  }
  const text = (number) => Math.round(number).toLocaleString("en-US");
  const apply = () => {
    if (!Object.values(fields).every((field) => field.value !== "" && field.validity.valid)) {
      total.textContent = "Give a number above zero in each field.";
      return;
    }
    const v = Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, field.valueAsNumber]));
    const each = Math.ceil(v.runs * (1 + v.lost / 100) / v.gpus);
    const minutes = v.start + each * v.seconds / v.faster / 60, hours = v.gpus * minutes / 60;
    total.textContent = `Done after ${text(minutes)} minutes. It takes ${text(hours)} GPU-hours and costs $${text(hours * v.price)}.`;
  };
  box.addEventListener("input", apply);
})();
