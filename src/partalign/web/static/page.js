// The page: what is searched for, its results, and what the user decides about them.

import * as admin from "./admin.js";
import * as api from "./api.js";
import * as filter from "./filters.js";
import { showTimeline } from "./timeline.js";
import { card, make } from "./view.js";
import { showWhy } from "./why.js";

const byId = (id) => document.getElementById(id);
const cards = byId("cards"), filters = byId("filters"), why = byId("why"), keys = byId("keys"), toast = byId("toast");
const { mayEdit, mayAdmin, pictures } = document.body.dataset;
const PAGE = 48;

const state = {
  subject: null, // {query}, {like: [id]} or {tracklet, camera}; null shows all crops
  person: null, // whose the pictures are, once that is known
  known: [], // records of that person
  items: [], // [{record, match}] in the order shown; match is null for all crops
  at: 0, // the card that has the focus, or had it last
};
const decisions = []; // what to take back, newest last
// Answers may come in another order than their requests, so that only the newest one's counts:
let latest = 0; // number of the newest request for results
let chosen = 0; // number of the newest choice of what to search by

// Searching

async function load(more = false) {
  const number = ++latest;
  cards.ariaBusy = "true";
  say("");
  try {
    const offset = more ? state.items.length : 0;
    const found = state.subject ? await searched(offset) : await listed(offset);
    if (number !== latest) return;
    state.items = more ? [...state.items, ...found.items] : found.items; // a new list: see `after`
    state.person = found.person;
    state.known = found.known;
    if (!more) state.at = 0;
    show();
    byId("more").hidden = !found.further;
    say(found.said);
    if (more) focus(offset);
  } catch (error) {
    if (number === latest) say(`${error.message}.`);
  } finally {
    if (number === latest) cards.ariaBusy = "false";
  }
}

async function searched(offset) {
  const found = await api.search({
    ...state.subject, person: state.person, where: filter.where(), limit: PAGE, offset, ...filter.options(state.subject),
  });
  const items = found.matches.map((match) => ({ record: match.record, match }));
  return { items, person: found.person, known: await knownOf(found.person), further: found.further, said: filter.meaning() };
}

async function listed(offset) {
  const parameters = new URLSearchParams({ limit: PAGE, offset });
  for (const [name, value] of Object.entries(filter.where())) {
    for (const item of [value].flat()) parameters.append(name, item);
  }
  const found = await api.records(parameters);
  const further = offset + found.records.length < found.total;
  const said = `${found.total.toLocaleString()}. Pick one to search by it.`;
  return { items: found.records.map((record) => ({ record, match: null })), person: null, known: [], further, said };
}

async function knownOf(person) {
  if (person === null) return [];
  return (await api.records(new URLSearchParams({ persons: person, limit: 1000 }))).records;
}

function begin(subject, images, name) {
  chosen++;
  state.subject = subject;
  state.person = null;
  decisions.length = 0;
  why.close();
  byId("sought").hidden = subject === null;
  byId("sought-pictures").replaceChildren(...images);
  byId("sought-name").textContent = name;
  load();
}

function searchBy(subject) {
  const address = `#${new URLSearchParams(subject)}`;
  if (location.hash === address) followHash();
  else location.hash = address;
}

function searchByTracklet() {
  const { tracklet, camera } = state.items[state.at]?.record ?? {};
  if (tracklet) searchBy(camera === null ? { tracklet } : { tracklet, camera });
}

// The address names what is searched by, so that going back and reloading work; pictures have no address.
async function followHash() {
  const { like, tracklet, camera } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!like && !tracklet) return begin(null, [], "");
  scrollTo({ top: 0 });
  const number = ++chosen;
  const shown = like ? [await api.record(like).catch(() => null)] : await crops(tracklet, camera);
  if (number !== chosen) return;
  const said = [shown[0]?.person, tracklet && `tracklet ${tracklet}`, shown[0]?.camera].filter(Boolean).join(" · ");
  const images = shown.filter(Boolean).map(({ id }) => // none where it was removed since
    make("img", { src: api.thumbnail(id), alt: `${like ? "The crop" : "A crop of the tracklet"} that is searched by` }));
  begin(like ? { like: [like] } : camera ? { tracklet, camera } : { tracklet }, images, said);
}

