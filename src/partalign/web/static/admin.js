// What only administrators may: remove, forget, read the log. Nothing is removed without a second question.

import * as api from "./api.js";
import { FIRST_DATE, make } from "./view.js";

const byId = (id) => document.getElementById(id);
const admin = byId("admin"), sure = byId("sure");
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DATES = ["time", "since", "until", "added_since", "added_until", "older_than", "before"]; // as in gallery/times.py
const MOST = 1000; // lines that the server gives
let lines = 100, forgotten = false;

export const busy = () => Boolean(admin?.open || sure?.open);

// Ask before what cannot be taken back; resolves to whether it is to be done.
export function ask(title, text, verb) {
  byId("sure-title").textContent = title;
  byId("sure-text").textContent = text;
  byId("sure-yes").textContent = verb;
  sure.returnValue = "";
  sure.showModal();
  return new Promise((resolve) => {
    sure.addEventListener("close", () => resolve(sure.returnValue === "yes"), { once: true });
  });
}

export async function open() {
  say("");
  admin.showModal();
  await Promise.all([showLog(), offerPersons()]).catch((error) => say(`${error.message}.`));
}

async function offerPersons() {
  const found = await api.values("person");
  byId("persons").replaceChildren(...Object.keys(found).map((value) => make("option", { value })));
}

async function showLog() {
  const entries = await api.log(lines);
  byId("log").tBodies[0].replaceChildren(...entries.map(({ time, who, action, details }) => make(
    "tr", {},
    ...[moments.format(time * 1000), action, told(details), who ?? ""].map((text) => make("td", {}, text)),
  )));
  byId("log-more").hidden = entries.length < lines || lines >= MOST;
}

// name=value of everything that a line says; of conditions and changes, what is in them.
function told(details) {
  return Object.entries(details).map(([name, value]) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return `${name}: ${told(value)}`;
    return `${name}=${DATES.includes(name) && value >= FIRST_DATE ? moments.format(value * 1000) : value}`;
  }).join(" ");
}

async function forget(event, wanted, where, whom) {
  event.preventDefault();
  say("");
  try {
    const { total } = await api.records(new URLSearchParams({ ...where, limit: 1 }));
    const what = total === 1 ? "1 crop" : `${total.toLocaleString()} crops`;
    const text = `${what}, with descriptor and small picture, and what the log names them by. This cannot be taken back.`;
    if (!await ask(`Forget ${whom}?`, text, "Forget")) return;
    const { removed } = await api.forget(wanted);
    forgotten = true;
    event.target.reset();
    await Promise.all([showLog(), offerPersons()]);
    say(`${removed.toLocaleString()} forgotten.`);
  } catch (error) {
    say(`${error.message}.`);
  }
}

function say(line) {
  byId("admin-status").textContent = line;
}

if (admin) {
  byId("admin-button").addEventListener("click", open);
  byId("admin-close").addEventListener("click", () => admin.close());
  // What the page shows may be of who was forgotten.
  admin.addEventListener("close", () => { if (forgotten) location.assign(location.pathname); });
  byId("log-more").addEventListener("click", () => {
    lines = Math.min(10 * lines, MOST);
    showLog().catch((error) => say(`${error.message}.`));
  });
  byId("forget-person").addEventListener("submit", (event) => {
    const person = event.target.elements.person.value.trim();
    forget(event, { person }, { persons: person }, person);
  });
  byId("forget-age").addEventListener("submit", (event) => {
    const days = Number(event.target.elements.days.value), before = Date.now() / 1000 - 86400 * days;
    forget(event, { before }, { older_than: before }, `what is older than ${days} ${days === 1 ? "day" : "days"}`);
  });
}
