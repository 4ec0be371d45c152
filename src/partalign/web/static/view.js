// What crops look like on the page: cards, times, probabilities.

import { thumbnail } from "./api.js";

export const FIRST_DATE = 1e8; // as in gallery/records.py: a smaller time is no date
const SVG = "http://www.w3.org/2000/svg";
// Of 24 hours in every language: there is no room for AM and PM, and cut off they are missed.
const dates = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const years = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export function make(tag, values = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, values);
  element.append(...children);
  return element;
}

export function draw(tag, values = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function moment(time) {
  if (time === null) return "";
  return time >= FIRST_DATE ? dates.format(time * 1000) : `at ${Number(time.toFixed(2))}`;
}

const fully = (time) => (time !== null && time >= FIRST_DATE ? years.format(time * 1000) : moment(time));

// Never 0% or 100%, as in pictures/explanation.py: no calibration can promise that.
export function percent(probability) {
  const value = 100 * probability;
  return value < 1 ? "<1%" : value > 99 ? ">99%" : `${Math.round(value)}%`;
}

export function score(match) {
  return match.probability === null ? match.similarity.toFixed(2) : percent(match.probability);
}

export function place(record) {
  return [record.camera, moment(record.time)].filter(Boolean).join(" · ") || record.source || "";
}

// A crop as a button; `match` is null where nothing is searched for.
export function card(record, match, person) {
  const same = match !== null && person !== null && record.person === person;
  const lines = [];
  if (match) {
    const unit = match.probability === null ? "similar" : "same";
    lines.push(make("strong", {}, score(match), make("small", {}, ` ${unit}`)));
    lines.push(make("meter", { min: 0, max: 1, value: Math.max(0, match.probability ?? match.similarity), ariaHidden: "true" }));
  }
  const more = match?.more ? ` · ${match.more + 1} crops` : "";
  for (const line of [(record.camera ?? "") + more, record.person]) {
    if (line) lines.push(make("span", { title: line }, line));
  }
  const time = moment(record.time), when = time || record.source || "";
  lines.push(make("span", { className: time ? "quiet when" : "quiet", title: fully(record.time) || when }, when));
  const button = make(
    "button",
    { type: "button", className: same ? "card same" : "card", tabIndex: -1 },
    make("img", { src: thumbnail(record.id), alt: "", loading: "lazy", decoding: "async", draggable: false }),
    make("div", {}, ...lines),
  );
  if (match) button.append(make("span", { className: "rank" }, String(match.rank)));
  if (same) button.append(make("span", { className: "tick", title: "of the same name" }, "✓"));
  button.ariaLabel = describe(record, match, same);
  return button;
}

function describe(record, match, same) {
  const said = [match ? `Result ${match.rank}` : "Crop"];
  if (match) said.push(match.probability === null ? `similarity ${score(match)}` : `${score(match)} same person`);
  if (same) said.push("of the same name");
  if (record.camera) said.push(`camera ${record.camera}`);
  if (record.time !== null) said.push(moment(record.time));
  if (record.person) said.push(`known as ${record.person}`);
  return said.join(", ");
}
