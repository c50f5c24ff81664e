// SPDX-License-Identifier: Apache-2.0
// Keeps a page up to date: the server sends its changed content, charts are fetched again. Works on without this, too.
"use strict";
(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  const CHART_PAUSE = 3000;
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "narrow" });
  const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" });
  const ofDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function inWords(seconds) {
    const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) || UNITS[3];
    return relative.format(Math.round(seconds / length), unit);
  }

  // Local time, with UTC on hover; near ones say how long ago they are.
  function tellTimes() {
    for (const element of main.querySelectorAll("time[datetime]")) {
      const at = Date.parse(element.dateTime);
      if (Number.isNaN(at)) continue;
      const seconds = (at - Date.now()) / 1000;
      const text = Math.abs(seconds) < 86400 ? `${ofDay.format(at)} (${inWords(seconds)})` : absolute.format(at);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  // What a reader has opened, focused or scrolled stays so when the content is replaced.
  function swap(html) {
    const top = window.scrollY;
    const active = document.activeElement;
    const focus = active && main.contains(active) ? pathOf(active) : null;
    const opened = [...main.querySelectorAll("details[open]")].map((element) => element.id);
    const scrolled = new Map([...main.querySelectorAll(".scroll")].map((e, i) => [i, e.scrollLeft]));
    const typed = main.querySelector("#q")?.value;
    const plots = new Map([...main.querySelectorAll(".plot")].map((element) => [element.id, element]));
    const next = document.createElement("div");
    next.innerHTML = html;
    for (const element of next.querySelectorAll(".plot")) {
      const old = plots.get(element.id);
      if (!old) continue;
      const [chart, fresh] = [old, element].map((each) => each.querySelector(".chart"));
      chart.dataset.chart = fresh.dataset.chart;
      chart.setAttribute("aria-label", fresh.getAttribute("aria-label"));
      element.replaceWith(old);
    }
    main.replaceChildren(...next.childNodes);
    for (const id of opened) { const element = document.getElementById(id); if (element) element.open = true; }
    main.querySelectorAll(".scroll").forEach((element, i) => { element.scrollLeft = scrolled.get(i) || 0; });
    const field = main.querySelector("#q");
    if (field && typed !== undefined) field.value = typed;
    if (focus) elementAt(focus)?.focus({ preventScroll: true });
    tellTimes();
    if (window.scrollY !== top) window.scrollTo({ top, behavior: "instant" });
    window.drawCharts?.(main);
  }

  function pathOf(element) {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const parts = [];
    for (let at = element; at && at !== main; at = at.parentElement) {
      parts.unshift(`:scope > *:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
    }
    return parts;
  }

  function elementAt(path) {
    if (typeof path === "string") return document.querySelector(path);
    return path.reduce((at, part) => at && at.querySelector(part), main);
  }

  function tell(text, lost) {
    if (live.textContent !== text) live.textContent = text;
    live.classList.toggle("lost", lost);
  }

  const AWAY = "The dashboard cannot be reached; this is what was known last";
  const BUSY = "Too many requests from here; this is what was known last";
  const OVER = "The session is over; enter with a new link";
  let wait = 1000;
  let source = null;
  let timer = 0;
  function follow() {
    source = new EventSource(`/events?page=${encodeURIComponent(document.body.dataset.page)}`);
    source.addEventListener("hello", () => { wait = 1000; tell("Live", false); });
    source.addEventListener("main", (event) => {
      const { number, html } = JSON.parse(event.data);
      document.body.dataset.number = number;
      swap(html);
    });
    source.addEventListener("gone", () => { rest(); again(OVER); });
    source.onerror = () => { rest(); again(AWAY); };
  }

  function rest() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  // A browser has six connections for all its tabs: one that nobody sees must not keep another page from loading.
  function attend() {
    if (document.hidden) { rest(); return; }
    if (source) return;
    rest();
    lookAgain();
  }

  function again(why) {
    tell(why, true);
    if (!document.hidden) timer = setTimeout(lookAgain, wait);
    wait = Math.min(wait * 2, 30000);
  }

  // A stream says nothing of why it was refused: after a restart, links have to be asked for again.
  async function lookAgain() {
    try {
      const answer = await fetch(document.body.dataset.page, { method: "HEAD", headers: { accept: "text/event-stream" } });
      if (source || document.hidden) return;
      if (answer.status === 401) again(OVER); else if (answer.status === 429) again(BUSY); else follow();
    } catch { again(AWAY); }
  }

  function loadCharts() {
    if (!main.querySelector(".chart")) return;
    for (const name of ["plotly.js", "charts.js"]) {
      const script = document.createElement("script");
      script.src = `/static/${name}`;
      script.async = false;
      document.head.append(script);
    }
  }

  const zone = document.getElementById("zone");
  if (zone) zone.textContent = `Times are local (${Intl.DateTimeFormat().resolvedOptions().timeZone}), with UTC on hover.`;
  window.dashboard = { CHART_PAUSE };
  tellTimes();
  setInterval(tellTimes, 10000);
  addEventListener("pagehide", () => main.blur());
  document.addEventListener("visibilitychange", attend);
  if (!document.hidden) follow();
  loadCharts();
})();
