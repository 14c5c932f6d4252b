// Elements. What the host says becomes text nodes, never HTML.

const svgSpace = "http://www.w3.org/2000/svg";

/**
 * Returns a new element; "svg:line" is one of SVG. A property "on…" is a listener. Another one is
 * an attribute: true is an empty one; undefined, null and false leave it out. Children are nodes,
 * texts and lists of these; null, undefined and false are left out.
 */
export function el(tag, properties = {}, ...children) {
  const e = tag.startsWith("svg:") ? document.createElementNS(svgSpace, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) e.setAttribute(name, value === true ? "" : String(value));
  }
  e.append(...flat(children));
  return e;
}

function flat(children) {
  return children.flat(9).filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : String(c)));
}

/** Replaces the children of an element. An element with an ID that had the focus has it again. */
export function fill(e, ...children) {
  const focused = e.contains(document.activeElement) ? document.activeElement.id : "";
  e.replaceChildren(...flat(children));
  if (focused) document.getElementById(focused)?.focus();
}

/** Returns a list of terms and values: rows are [term, value]; rows without a value are left out. */
export function terms(...rows) {
  return el("dl", {}, rows.filter(([, v]) => v !== "" && v !== null && v !== undefined && v !== false)
    .map(([t, v]) => [el("dt", {}, t), el("dd", {}, v)]));
}

/**
 * Returns a table. Columns are [name, cell(row), class]; the first one has the names of the rows.
 * On a narrow screen each row is a block, and each cell has the name of its column.
 */
export function table(caption, columns, rows) {
  const head = el("tr", {}, columns.map(([name, , kind]) => el("th", { scope: "col", class: kind }, name)));
  const body = rows.map((row) => el("tr", {}, columns.map(([name, cell, kind], i) => (i === 0
    ? el("th", { scope: "row", class: kind }, cell(row))
    : el("td", { class: kind, "data-name": name }, cell(row))))));
  return el("table", { class: "folds" }, el("caption", { class: "unseen" }, caption), el("thead", {}, head), el("tbody", {}, body));
}

let made = 0;

/** Returns an ID that no other element has. */
export function newID(word) {
  made += 1;
  return `${word}-${made}`;
}

/** Returns a field of a form: a label and its control, which is an element. */
export function field(label, control, hint) {
  control.id ||= newID("field");
  const help = hint && el("span", { class: "dim", id: `${control.id}-hint` }, hint);
  if (help) control.setAttribute("aria-describedby", help.id);
  const isChoice = control.type === "checkbox" || control.type === "radio";
  const name = el("label", { for: control.id }, label);
  return el("div", { class: isChoice ? "row" : "field" }, isChoice ? [control, name] : [name, control], help);
}
