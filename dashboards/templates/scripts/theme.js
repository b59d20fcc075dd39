// Figures take their colours from the page's style sheet, so that light and dark pages have them right.
const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function themed(layout) {
  const soft = colour("--soft"), ink = colour("--ink"), grid = colour("--grid");
  layout.font = { ...layout.font, color: soft };
  layout.legend = { ...layout.legend, font: { ...(layout.legend || {}).font, color: ink } };
  layout.hoverlabel = { bgcolor: colour("--panel"), bordercolor: colour("--rule"), font: { color: ink, size: 12.5 } };
  for (const key of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    Object.assign(layout[key], { gridcolor: grid, tickcolor: grid, linecolor: grid, color: soft });
  }
  for (const menu of layout.updatemenus || []) {
    Object.assign(menu, { bgcolor: colour("--page"), bordercolor: colour("--rule"), font: { ...menu.font, color: ink } });
  }
  return layout;
}
