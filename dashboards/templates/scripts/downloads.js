(() => {
  const save = (blob, name) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const say = (button, word) => {
    const before = button.dataset.before || button.textContent;
    button.dataset.before = before;
    button.textContent = word;
    setTimeout(() => { button.textContent = before; }, 2000);
  };

  // A page opened from a file may not have the clipboard: then the text is selected, to be copied by hand
  const copy = async (element) => {
    try {
      await navigator.clipboard.writeText(element.textContent);
      return "copied";
    } catch {
      getSelection().selectAllChildren(element);
      return document.execCommand("copy") ? "copied" : "selected";
    }
  };

  const take = async (button) => {
    const { packed, text, name } = button.dataset;
    if (packed) save(new Blob([await inflated(document.getElementById("packed-" + packed))], { type: "text/csv" }), packed);
    if (text) save(new Blob([document.getElementById(text).textContent], { type: "text/plain" }), name);
    if (button.dataset.copy) say(button, await copy(document.getElementById(button.dataset.copy)));
  };
  for (const button of document.querySelectorAll(".take")) {
    button.hidden = false;
    button.addEventListener("click", () => take(button).catch(() => say(button, "this browser cannot")));
  }
  for (const picker of document.querySelectorAll(".copy .picker")) picker.hidden = false;

  // A figure for paper: dark ink on white, whatever the page looks like
  const paper = (chart) => {
    const layout = JSON.parse(JSON.stringify(chart.layout));
    const ink = "#1c2128", grid = "#dfe2e6";
    Object.assign(layout, { paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", updatemenus: [] });
    layout.font = { ...layout.font, color: ink };
    layout.legend = { ...layout.legend, font: { ...(layout.legend || {}).font, color: ink } };
    layout.showlegend = chart.closest(".plot").querySelector(".legend") !== null; // on the page it is buttons
    for (const key of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      Object.assign(layout[key], { gridcolor: grid, tickcolor: grid, linecolor: grid, color: ink });
    }
    return { data: chart.data, layout, config: {} };
  };
  for (const chart of document.querySelectorAll(".chart")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "svg", textContent: "SVG" });
    const name = chart.dataset.figure;
    button.setAttribute("aria-label", "download the figure " + name.replaceAll("_", " ") + " as SVG");
    button.addEventListener("click", async () => {
      await draw(chart);
      const size = { width: Math.max(480, chart.clientWidth), height: chart.clientHeight };
      Plotly.downloadImage(paper(chart), { format: "svg", filename: name, ...size });
    });
    chart.after(button);
  }
})();
