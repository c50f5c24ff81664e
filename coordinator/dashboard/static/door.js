// SPDX-License-Identifier: Apache-2.0
// The secret of a one-time link stands behind the #, which no server sees: it is sent from here, once.
"use strict";
(() => {
  const form = document.getElementById("door");
  const field = document.getElementById("token");
  const secret = (text) => text.slice(text.indexOf("#") + 1).trim();
  form.addEventListener("submit", () => { field.value = secret(field.value); });
  const send = () => {
    if (location.hash.length <= 1) return;
    field.value = secret(location.hash);
    history.replaceState(null, "", location.pathname);
    form.requestSubmit();
  };
  addEventListener("hashchange", send); // another link, opened in the tab that shows the door
  send();
})();
