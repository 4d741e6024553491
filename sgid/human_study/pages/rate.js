// Without this file the page works by its form alone; here are keys, seconds, and trying again.
// It runs before the page is shown, so that no click comes before it listens.
"use strict";
const GUARD = 500; // ms in which a second click, tap or key must not answer a question unseen
const RETRY = 1500; // ms
const PASSING = [408, 425, 429]; // of the statuses that blame the request: worth another try
let form, state, keys, images;

// Seconds in which the page was visible, on top of those of an earlier answer.
let counted = 0;
let since = null;
function count() {
  const now = performance.now();
  if (since !== null) counted += now - since;
  since = document.visibilityState === "visible" ? now : null;
}
document.addEventListener("visibilitychange", count);

let opened = Infinity; // when the page is long enough there for any answer
let ready = Infinity; // when all images are, for a rating
let busy = false;

const lacking = () => images.some((image) => !(image.complete && image.naturalWidth));
const LOADING = "The images are still loading …";
function look() {
  if (ready !== Infinity || lacking()) return;
  ready = performance.now() + GUARD;
  if (!busy) state.textContent = "";
}

function again(image) {
  if (!busy) state.textContent = LOADING;
  setTimeout(() => { image.src = image.src; }, RETRY);
}

function offer(value) {
  if (busy || performance.now() < opened) return;
  if (value !== "skip" && performance.now() < ready) {
    if (lacking()) state.textContent = LOADING;
    return;
  }
  send(value);
}

async function send(value) {
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
      if (answer.status >= 400 && answer.status < 500 && !PASSING.includes(answer.status)) {
        state.textContent = `This answer was not saved (${answer.status}). Load this page again. ` +
          "If that does not help, ask whoever sent you the link.";
        busy = false;
        form.removeAttribute("aria-busy");
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

document.addEventListener("submit", (event) => {
  if (event.target.id !== "rate") return;
  event.preventDefault();
  if (event.submitter) offer(event.submitter.value);
});

document.addEventListener("DOMContentLoaded", () => {
  [form, state, keys] = ["rate", "state", "keys"].map((id) => document.getElementById(id));
  images = [...document.images];
  for (const image of images) {
    image.addEventListener("load", look);
    image.addEventListener("error", () => again(image));
    if (image.complete && !image.naturalWidth) again(image); // failed before this was here
  }
  counted += 1000 * Number(form.dataset.seconds);
  count();
  opened = performance.now() + GUARD;
  look();
  document.getElementById("help")?.addEventListener("click", (event) => {
    event.preventDefault();
    keys.showModal();
  });
});

document.addEventListener("keydown", (event) => {
  if (opened === Infinity || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "?") {
    if (keys.open) keys.close(); else keys.showModal();
  } else if (keys.open || busy) {
    return;
  } else if (event.key === "ArrowLeft") {
    document.getElementById("back")?.click();
  } else if (event.key === "ArrowRight") {
    document.getElementById("on")?.click();
  } else if (/^[0-5]$/.test(event.key)) {
    offer(event.key === "0" ? "skip" : event.key);
  }
});

// A page kept by the browser may show an answer that has been corrected since.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
