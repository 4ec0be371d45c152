// The server's API; every failure is an Error with the server's one line.

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server cannot be reached");
  }
  if (answer.status === 401) location.assign("/sign-in");
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.detail ?? `the server answered ${answer.status}`);
  return content;
}

const json = (method, content) => ({
  method, body: JSON.stringify(content), headers: { "Content-Type": "application/json" },
});

export const search = (wanted) => request("/api/search", json("POST", wanted));
export const decide = (wanted) => request("/api/decisions", json("POST", wanted));
export const explain = (wanted) => request("/api/explanations", json("POST", wanted));
export const change = (id, values) => request(`/api/records/${encodeURIComponent(id)}`, json("PATCH", values));
export const remove = (id) => request(`/api/records/${encodeURIComponent(id)}`, { method: "DELETE" });
export const forget = (wanted) => request("/api/forget", json("POST", wanted));
export const log = (limit) => request(`/api/log?limit=${limit}`);
export const values = (field) => request(`/api/values/${field}`);
export const record = (id) => request(`/api/records/${encodeURIComponent(id)}`);
export const records = (parameters) => request(`/api/records?${parameters}`);

export function send(files) {
  const form = new FormData();
  for (const file of files) form.append("pictures", file);
  return request("/api/queries", { method: "POST", body: form });
}

export const thumbnail = (id) => `/api/thumbnails/${encodeURIComponent(id)}`;

export function explanationPicture(subject, id, persons, theme, bars) {
  const parameters = new URLSearchParams({ record: id, persons, theme, bars });
  for (const name of ["query", "tracklet", "camera"]) if (subject[name]) parameters.set(name, subject[name]);
  for (const like of subject.like ?? []) parameters.append("like", like);
  return `/api/explanation.png?${parameters}`;
}
