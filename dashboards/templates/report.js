"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [...document.querySelectorAll(".chart")];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const themed = (layout) => {
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
  };

  const draw = (chart) => {
    const figure = JSON.parse(document.getElementById("figure-" + chart.dataset.figure).textContent);
    return Plotly.react(chart, figure.data, themed(figure.layout), {
      responsive: true, displaylogo: false, displayModeBar: false,
    });
  };

  const drawAll = () => charts.forEach(draw);
  drawAll();
  dark.addEventListener("change", drawAll);

  for (const button of document.querySelectorAll(".picker button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const part of document.querySelectorAll(`.samples [data-seed="${button.dataset.seed}"]`)) part.hidden = !shown;
    });
  }
})();
