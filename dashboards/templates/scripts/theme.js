// Figures take their colours from the page's style sheet, so that light, dark and printed pages have them right.
const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

function colour(name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

function printing() {
  return "print" in root.dataset;
}

// Calls back when the colours change, and before and after the page is printed.
function whenThemed(redraw) {
  dark.addEventListener("change", redraw);
  const closed = [...document.querySelectorAll("details:not([open])")];
  const print = (now) => {
    root.toggleAttribute("data-print", now);
    closed.forEach((details) => { details.open = now; });
    redraw();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
}

function themed(layout) {
  const soft = colour("--soft"), ink = colour("--ink"), grid = colour("--grid");
  layout.plot_bgcolor = colour("--page");
  layout.font = { ...layout.font, color: soft };
  layout.hoverlabel = { bgcolor: colour("--panel"), bordercolor: colour("--rule"), font: { color: ink, size: 12.5 }, namelength: -1 };
  for (const key of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    Object.assign(layout[key], { gridcolor: grid, tickcolor: grid, linecolor: grid, color: soft, spikecolor: soft, spikethickness: 1, spikedash: "dot" });
  }
  return layout;
}
