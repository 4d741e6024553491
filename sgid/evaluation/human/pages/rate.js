// Without this file the page works by its form alone; here are keys, seconds, and trying again.
"use strict";
const form = document.getElementById("rate");
const state = document.getElementById("state");
const keys = document.getElementById("keys");
const GUARD = 250; // ms in which a key pressed twice must not answer a question unseen
const RETRY = 1500; // ms

// Seconds in which the page was visible, on top of those of an earlier answer.
let counted = 1000 * Number(form.dataset.seconds);
let since = null;
function count() {
  const now = performance.now();
  if (since !== null) counted += now - since;
  since = document.visibilityState === "visible" ? now : null;
}
document.addEventListener("visibilitychange", count);
count();

let ready = performance.now() + GUARD;
window.addEventListener("load", () => { ready = performance.now() + GUARD; });
let busy = false;

async function send(value) {
  if (busy) return;
  busy = true;
  form.setAttribute("aria-busy", "true");
  count();
  const body = new URLSearchParams({ value, seconds: (counted / 1000).toFixed(2) });
  for (;;) {
    try {
      const answer = await fetch(form.action, { method: "POST", body });
      if (answer.ok) {
        location.assign(answer.url);
        return;
      }
      state.textContent = `This answer was not saved (${answer.status}). Trying again …`;
    } catch {
      state.textContent = "The server cannot be reached: this answer is not saved yet. " +
        "Trying again …";
    }
    await new Promise((done) => setTimeout(done, RETRY));
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter) send(event.submitter.value);
});

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "?") {
    if (keys.open) keys.close(); else keys.showModal();
  } else if (keys.open || busy) {
    return;
  } else if (event.key === "ArrowLeft") {
    document.getElementById("back")?.click();
  } else if (event.key === "ArrowRight") {
    document.getElementById("on")?.click();
  } else if (/^[0-5]$/.test(event.key) && document.readyState === "complete" &&
             performance.now() > ready) {
    send(event.key === "0" ? "skip" : event.key);
  }
});

document.getElementById("help")?.addEventListener("click", (event) => {
  event.preventDefault();
  keys.showModal();
});
// A page kept by the browser may show an answer that has been corrected since.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
