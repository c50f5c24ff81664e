// SPDX-License-Identifier: Apache-2.0
// Before the first paint: the theme that was chosen here, else the system's.
"use strict";
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* storage is switched off */ }
  const system = matchMedia("(prefers-color-scheme: dark)");
  const set = () => { document.documentElement.dataset.theme = chosen || (system.matches ? "dark" : "light"); };
  set();
  system.addEventListener("change", () => { set(); dispatchEvent(new Event("themechange")); });
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const tell = () => button.setAttribute("aria-pressed", String(document.documentElement.dataset.theme === "dark"));
    tell();
    button.addEventListener("click", () => {
      chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", chosen); } catch { /* it holds for this page */ }
      set();
      tell();
      dispatchEvent(new Event("themechange"));
    });
    addEventListener("themechange", tell);
  });
})();
