// What the book does itself in the place of the theme, on every page.

// What scrolls inside a page can be reached by keyboard. The theme asks every box of the page for its size after each
// change of the page, a layout each time; here a box is asked when it is drawn or its size changes, all in one pass. A
// box in a section that is not laid out yet is within reach until then.
(() => {
  const boxes = [...document.querySelectorAll("pre, .cell_output > .output, .pst-scrollable-table-container")];
  const drawn = (box) => box.checkVisibility?.({ contentVisibilityAuto: true }) ?? true;
  const reach = (some) => some.forEach((box) => { box.tabIndex = 0; });
  reach(boxes);
  if (typeof ResizeObserver !== "function") return;
  const watch = new ResizeObserver((seen) => {
    const some = seen.map(({ target }) => target).filter(drawn);
    const scrolls = some.map((box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight);
    some.forEach((box, k) => {
      if (scrolls[k]) box.tabIndex = 0;
      else if (box !== document.activeElement) box.removeAttribute("tabindex");
    });
  });
  boxes.forEach((box) => watch.observe(box));
  addEventListener("resize", () => reach(boxes.filter((box) => !drawn(box))));
})();

// Two buttons of the theme, whose scripts stood in attributes: no page needs to allow such scripts.
document.addEventListener("click", (event) => {
  const does = event.target.closest?.("[data-does]")?.dataset.does;
  if (does === "print") window.print();
  if (does === "full-screen") window.toggleFullScreen();
});
