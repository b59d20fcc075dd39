"use strict";
(() => {
  const POLL_MS = 2000, LEAST_MS = 5000;
  const at = (id) => document.getElementById(id);
  const frames = at("frames"), stop = at("stop");
  const token = (() => {  // it came behind the #, which no server sees; kept for a reload of this tab
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      sessionStorage.setItem("token", given);
      history.replaceState(null, "", location.pathname);
    }
    return given || sessionStorage.getItem("token");
  })();
  let shown = null, drawn = 0, loading = false, asked = false;

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const row = (trial) => {
    const made = element("tr"), done = element("td", undefined, "done"), meter = element("progress");
    meter.max = trial.total_kimg;
    meter.value = trial.kimg;
    meter.setAttribute("aria-label", `${trial.cell}, seed ${trial.seed}`);
    done.append(meter);
    made.append(
      element("td", trial.cell, "cell"), element("td", trial.seed, "n seed"), done,
      element("td", trial.kimg_text, "n kimg"), element("td", trial.img_per_s, "n rate"),
      element("td", trial.loss, "n loss"), element("td", trial.left, "n left"), element("td", trial.text),
    );
    return made;
  };

  const show = (state) => {
    document.title = `${state.percent} % ${state.name}: diffsweep watch`;
    at("said").textContent = state.said;
    at("driver").textContent = state.driver;
    at("notes").replaceChildren(...state.notes.map((note) => element("li", note)));
    at("running").replaceChildren(...state.running.map(row));
    at("more").hidden = !state.running.length && !state.cells.length;
    at("cells").replaceChildren(...state.cells.map((cell) => {
      const item = element("li");
      item.append(element("b", cell.cell), ` ${cell.text}`);
      return item;
    }));
    const meter = at("meter");
    meter.setAttribute("aria-valuenow", state.percent);
    meter.replaceChildren(...Object.entries(state.shares).map(([kind, share]) => {
      const part = element("i", undefined, kind);
      part.style.width = `${100 * share}%`;
      return part;
    }));
    stop.hidden = !token;
    stop.disabled = asked || !state.at_work;
    if (!state.at_work) asked = false;
    stop.textContent = asked ? "Stopping ..." : "Stop the run";
  };

  const load = (version) => {  // beside the old report, which stays until the new one is there
    const old = frames.querySelector("iframe:not(.next)"), next = element("iframe", undefined, "next");
    const begun = performance.now();
    loading = true;
    next.title = "report";
    next.src = `/report?version=${encodeURIComponent(version)}`;
    next.addEventListener("load", () => {
      if (old) next.contentWindow.scrollTo(0, old.contentWindow.scrollY);
      next.classList.remove("next");
      at("drawing")?.remove();
      old?.remove();
      loading = false;
      shown = version;
      drawn = performance.now() + 2 * (drawn ? performance.now() - begun : 0);
    }, { once: true });
    frames.append(next);
  };

  const poll = async () => {
    if (document.hidden) return;
    try {
      const state = await (await fetch("/state")).json();
      show(state);
      if (state.version !== shown && !loading && performance.now() - drawn > (drawn ? LEAST_MS : -1)) load(state.version);
    } catch {
      at("driver").textContent = "diffsweep watch does not answer any more: start it again, and reload this page. The run itself goes on.";
      stop.disabled = true;
    }
  };

  stop.addEventListener("click", async () => {
    if (!confirm("Stop the run? Nothing is lost: the same command continues it.")) return;
    asked = true;
    const answer = await fetch("/stop", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    if (!answer.ok) {
      asked = false;
      alert((await answer.json()).error);
    }
    poll();
  });

  document.addEventListener("visibilitychange", poll);
  setInterval(poll, POLL_MS);
  poll();
})();
