// SPDX-License-Identifier: Apache-2.0
// Draws the charts of a page from their figures. Lines differ in colour, dash and mark; bars in colour and pattern.
"use strict";
(() => {
  const COLOURS = {
    light: ["#0b57a4", "#a3161c", "#0f6a35", "#6a3aa8", "#8a5200", "#00707a", "#9b2c72", "#4a5868"],
    dark: ["#86bdf7", "#ff9d9d", "#7fd6a0", "#c9a8ff", "#f2c063", "#6fd3dd", "#f3a0d3", "#c3ccd6"],
  };
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  // In the order of drawing: of rounds that overlap, what a site does lies above what it waits for.
  const PHASES = {
    waiting: ["#4f9d69", "\\"], "no update": ["#c9444b", "x"], queued: ["#8795a4", "."],
    "not reported": ["#7d6f8f", "-"],
    training: ["#2f7fcf", ""], uploading: ["#b07a12", "/"],
  };
  const SVG = "http://www.w3.org/2000/svg";
  const STROKES = { solid: "", dash: "6 3", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 4" };
  const PAUSE = window.dashboard?.CHART_PAUSE ?? 3000;
  const state = new WeakMap();

  function look() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    return { theme: document.documentElement.dataset.theme, text: value("--text"), back: value("--back"), line: value("--line") };
  }

  function layout(figures, colours, height) {
    const axis = { gridcolor: colours.line, zerolinecolor: colours.line, linecolor: colours.line, automargin: true };
    return {
      height, margin: { l: 50, r: 10, t: 10, b: 40 }, paper_bgcolor: colours.back, plot_bgcolor: colours.back,
      font: { color: colours.text, family: "system-ui, DejaVu Sans, sans-serif" }, hovermode: "closest",
      showlegend: false, uirevision: "keep",
      xaxis: { ...axis, title: { text: figures.x_title } }, yaxis: { ...axis, title: { text: figures.y_title } },
    };
  }

  function lines(figures, colours) {
    const palette = COLOURS[colours.theme] || COLOURS.light;
    const traces = [];
    figures.series.forEach((series, i) => {
      const colour = palette[i % palette.length];
      if (series.low) {
        const band = { x: series.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, type: "scatter" };
        traces.push({ ...band, y: series.low }, { ...band, y: series.high, fill: "tonexty", fillcolor: `${colour}22` });
      }
      traces.push({
        name: escaped(series.name), x: series.x, y: series.y, type: "scatter", connectgaps: false,
        mode: series.x.length > 60 ? "lines" : "lines+markers",
        line: { color: colour, width: 1.8, dash: DASHES[Math.floor(i / palette.length + i) % DASHES.length] },
        marker: { symbol: i % 24, size: 6 },
      });
    });
    return traces;
  }

  function bars(figures) {
    return Object.entries(PHASES).map(([phase, [colour, shape]]) => {
      const found = figures.bars.filter((bar) => bar.phase === phase);
      return {
        name: phase, type: "bar", orientation: "h", y: found.map((bar) => escaped(bar.lane)),
        base: found.map((bar) => local(bar.start)),
        x: found.map((bar) => (bar.end - bar.start) * 1000), text: found.map((bar) => escaped(bar.text)),
        hoverinfo: "text", textposition: "none",
        marker: {
          color: colour, line: { width: 1, color: "#00000055" },
          pattern: { shape, fillmode: "overlay", fgcolor: "#ffffff", fgopacity: 0.6, size: 6 },
        },
      };
    });
  }

  // As the tables beside: the library itself draws times as they are written, in no zone.
  function local(seconds) {
    return new Date(seconds * 1000 - new Date(seconds * 1000).getTimezoneOffset() * 60000).toISOString().slice(0, -1);
  }

  // The library reads a few tags in texts; a name of a site is never one.
  function escaped(text) {
    return String(text).slice(0, 300).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  }

  function unescaped(text) {
    return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  }

  // Only what is on the screen, or nearly: a page has several charts of a thousand rounds.
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.visible = isIntersecting;
      if (isIntersecting && target.stale !== false) draw(target);
    }
  }, { rootMargin: "300px" });

  async function draw(element) {
    element.stale = true;
    if (element.visible === undefined) seen.observe(element);
    if (!element.visible) return;
    element.stale = false;
    const mine = state.get(element) || { busy: false, again: false, at: 0 };
    state.set(element, mine);
    if (mine.busy) { mine.again = true; return; }
    mine.busy = true;
    const rest = mine.at + PAUSE - Date.now();
    if (rest > 0) await new Promise((done) => setTimeout(done, rest));
    try {
      const answer = await fetch(element.dataset.chart, { headers: { accept: "application/json" } });
      if (answer.ok) await show(element, await answer.json());
    } catch { /* the page says by itself that the dashboard is away */ }
    mine.busy = false;
    mine.at = Date.now();
    if (mine.again) { mine.again = false; draw(element); }
  }

  async function show(element, figures) {
    element.figures = figures;
    const colours = look();
    const isLanes = figures.lanes.length > 0;
    element.classList.toggle("lanes", isLanes);
    const height = isLanes ? 60 + 32 * figures.lanes.length : element.clientHeight || 300;
    const made = layout(figures, colours, height);
    if (isLanes) {
      Object.assign(made, { barmode: "overlay", bargap: 0.25 });
      made.xaxis.type = "date";
      made.xaxis.title = { text: "" };
      Object.assign(made.yaxis, { categoryorder: "array", categoryarray: figures.lanes.map(escaped).reverse(), title: { text: "" } });
    }
    const traces = isLanes ? bars(figures) : lines(figures, colours);
    for (const trace of traces) if (element.hiddenNames?.has(trace.name)) trace.visible = "legendonly";
    await Plotly.react(element, traces, made, { responsive: true, displaylogo: false, displayModeBar: false });
    tellLegend(element, traces.filter((trace) => trace.showlegend !== false));
    element.dataset.drawn = document.body.dataset.number;
  }

  // Our own: it takes the room that it needs, and each entry is a button that hides its line.
  function tellLegend(element, traces) {
    const legend = element.parentElement.querySelector(".legend");
    const told = JSON.stringify([document.documentElement.dataset.theme, traces.map((trace) => trace.name)]);
    if (legend.told === told) return;
    legend.told = told;
    legend.replaceChildren(...traces.map((trace) => {
      const entry = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!element.hiddenNames?.has(trace.name)));
      button.append(swatch(trace), unescaped(trace.name));
      button.addEventListener("click", () => toggle(element, button, trace.name));
      entry.append(button);
      return entry;
    }));
  }

  function toggle(element, button, name) {
    element.hiddenNames ||= new Set();
    const shown = element.hiddenNames.has(name);
    if (shown) element.hiddenNames.delete(name); else element.hiddenNames.add(name);
    button.setAttribute("aria-pressed", String(shown));
    show(element, element.figures);
  }

  function swatch(trace) {
    const made = document.createElementNS(SVG, "svg");
    const add = (tag, attributes) => {
      const part = document.createElementNS(SVG, tag);
      for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
      made.append(part);
    };
    const isBar = trace.type === "bar";
    for (const [key, value] of Object.entries({ width: 24, height: 12, "aria-hidden": "true" })) made.setAttribute(key, value);
    if (!isBar) {
      add("line", { x1: 0, y1: 6, x2: 24, y2: 6, stroke: trace.line.color, "stroke-width": 2.5, "stroke-dasharray": STROKES[trace.line.dash] });
      return made;
    }
    add("rect", { width: 24, height: 12, fill: trace.marker.color });
    const marks = { "/": "M2 12L12 0M12 12L22 0", "\\": "M2 0L12 12M12 0L22 12", x: "M2 0L12 12M12 0L22 12M2 12L12 0M12 12L22 0", ".": "M3 4h2M9 4h2M15 4h2M21 4h2M6 9h2M12 9h2M18 9h2" };
    const shape = marks[trace.marker.pattern.shape];
    if (shape) add("path", { d: shape, stroke: "#ffffff", "stroke-width": 2, fill: "none", opacity: 0.7 });
    return made;
  }

  window.drawCharts = (root) => { for (const element of root.querySelectorAll(".chart")) draw(element); };
  addEventListener("themechange", () => {
    for (const element of document.querySelectorAll(".chart")) if (element.figures) show(element, element.figures);
  });
  window.drawCharts(document);
})();
