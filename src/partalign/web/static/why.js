// The dialog that says why a result was found.

import { explain, explanationPicture } from "./api.js";
import { draw, make, place, score } from "./view.js";

const byId = (id) => document.getElementById(id);
let shown = null; // what the dialog waits for; a later click overtakes

export async function showWhy(subject, match, persons) {
  const { record } = match;
  shown = record.id;
  byId("why-title").textContent = `Result ${match.rank}: ${score(match)} ${match.probability === null ? "similar" : "same person"}`;
  byId("why-sentence").textContent = "";
  byId("why-note").textContent = place(record);
  byId("why-parts").hidden = true;
  byId("why-picture").replaceChildren(...sources(subject, record, persons));
  if (!byId("why").open) byId("why").showModal();
  try {
    const found = await explain({ ...subject, record: record.id, persons });
    if (shown !== record.id) return;
    byId("why-sentence").textContent = found.sentence;
    byId("why-picture").querySelector("img").alt = `A, what is searched by, and B, the result, with what matches. ${found.sentence}`;
    showParts(found.parts);
    if (found.thumbnail) {
      byId("why-note").textContent += " · The picture file is gone or was changed: explained by the gallery's small copy, figures may differ a little.";
    }
  } catch (error) {
    if (shown !== record.id) return;
    byId("why-picture").replaceChildren();
    byId("why-sentence").textContent = `No explanation: ${error.message}.`;
  }
}

// Light or dark as the page; on narrow screens without bars, which are a table below.
function sources(subject, record, persons) {
  const address = (theme, bars) => explanationPicture(subject, record.id, persons, theme, bars);
  const source = (media, theme, bars) => make("source", { media, srcset: address(theme, bars) });
  return [
    source("(max-width: 760px) and (prefers-color-scheme: dark)", "dark", false),
    source("(max-width: 760px)", "light", false),
    source("(prefers-color-scheme: dark)", "dark", true),
    make("img", { src: address("light", true), alt: "The explanation is being drawn." }),
  ];
}

function showParts(parts) {
  byId("why-parts").hidden = parts === null;
  if (parts === null) return;
  const values = Object.values(parts);
  const low = Math.min(0, ...values), span = Math.max(0, ...values) - low || 1;
  byId("why-parts").tBodies[0].replaceChildren(...Object.entries(parts).map(([name, value]) => {
    const from = (100 * (Math.min(0, value) - low)) / span;
    const bar = draw("svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
      draw("rect", { x: from, width: (100 * Math.abs(value)) / span, height: 14, class: value > 0 ? "for" : "against" }));
    const sign = value < 0 ? "−" : "+";
    return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, bar), make("td", {}, sign + Math.abs(value).toFixed(2)));
  }));
}