// Some crops of a tracklet: as many as stand side by side.
async function crops(tracklet, camera) {
  const parameters = new URLSearchParams({ tracklets: tracklet, limit: 3 });
  if (camera) parameters.set("cameras", camera);
  return (await api.records(parameters).catch(() => ({ records: [] }))).records;
}

async function send(files) {
  const pictured = [...files].filter((file) => file.type.startsWith("image/"));
  if (!pictured.length) return say("That was no picture.");
  if (pictured.length > Number(pictures)) return say(`At most ${pictures} pictures of one person at once.`);
  say("Looking at the picture…");
  const number = ++chosen;
  try {
    const { query } = await api.send(pictured);
    if (number !== chosen) return;
    const images = pictured.map((file) => make("img", { src: URL.createObjectURL(file), alt: `Your picture ${file.name}` }));
    history.replaceState(null, "", location.pathname);
    begin({ query }, images, pictured.map((file) => file.name).join(", "));
  } catch (error) {
    if (number === chosen) say(`${error.message}.`);
  }
}

// Showing

function show() {
  filter.fit(state.subject);
  byId("title").textContent = state.subject ? "Most similar crops" : "All crops";
  cards.replaceChildren(...state.items.map(({ record, match }, i) => {
    const button = card(record, match, state.person);
    button.addEventListener("click", () => open(i));
    button.addEventListener("focus", () => rove(i));
    return make("li", {}, button);
  }));
  if (!state.items.length) cards.append(make("li", { className: "empty" }, "Nothing passes these filters."));
  rove(Math.min(state.at, state.items.length - 1));
  showSightings();
}

function showSightings() {
  const found = state.subject ? state.items : [];
  const listedIds = new Set(found.map(({ record }) => record.id));
  const known = state.known.filter(({ id }) => !listedIds.has(id)).map((record) => ({ record, match: null }));
  const seen = [...found, ...known].map((item) => ({ ...item, same: state.person !== null && item.record.person === state.person }));
  showTimeline(byId("timeline"), seen, ({ id }) => {
    const place = state.items.findIndex(({ record }) => record.id === id);
    if (place >= 0) open(place); else searchBy({ like: id });
  });
}

function say(line) {
  byId("status").textContent = line;
}

const buttons = () => cards.querySelectorAll(".card");

function rove(i) {
  state.at = Math.max(0, i);
  buttons().forEach((button, n) => { button.tabIndex = n === state.at ? 0 : -1; });
}

function focus(i) {
  buttons()[i]?.focus();
}

let opened = 0; // a dialog that closes gives the focus back to where it was opened, not to where it was led

function open(i) {
  rove(i);
  opened = i;
  const { record, match } = state.items[i];
  if (!match) return searchBy({ like: record.id });
  byId("why-tracklet").hidden = !record.tracklet;
  showWhy(state.subject, match, filter.persons());
}

// Deciding

async function decide(same) {
  const { items, at, subject, person } = state, item = items[at];
  if (mayEdit !== "true" || !item?.match) return;
  try {
    const done = await api.decide({ ...subject, record: item.record.id, same, person });
    item.record = await api.record(item.record.id);
    const said = same ? `Confirmed as ${done.person}.` : `Not ${done.person}: not shown for this person again.`;
    if (state.subject !== subject) return notify(said, false);
    decisions.push({ before: done.before, items, item, at, same });
    state.person = done.person;
    if (!same) drop(items, item);
    await after(items, at, said);
  } catch (error) {
    notify(`${error.message}.`, false);
  }
}

async function undo() {
  const last = decisions.pop(), { subject } = state;
  if (!last) return;
  try {
    for (const { id, person, tags } of last.before) await api.change(id, { person, tags });
    last.item.record = await api.record(last.item.record.id);
    if (state.subject !== subject) return notify("Taken back.", false);
    if (!last.same) last.items.splice(last.at, 0, last.item);
    await after(last.items, last.at, "Taken back.");
  } catch (error) {
    notify(`${error.message}.`, false);
  }
}

async function remove() {
  const { items, at } = state, item = items[at];
  if (mayAdmin !== "true" || !item) return;
  const text = "Its descriptor and small picture are deleted; the picture file stays. This cannot be taken back.";
  if (!await admin.ask("Remove this crop from the gallery?", text, "Remove")) return;
  try {
    await api.remove(item.record.id);
    drop(items, item);
    await after(items, at, "Removed.", false);
  } catch (error) {
    notify(`${error.message}.`, false);
  }
}

