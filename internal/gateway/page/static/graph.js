// Graphs of numbers over time, as SVG.

import { el } from "./dom.js";

const width = 720, height = 220, left = 56, right = 8, top = 8, bottom = 22;

/**
 * Returns a graph. given has title; from and to (milliseconds); show(number) for the scale; and series, at
 * most three: {name, points: [[milliseconds, number]]}. What a line shows is also said in words,
 * for those who do not see it. gap is the time between two points from which the line is interrupted.
 */
export function graph({ title, from, to, series, show, gap }) {
  const numbers = series.flatMap((s) => s.points.map((p) => p[1]));
  const ceiling = nice(Math.max(0, ...numbers));
  const x = (t) => left + ((t - from) / (to - from)) * (width - left - right);
  const y = (v) => height - bottom - (v / ceiling) * (height - top - bottom);
  const words = series.filter((s) => s.points.length > 0).map((s) => {
    const values = s.points.map((p) => p[1]);
    return `${s.name}: now ${show(values.at(-1))}, at most ${show(Math.max(...values))}, at least ${show(Math.min(...values))}.`;
  }).join(" ");
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => [
    el("svg:line", { class: "grid", x1: left, x2: width - right, y1: y(ceiling * part), y2: y(ceiling * part) }),
    el("svg:text", { x: left - 6, y: y(ceiling * part) + 4, "text-anchor": "end" }, show(ceiling * part))]);
  const times = hours(from, to).map((t) => el("svg:text", { x: x(t), y: height - 6, "text-anchor": "middle" },
    new Date(t).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })));
  const lines = series.map((s, i) => pieces(s.points, gap).map((points) => el("svg:polyline", {
    class: `line${i}`, points: points.map(([t, v]) => `${x(t).toFixed(1)},${y(v).toFixed(1)}`).join(" "),
  })));
  return el("figure", {},
    el("svg:svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${words || "There are no samples yet."}` }, grid, times, lines),
    el("figcaption", {}, series.map((s, i) => el("span", { class: "key" },
      el("svg:svg", { viewBox: "0 0 32 10", "aria-hidden": "true" }, el("svg:line", { class: `line${i}`, x1: 0, x2: 32, y1: 5, y2: 5, "stroke-width": 2 })), s.name)),
      el("span", {}, words || "There are no samples yet.")));
}

// nice returns the end of the scale: the smallest of 1, 2, 5, 10, 20, 50, … that is not less than most.
function nice(most) {
  if (most <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((f) => f * unit).find((v) => v >= most);
}

// hours returns the times for the scale, at whole steps of 1, 5 or 15 minutes, or 1 or 4 hours: at most
// seven for a day.
function hours(from, to) {
  const step = [60e3, 300e3, 900e3, 3600e3, 4 * 3600e3].find((s) => (to - from) / s <= 7) ?? 4 * 3600e3;
  const out = [];
  for (let t = Math.ceil((from + step / 4) / step) * step; t < to - step / 4; t += step) out.push(t);
  return out;
}

function pieces(points, gap) {
  const out = [];
  points.forEach((p, i) => {
    if (i === 0 || p[0] - points[i - 1][0] > gap) out.push([]);
    out.at(-1).push(p);
  });
  return out;
}
