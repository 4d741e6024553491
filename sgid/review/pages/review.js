// Verdicts by key, click and tap. A verdict is shown at once and sent; until the server has said
// that it is on the disk, it is kept in the browser's own storage, and tried again, also by the
// next page, or after the browser was closed.
"use strict";
const RETRY = 1000; // ms
const PASSING = [408, 425, 429]; // of the statuses that blame the request: worth another try
const by = (id) => document.getElementById(id);
const SMALL = 128; // px below which an image is shown with its pixels, not blurred
const main = document.querySelector("main[data-content]");
const tiles = [...document.querySelectorAll(".tile")];
const tileOf = new Map(tiles.map((tile) => [Number(tile.dataset.row), tile]));
let chosen = null;

function kept(storage, name) {
  try { return JSON.parse(storage.getItem(name)) ?? []; } catch { return []; }
}
function keep(storage, name, value) {
  try { storage.setItem(name, JSON.stringify(value)); } catch { /* then in this page alone */ }
}
const store = main ? `sgid-review-${main.dataset.content}` : "";
let unsaved = main ? kept(localStorage, store) : []; // [{rows, verdict}], the oldest first
let given = main ? kept(sessionStorage, `${store}-given`) : []; // [{rows, before}], the last is undone first

function show() {
  if (!tiles.length) return; // the page of all classes
  by("left").textContent = `${tiles.filter((tile) => !tile.dataset.verdict).length} left`;
  const waiting = new Set(unsaved.flatMap((one) => one.rows));
  for (const [row, tile] of tileOf) tile.classList.toggle("unsaved", waiting.has(row));
}

function mark(rows, verdict) {
  for (const row of rows) {
    const tile = tileOf.get(row);
    if (tile) tile.dataset.verdict = verdict ?? "";
  }
}

let sending = false;
async function send() {
  if (sending) return;
  sending = true;
  while (unsaved.length) {
    const [first] = unsaved;
    let problem = "";
    try {
      const answer = await fetch(main.dataset.post, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(first),
      });
      const refused = answer.status >= 400 && answer.status < 500;
      if (answer.ok) {
        by("state").textContent = "";
      } else if (refused && !PASSING.includes(answer.status)) {
        by("state").textContent = `A verdict was not saved (${answer.status}). Load this page again.`;
        mark(first.rows, null);
      } else {
        problem = `The server cannot save (${answer.status})`;
      }
    } catch {
      problem = "The server cannot be reached";
    }
    if (problem) {
      const count = unsaved.flatMap((one) => one.rows).length;
      by("state").textContent = `${problem}: ${count} not saved yet. Trying again …`;
      await new Promise((done) => setTimeout(done, RETRY));
    } else {
      unsaved.shift();
      keep(localStorage, store, unsaved);
      show();
    }
  }
  sending = false;
}

function decide(rows, verdict) {
  if (!rows.length) return;
  unsaved.push({ rows, verdict });
  keep(localStorage, store, unsaved);
  mark(rows, verdict);
  show();
  send();
}

function choose(tile) {
  if (!tile) return;
  chosen?.classList.remove("chosen");
  chosen = tile;
  tile.classList.add("chosen");
  tile.focus({ preventScroll: true });
  tile.scrollIntoView({ block: "nearest" });
}

function give(verdict) {
  if (!chosen) return;
  remember([Number(chosen.dataset.row)], chosen.dataset.verdict, verdict);
  const at = tiles.indexOf(chosen);
  const open = (tile) => !tile.dataset.verdict;
  const next = tiles.slice(at + 1).find(open) ?? tiles.find(open);
  if (next) choose(next); else by("on").focus();
}

function remember(rows, before, verdict) {
  given.push({ rows, before: before || null });
  keep(sessionStorage, `${store}-given`, given);
  decide(rows, verdict);
}

function undo() {
  const last = given.pop();
  if (!last) return;
  keep(sessionStorage, `${store}-given`, given);
  decide(last.rows, last.before);
  choose(tileOf.get(last.rows[0]));
}

function acceptRest() {
  const rows = tiles.filter((tile) => !tile.dataset.verdict).map((tile) => Number(tile.dataset.row));
  if (!rows.length) return;
  remember(rows, null, "accept");
  by("on").focus();
}

function move(across, down) {
  const at = tiles.indexOf(chosen);
  if (!down) { choose(tiles[at + across]); return; }
  // The nearest image of the next row, as the page lays them out.
  const here = chosen.getBoundingClientRect();
  const places = tiles.map((tile) => [tile, tile.getBoundingClientRect()]);
  const beyond = places.filter(([, box]) => down * (box.top - here.top) > here.height / 2);
  const distance = ([, box]) => Math.abs(box.top - here.top) * 10 + Math.abs(box.left - here.left);
  beyond.sort((a, b) => distance(a) - distance(b));
  choose(beyond[0]?.[0]);
}

function look() {
  if (!chosen) return;
  by("close-original").src = chosen.closest(".group").querySelector(".source img").src + "?whole";
  by("close-image").src = chosen.querySelector("img").src + "?whole";
  by("close").showModal();
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const open = document.querySelector("dialog[open]");
  if (open) {
    if (["z", "?"].includes(event.key)) open.close();
    return;
  }
  const does = {
    a: () => give("accept"), r: () => give("reject"), u: undo, A: acceptRest, z: look,
    ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1),
    Enter: () => by("on").click(), Escape: () => by("home").click(),
    "?": () => by("keys").showModal(),
  }[event.key];
  if (!does || (event.repeat && !event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  does();
}

function pixels(image) {
  const small = () => image.classList.toggle("small", image.naturalWidth < SMALL);
  if (image.complete && image.naturalWidth) small();
  image.addEventListener("load", small);
  image.addEventListener("error", () => setTimeout(() => { image.src = image.src; }, RETRY));
}

if (tiles.length) {
  for (const one of unsaved) mark(one.rows, one.verdict);
  for (const tile of tiles) {
    tile.addEventListener("click", () => { if (tile === chosen) look(); else choose(tile); });
  }
  for (const image of main.querySelectorAll("img")) pixels(image);
  for (const id of ["close-original", "close-image"]) {
    by(id).addEventListener("load", () => by(id).classList.toggle("small", by(id).naturalWidth < SMALL));
  }
  by("accept").addEventListener("click", () => give("accept"));
  by("reject").addEventListener("click", () => give("reject"));
  by("undo").addEventListener("click", undo);
  by("rest").addEventListener("click", acceptRest);
  by("help").addEventListener("click", () => by("keys").showModal());
  document.addEventListener("keydown", onKey);
  choose(tiles.find((tile) => !tile.dataset.verdict) ?? tiles[0]);
  show();
  send();
} else if (main && unsaved.length) {
  send().then(() => location.reload()); // its counts are of before
}

// A page kept by the browser may show verdicts that have changed since.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