function drop(items, item) {
  const place = items.indexOf(item);
  if (place >= 0) items.splice(place, 1);
}

// Show what a change left of a list; where that was or is being fetched again, fetch it: the answer may be from before.
async function after(items, at, said, canUndo = decisions.length > 0) {
  const known = await knownOf(state.person);
  const wasOpen = why.open;
  if (state.items !== items || cards.ariaBusy === "true") {
    why.close();
    notify(said, canUndo);
    return load();
  }
  state.known = known;
  state.at = Math.min(at, state.items.length - 1);
  show();
  if (wasOpen && state.items.length) open(Math.max(0, state.at));
  else { opened = state.at; why.close(); focus(opened); }
  notify(said, canUndo);
}

let hiding;
function notify(line, canUndo) {
  toast.firstElementChild.textContent = line;
  toast.lastElementChild.hidden = !canUndo;
  toast.hidden = false;
  (why.open ? why : document.body).append(toast); // what is behind an open dialog cannot be clicked
  clearTimeout(hiding);
  hiding = setTimeout(() => { toast.hidden = true; }, 8000);
}

function step(by) {
  const i = state.at + by;
  if (i >= 0 && i < state.items.length) open(i);
}

// Keys

function columns() {
  const tops = [...buttons()].map((button) => button.getBoundingClientRect().top);
  const second = tops.findIndex((top) => top > tops[0] + 1);
  return second < 0 ? tops.length : second;
}

const MOVES = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: () => columns() };
const ACTIONS = {
  c: () => decide(true),
  r: () => decide(false),
  u: undo,
  s: () => state.items.length && searchBy({ like: state.items[state.at].record.id }),
  t: searchByTracklet,
  Delete: remove,
  "/": () => { why.close(); byId("filter-box").open = true; filters.querySelector("input, select").focus(); },
  "?": () => keys.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("select, input:not([type=checkbox])");
  if (admin.busy()) return;
  if (event.key === "Escape" && !why.open && !keys.open) return back();
  if (typing || keys.open) return;
  if (event.key in MOVES) {
    if (why.open) step(Math.sign(MOVES[event.key]()));
    else if (event.target.closest("#cards") || event.target === document.body) {
      const i = state.at + (event.target.closest(".card") ? MOVES[event.key]() : 0);
      if (i >= 0 && i < state.items.length) focus(i);
    } else return;
    event.preventDefault();
  } else if (event.key in ACTIONS) {
    event.preventDefault();
    ACTIONS[event.key]();
  }
});

function back() {
  const active = document.activeElement;
  if (active.closest("aside")) return focus(state.at);
  if (location.hash) history.back();
  else if (state.subject) begin(null, [], "");
}

// Wiring

why.addEventListener("close", () => focus(opened));
byId("why-close").addEventListener("click", () => why.close());
byId("why-search").addEventListener("click", ACTIONS.s);
byId("why-tracklet").addEventListener("click", ACTIONS.t);
byId("why-remove")?.addEventListener("click", ACTIONS.Delete);
byId("why-confirm")?.addEventListener("click", ACTIONS.c);
byId("why-reject")?.addEventListener("click", ACTIONS.r);
for (const button of why.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => step(Number(button.dataset.step)));
}
toast.lastElementChild.addEventListener("click", undo);
byId("keys-button").addEventListener("click", ACTIONS["?"]);
byId("keys-close").addEventListener("click", () => keys.close());
byId("more").addEventListener("click", () => load(true));
byId("clear").addEventListener("click", () => {
  if (location.hash) location.hash = ""; else begin(null, [], "");
});
filters.addEventListener("change", () => load());
filters.addEventListener("reset", () => setTimeout(load));
filters.addEventListener("submit", (event) => event.preventDefault());

const file = byId("file");
file.addEventListener("change", () => { send(file.files); file.value = ""; });
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) send(event.clipboardData.files);
});
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (carriesFiles(event)) { event.preventDefault(); byId("veil").hidden = false; }
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("veil").hidden = true; });
addEventListener("drop", (event) => {
  byId("veil").hidden = true;
  if (carriesFiles(event)) { event.preventDefault(); send(event.dataTransfer.files); }
});

if (matchMedia("(max-width: 760px)").matches) byId("filter-box").open = false;
addEventListener("hashchange", followHash);
addEventListener("resize", showSightings);
followHash();
