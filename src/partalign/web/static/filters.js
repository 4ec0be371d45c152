// What the form beside the crops asks for.

const form = document.getElementById("filters");
const { dated, calibrated } = document.body.dataset;

// Conditions that records meet, as the API takes them.
export function where() {
  const options = new FormData(form), wanted = {};
  for (const name of ["cameras", "not_cameras", "tags"]) if (options.has(name)) wanted[name] = options.getAll(name);
  for (const name of ["since", "until"]) {
    const value = options.get(name);
    if (value) wanted[name] = dated === "true" ? Date.parse(value) / 1000 : Number(value);
  }
  if (options.get("labelled")) wanted.labelled = options.get("labelled") === "true";
  return wanted;
}

// How results are found and shown. What is sent has no camera that could be left out.
export function options(subject) {
  const chosen = new FormData(form);
  return {
    other_cameras: chosen.has("other_cameras") && !subject.query,
    group: chosen.has("group"),
    rerank: chosen.has("rerank"),
    persons: persons(),
  };
}

// How many persons a crop may be, before it is looked at.
export function persons() {
  const field = form.elements.persons;
  return field?.value && field.checkValidity() ? Number(field.value) : 2;
}

export function meaning() {
  if (calibrated !== "true") return "";
  const odds = persons() === 2 ? "at even odds before looking" : `one of ${persons().toLocaleString()} persons, each as likely before looking`;
  return `Per cent: how probable the same person is, ${odds}.`;
}

export function fit(subject) {
  form.elements.rerank.closest("label").hidden = !subject;
  form.elements.other_cameras.closest("label").hidden = !subject || Boolean(subject.query);
  if (form.elements.persons) form.elements.persons.closest("label").hidden = !subject;
}
