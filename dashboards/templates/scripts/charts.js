// Figures are drawn after the first paint: those in sight first, the others when nothing else is to be done.
// plotly.js travels as gzip; the browser inflates it, and the page's policy knows its hash.
const charts = [...document.querySelectorAll(".chart")];
const figures = new Map();
const states = new Map();
let library = null;

function decoded(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const signs = atob(text), bytes = new Uint8Array(signs.length);
  for (let i = 0; i < signs.length; i += 1) bytes[i] = signs.charCodeAt(i);
  return bytes;
}

async function inflated(element) {
  const text = element.textContent;
  if (element.type !== "application/gzip") return text;
  const bytes = decoded(text);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function plotly() {
  library ??= inflated(document.getElementById("plotly")).then((code) => {
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
  });
  return library;
}

// What a figure shows is a function of the figure and of what was switched.
function shown(chart) {
  const figure = figures.get(chart), state = states.get(chart);
  const layout = structuredClone(figure.layout), meta = layout.meta || {};
  const way = (meta.x || []).find((one) => one.name === state.x);
  const kind = (meta.y || []).find((one) => one.name === state.y);
  const data = figure.data.map((trace) => {
    const one = { ...trace }, extra = trace.meta || {};
    if (way && extra.x && extra.x[way.name]) one.x = extra.x[way.name];
    if (way && one.hovertemplate) one.hovertemplate = one.hovertemplate.replace("} kimg", `} ${way.unit}`);
    if (extra.role === "seeds") one.visible = state.seeds;
    if (state.hidden.has(trace.legendgroup ?? trace.name) || state.hidden.has(trace.name)) one.visible = false;
    if (state.seeds && extra.role === "mean") {
      one.hovertemplate = `mean: %{text} at %{x:.4~g} ${way ? way.unit : "kimg"}`;
    }
    return one;
  });
  if (way) Object.assign(layout.xaxis, way.axis);
  if (kind) Object.assign(layout.yaxis, kind.axis);
  if (state.seeds) layout.hovermode = "closest";
  if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
  if (printing()) layout.width = chart.clientWidth;
  return [data, themed(layout)];
}

async function draw(chart) {
  if (states.has(chart)) return;
  states.set(chart, { x: null, y: null, seeds: false, hidden: new Set() });
  const source = document.getElementById("figure-" + chart.dataset.figure);
  try {
    const [text] = await Promise.all([inflated(source), plotly()]);
    figures.set(chart, JSON.parse(text));
    await redraw(chart);
  } catch (error) {  // a browser of before 2023 lacks DecompressionStream
    chart.textContent = `This figure could not be drawn (${error.message}): open the page in a newer browser.`;
    console.error(error);
  }
}

function redraw(chart) {
  if (!figures.has(chart)) return null;
  return Plotly.react(chart, ...shown(chart), { responsive: true, displaylogo: false, displayModeBar: false });
}

async function drawRest() {
  for (const chart of charts) {
    await new Promise((done) => (window.requestIdleCallback || setTimeout)(done, { timeout: 200 }));
    await draw(chart);
  }
  performance.mark("complete");
  root.dataset.complete = "";
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
}, { rootMargin: "300px" });

requestAnimationFrame(() => setTimeout(() => {
  charts.forEach((chart) => near.observe(chart));
  drawRest();
}));
whenThemed(() => charts.forEach(redraw));

for (const controls of document.querySelectorAll(".controls")) {
  const chart = document.querySelector(`.chart[data-figure="${controls.dataset.for}"]`);
  controls.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    await draw(chart);
    const state = states.get(chart), data = button.dataset;
    const pressed = button.getAttribute("aria-pressed") !== "true";
    if (data.x || data.y) {
      state[data.x ? "x" : "y"] = data.x || data.y;
      for (const other of button.parentElement.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    } else {
      if ("seeds" in data) state.seeds = pressed;
      else if (pressed) state.hidden.delete(data.cell);
      else state.hidden.add(data.cell);
      button.setAttribute("aria-pressed", String(pressed));
    }
    await redraw(chart);
  });
}
