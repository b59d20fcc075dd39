// Every element of class `chart` shows the figure that it names in data-figure.
function draw(chart) {
  const figure = JSON.parse(document.getElementById("figure-" + chart.dataset.figure).textContent);
  return Plotly.react(chart, figure.data, themed(figure.layout), {
    responsive: true, displaylogo: false, displayModeBar: false,
  });
}

function drawAll() {
  document.querySelectorAll(".chart").forEach(draw);
}

drawAll();
dark.addEventListener("change", drawAll);
