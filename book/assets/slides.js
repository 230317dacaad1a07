// A chapter as slides: `?slides` after the address of a page. Each section is a slide; its figures work as on the page.
(() => {
  if (!new URLSearchParams(location.search).has("slides")) return;
  const article = document.querySelector(".bd-article");
  if (!article) return;
  const sections = [article.querySelector("section"), ...article.querySelectorAll("section section")];
  const slides = sections.map((section) => [...section.children].filter((child) => child.tagName !== "SECTION"));
  const parents = sections.map((section) => { const up = []; for (let e = section; e && e !== article; e = e.parentElement) up.push(e); return up; });
  const count = Object.assign(document.createElement("p"), { className: "tt-slide-count" });
  count.setAttribute("role", "status");
  const button = (label, name, move) => {
    const b = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    b.setAttribute("aria-label", name);
    b.addEventListener("click", move);
    return b;
  };
  const bar = Object.assign(document.createElement("nav"), { className: "tt-slide-bar" });
  bar.setAttribute("aria-label", "Slides");
  bar.append(button("←", "Previous slide", () => show(now - 1)), count, button("→", "Next slide", () => show(now + 1)), button("Leave", "Leave the slides", leave));
  document.documentElement.classList.add("tt-slides");
  document.body.append(bar);
  let now = 0;
  function show(k) {
    now = Math.max(0, Math.min(slides.length - 1, k));
    for (const e of article.querySelectorAll(".tt-on")) e.classList.remove("tt-on");
    for (const e of [...slides[now], ...parents[now]]) e.classList.add("tt-on");
    count.textContent = `${now + 1} of ${slides.length}`;
    (document.querySelector(".bd-main") ?? window).scrollTo?.(0, 0);
    window.scrollTo(0, 0);
    window.dispatchEvent(new Event("resize"));  // figures that were hidden take their width
  }
  function leave() {
    const address = new URL(location.href);
    address.searchParams.delete("slides");
    location.assign(address);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, [contenteditable]")) return;
    const move = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
    if (move) { event.preventDefault(); show(now + move); }
    if (event.key === "Home") { event.preventDefault(); show(0); }
    if (event.key === "End") { event.preventDefault(); show(slides.length - 1); }
    if (event.key === "Escape") leave();
  });
  show(0);
})();
