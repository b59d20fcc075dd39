(() => {
  const section = document.getElementById("samples");
  if (!section) return;
  const { kimg, earlier } = JSON.parse(document.getElementById("samples-data").textContent);
  const zooms = [...section.querySelectorAll(".zoom")];
  const slider = document.getElementById("samples-time");
  const output = section.querySelector("output");
  const dialog = document.getElementById("enlarged");
  const large = dialog.querySelector(".stage").appendChild(new Image());
  large.alt = "";
  const WIDTH = 280; // CSS pixels of a picture in the table, at most, as long as one screen pixel each is not more
  let shown = null; // the button whose picture is enlarged
  let time = kimg.length - 1;

  // [place in `kimg`, address] of every picture of a button, ascending
  const pictures = new Map(zooms.map((zoom) => [zoom, [
    ...(earlier[zoom.dataset.place] || []).map(([at, png]) => [at, "data:image/png;base64," + png]),
    [Number(zoom.dataset.at), zoom.firstElementChild.getAttribute("src")],
  ]]));
  const size = new Map(zooms.map((zoom) => {
    const image = zoom.firstElementChild;
    return [zoom, [Number(image.getAttribute("width")), Number(image.getAttribute("height"))]];
  }));
  const at = (zoom) => pictures.get(zoom).filter(([place]) => place <= time).pop();

  // The largest whole number of screen pixels for each pixel with which a picture is no wider and higher than this
  const fit = (image, [width, height], wide, high) => {
    const screen = window.devicePixelRatio || 1;
    const factor = Math.max(1, Math.floor(Math.min((wide * screen) / width, (high * screen) / height)));
    image.style.width = (width * factor) / screen + "px";
    image.style.height = (height * factor) / screen + "px";
    return factor;
  };
  const describe = (zoom, place) =>
    `${zoom.dataset.cell}, seed ${zoom.closest("td").dataset.seed}, at ${kimg[place]} kimg`;

  const show = () => {
    for (const zoom of zooms) {
      const found = at(zoom);
      const image = zoom.firstElementChild;
      zoom.classList.toggle("none", !found);
      if (!found) continue;
      if (image.getAttribute("src") !== found[1]) image.src = found[1];
      image.alt = "samples of " + describe(zoom, found[0]);
    }
    if (slider) {
      slider.value = String(time);
      slider.setAttribute("aria-valuetext", kimg[time] + " kimg");
      output.textContent = kimg[time] + " kimg";
    }
    if (shown) enlarge(shown);
  };

  const layOut = () => {
    for (const zoom of zooms) fit(zoom.firstElementChild, size.get(zoom), WIDTH, WIDTH);
    if (shown) enlarge(shown);
  };

  const column = (zoom) => zooms.filter((other) => other.closest("td").dataset.seed === zoom.closest("td").dataset.seed);
  const enlarge = (zoom) => {
    shown = zoom;
    const found = at(zoom) || pictures.get(zoom)[0];
    if (large.getAttribute("src") !== found[1]) large.src = found[1];
    large.alt = "samples of " + describe(zoom, found[0]);
    if (!dialog.open) dialog.showModal();
    const factor = fit(large, size.get(zoom), window.innerWidth * 0.94 - 40, window.innerHeight * 0.94 - 150);
    document.getElementById("enlarged-title").textContent = `${describe(zoom, found[0])}, ${factor}\u00d7`;
    const own = column(zoom);
    const ends = { earlier: time === 0, later: time === kimg.length - 1 };
    Object.assign(ends, { above: own[0] === zoom, below: own[own.length - 1] === zoom });
    for (const [step, ended] of Object.entries(ends)) {
      dialog.querySelector(`[data-step="${step}"]`).setAttribute("aria-disabled", String(ended));
    }
  };
  const step = (way) => {
    const own = column(shown);
    const place = own.indexOf(shown);
    if (way === "earlier" || way === "later") {
      time = Math.min(kimg.length - 1, Math.max(0, time + (way === "later" ? 1 : -1)));
      show();
    }
    if (way === "above" || way === "below") enlarge(own[place + (way === "below" ? 1 : -1)] || shown);
  };

  for (const zoom of zooms) zoom.addEventListener("click", () => enlarge(zoom));
  const KEYS = { ArrowLeft: "earlier", ArrowRight: "later", ArrowUp: "above", ArrowDown: "below" };
  dialog.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    step(KEYS[event.key]);
  });
  for (const button of dialog.querySelectorAll("button[type=button]")) {
    button.addEventListener("click", () => step(button.dataset.step));
  }
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    const back = shown;
    shown = null;
    if (back) back.focus();
  });
  if (slider) {
    slider.closest("p").hidden = false;
    slider.addEventListener("input", () => {
      time = Number(slider.value);
      show();
    });
  }

  // Another screen or zoom has other pixels
  const watch = () => {
    matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`).addEventListener("change", () => { layOut(); watch(); }, { once: true });
  };
  watch();
  window.addEventListener("resize", () => shown && enlarge(shown));
  layOut();
  show();
})();
