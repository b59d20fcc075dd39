// Which seeds' samples are shown.
for (const button of document.querySelectorAll(".picker button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const part of document.querySelectorAll(`.samples [data-seed="${button.dataset.seed}"]`)) part.hidden = !shown;
  });
}
