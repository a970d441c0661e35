"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const steps = [...document.querySelectorAll("#steps > li")];
  const button = (li) => li.querySelector(".step");
  const graph = by("graph");
  const svg = graph && graph.querySelector("svg");
  const nodes = svg ? [...svg.querySelectorAll("a")] : [];

  // A step's details.
  const unfold = (li, open) => {
    button(li).setAttribute("aria-expanded", String(open));
    by(li.id + "-more").hidden = !open;
  };
  for (const li of steps) {
    button(li).addEventListener("click", () => unfold(li, by(li.id + "-more").hidden));
  }

  // A link to a step, from the path, the graph or another step, unfolds it and goes there.
  const go = () => {
    const li = steps.find((s) => "#" + s.id === location.hash);
    for (const n of nodes) n.classList.toggle("picked", li !== undefined && n.getAttribute("href") === "#" + li.id);
    if (li === undefined) return;
    if (li.hidden) {
      by("find").value = "";
      find();
    }
    unfold(li, true);
    button(li).focus();
  };
  document.addEventListener("click", (e) => {
    const a = e.target.closest("a[href^='#s']");
    if (a === null || a.getAttribute("href") === "#steps") return;
    e.preventDefault();
    history.replaceState(null, "", a.getAttribute("href"));
    go();
  });
  addEventListener("hashchange", go);

  // Find: all words, in any order, in the label, what made it, and how it ended.
  const texts = steps.map((li) => (button(li).textContent + " " + li.querySelector(".about").textContent).toLowerCase());
  const find = () => {
    const words = by("find").value.toLowerCase().split(/\s+/).filter((w) => w !== "");
    let n = 0;
    steps.forEach((li, i) => {
      const match = words.every((w) => texts[i].includes(w));
      li.hidden = !match;
      if (nodes[i]) nodes[i].classList.toggle("dim", !match);
      if (match) n++;
    });
    by("found").textContent = words.length === 0 ? steps.length + " steps" : n + " of " + steps.length + " steps";
  };
  by("find").addEventListener("input", find);

  // The arrow keys go from step to step.
  by("steps").addEventListener("keydown", (e) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (by === undefined || !e.target.classList.contains("step")) return;
    const shown = steps.filter((li) => !li.hidden);
    const next = shown[shown.findIndex((li) => li.contains(e.target)) + by];
    if (next) {
      e.preventDefault();
      button(next).focus();
    }
  });

  // Zoom: of the picture, or of the time.
  let zoom = 1;
  const show = () => {
    if (svg) {
      const box = svg.viewBox.baseVal;
      svg.setAttribute("width", box.width * zoom);
      svg.setAttribute("height", box.height * zoom);
      return;
    }
    const list = by("steps");
    const from = by("from");
    if (!from) return;
    from.max = String(100 - 100 / zoom);
    from.disabled = zoom === 1;
    list.style.setProperty("--zoom", zoom);
    list.style.setProperty("--from", from.value);
    const percent = (p) => Math.round(p * 10) / 10 + "%";
    by("window").textContent = percent(Number(from.value)) + " to " + percent(Number(from.value) + 100 / zoom) + " of " + list.dataset.ends;
    from.setAttribute("aria-valuetext", by("window").textContent);
  };
  const scale = (factor) => {
    zoom = Math.min(1000, Math.max(svg ? 0.05 : 1, zoom * factor));
    show();
  };
  if (by("in")) {
    by("in").addEventListener("click", () => scale(1.5));
    by("out").addEventListener("click", () => scale(1 / 1.5));
  }
  if (by("fit")) {
    by("fit").addEventListener("click", () => {
      zoom = Math.min(1, graph.clientWidth / svg.viewBox.baseVal.width);
      show();
    });
  }
  if (by("from")) {
    by("from").addEventListener("input", show);
    show();
  }
  go();
})();
