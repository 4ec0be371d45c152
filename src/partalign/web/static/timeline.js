// Sightings by camera and time: a lane for each camera, a dot for each crop, more solid the more probable.

import { draw, moment, score } from "./view.js";

const WIDTH = 900, LEFT = 90, RIGHT = 14, LANE = 24, MOST = 16;

// sightings: [{record, match, same}]; choose(record) is called for a dot that is clicked.
export function showTimeline(section, sightings, choose) {
  const seen = sightings.filter(({ record }) => record.camera !== null && record.time !== null);
  section.replaceChildren();
  section.hidden = seen.length < 2;
  if (section.hidden) return;
  const lanes = Map.groupBy(seen, ({ record }) => record.camera);
  const cameras = [...lanes.keys()].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).slice(0, MOST);
  const times = seen.map(({ record }) => record.time);
  const first = Math.min(...times), span = Math.max(...times) - first || 1;
  const x = (time) => LEFT + 8 + ((time - first) / span) * (WIDTH - LEFT - RIGHT - 16);
  const height = cameras.length * LANE + 22;
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img" });
  picture.setAttribute("aria-label", summary(cameras, lanes));
  cameras.forEach((camera, row) => {
    const y = row * LANE + LANE / 2;
    picture.append(draw("text", { x: 0, y: y + 4 }, camera.length > 13 ? `${camera.slice(0, 12)}…` : camera));
    picture.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }));
    for (const { record, match, same } of lanes.get(camera).toSorted((a, b) => strength(a) - strength(b))) {
      const dot = draw("circle", { cx: x(record.time), cy: y, r: same ? 6.5 : 5.5, class: same ? "same" : "" });
      dot.setAttribute("fill-opacity", same ? 1 : 0.15 + 0.85 * strength({ match }));
      dot.append(draw("title", {}, `${camera}, ${moment(record.time)}${match ? `: ${score(match)}` : ""}${same ? ", confirmed" : ""}`));
      dot.addEventListener("click", () => choose(record));
      picture.append(dot);
    }
  });
  picture.append(draw("text", { x: LEFT, y: height - 3 }, moment(first)));
  picture.append(draw("text", { x: WIDTH - RIGHT, y: height - 3, "text-anchor": "end" }, moment(first + span)));
  section.append(picture);
}

const strength = ({ match, same }) => (same ? 2 : Math.max(0, match?.probability ?? match?.similarity ?? 0.5));

function summary(cameras, lanes) {
  const said = cameras.map((camera) => {
    const times = lanes.get(camera).map(({ record }) => record.time);
    const between = [...new Set([Math.min(...times), Math.max(...times)])].map(moment).join(" to ");
    return `${camera}: ${times.length}, ${between}`;
  });
  return `Sightings by camera. ${said.join("; ")}.`;
}
