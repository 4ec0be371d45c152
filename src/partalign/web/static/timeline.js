// Sightings by camera and time: a lane for each camera, a dot for each crop, the more solid the more similar.

import { draw, FIRST_DATE, moment, score } from "./view.js";

const LEFT = 90, RIGHT = 6, LANE = 24, MOST = 16;
const NARROW = 420; // below that, the dates at both ends do not fit beside each other from LEFT on

// sightings: [{record, match, same}]; choose(record) is called for a dot that is clicked.
export function showTimeline(section, sightings, choose) {
  const seen = comparable(sightings.filter(({ record }) => record.camera !== null && record.time !== null));
  section.replaceChildren();
  section.hidden = seen.length < 2;
  if (section.hidden) return;
  const width = section.clientWidth - 32; // without its padding: letters keep their size
  const lanes = Map.groupBy(seen, ({ record }) => record.camera);
  const cameras = [...lanes.keys()].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).slice(0, MOST);
  const times = seen.map(({ record }) => record.time);
  const first = Math.min(...times), span = Math.max(...times) - first || 1;
  const strength = compared(seen);
  const x = (time) => LEFT + 8 + ((time - first) / span) * (width - LEFT - RIGHT - 16);
  const height = cameras.length * LANE + 22;
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  picture.setAttribute("aria-label", summary(cameras, lanes));
  cameras.forEach((camera, row) => {
    const y = row * LANE + LANE / 2;
    picture.append(draw("text", { x: 0, y: y + 4 }, camera.length > 13 ? `${camera.slice(0, 12)}…` : camera));
    picture.append(draw("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
    for (const { record, match, same } of lanes.get(camera).toSorted((a, b) => strength(a) - strength(b))) {
      const dot = draw("circle", { cx: x(record.time), cy: y, r: same ? 6.5 : 5.5, class: same ? "same" : "" });
      dot.setAttribute("fill-opacity", strength({ match, same }));
      dot.append(draw("title", {}, `${camera}, ${moment(record.time)}${match ? `: ${score(match)}` : ""}${same ? ", of the same name" : ""}`));
      dot.addEventListener("click", () => choose(record));
      picture.append(dot);
    }
  });
  picture.append(draw("text", { x: width < NARROW ? 0 : LEFT, y: height - 3 }, moment(first)));
  picture.append(draw("text", { x: width - RIGHT, y: height - 3, "text-anchor": "end" }, moment(first + span)));
  section.append(picture);
}

// Dates and places in videos have no common scale: the dates, or the places where there is no more than one date.
function comparable(seen) {
  const dated = seen.filter(({ record }) => record.time >= FIRST_DATE);
  return dated.length > 1 ? dated : seen.filter(({ record }) => record.time < FIRST_DATE);
}

// How solid a dot is: the best result of those shown is, the last is faint; so is a record that was no result.
function compared(seen) {
  const values = seen.flatMap(({ match }) => (match ? [match.similarity] : []));
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  return ({ match, same }) => (same ? 1 : match ? 0.12 + 0.8 * ((match.similarity - low) / span) ** 2 : 0.12);
}

function summary(cameras, lanes) {
  const said = cameras.map((camera) => {
    const times = lanes.get(camera).map(({ record }) => record.time);
    const between = [...new Set([Math.min(...times), Math.max(...times)])].map(moment).join(" to ");
    return `${camera}: ${times.length}, ${between}`;
  });
  return `Sightings by camera. ${said.join("; ")}.`;
}
