// The load of the last 24 hours, and what the disks do while the page is open.

import { el, fill, terms } from "./dom.js";
import { bytes, span } from "./format.js";
import { graph } from "./graph.js";
import { fault, live } from "./parts.js";

const day = 24 * 3600e3, minute = 60e3;

export function load(app, box) {
  const now = el("section"), past = el("section"), disks = el("section");
  fill(box, now, past, disks);
  live(app, now, [["system_load.current"], ["machine.memory"]], showNow(now), 15);
  loadOfDay(app, past);
  diskTraffic(app, disks);
}

const showNow = (box) => (current, memory) => {
  if (current instanceof Error) {
    fill(box, el("h2", {}, "Now"), fault(current));
    return;
  }
  const m = memory instanceof Error ? {} : memory;
  const used = Number(m.memTotal) - Number(m.memAvailable);
  fill(box, el("h2", {}, "Now"), terms(
    ["Load", `${current.load1.toFixed(2)}, ${current.load5.toFixed(2)}, ${current.load15.toFixed(2)} in the last 1, 5 and 15 minutes, on ${current.processors} processors`],
    ["Memory", m.memTotal && el("div", {}, el("progress", { max: m.memTotal, value: used, "aria-label": "Memory in use" }), `${bytes(used)} of ${bytes(m.memTotal)} in use`)],
    ["Threads", current.threads], ["Up for", span(current.uptimeSeconds)]));
};

function loadOfDay(app, box) {
  let samples = [];
  const draw = () => {
    const to = Date.now(), from = to - day;
    samples = samples.filter((s) => Date.parse(s.time) >= from);
    const series = [["1 minute", "load1"], ["5 minutes", "load5"], ["15 minutes", "load15"]].map(([name, key]) => ({ name, points: samples.map((s) => [Date.parse(s.time), s[key]]) }));
    fill(box, el("h2", {}, "Load of the last 24 hours"), graph({ title: "Load of the last 24 hours", from, to, series, show: (v) => v.toFixed(v < 10 ? 2 : 0), gap: 5 * minute }));
  };
  live(app, box, [["system_load.historical"]], (answer) => {
    if (answer instanceof Error) {
      fill(box, el("h2", {}, "Load of the last 24 hours"), fault(answer));
      return;
    }
    samples = answer.samples ?? [];
    draw();
  });
  app.atEnd(app.rpc.subscribe(() => ({ topic: "load" }), ({ sample }) => { samples.push(sample); draw(); }));
}

// The gateway has no history of the disks: the graph begins with the view, and its samples stay
// for as long as the page is open.
const traffic = { before: null, points: { read: [], written: [] } };
const trafficEvery = 10;

function diskTraffic(app, box) {
  fill(box, el("h2", {}, "Disks"));
  const draw = (answer) => {
    if (answer instanceof Error) {
      fill(box, el("h2", {}, "Disks"), fault(answer));
      return;
    }
    sample(answer.disks ?? []);
    const { read, written } = traffic.points;
    const to = Date.now(), from = Math.min(read[0]?.[0] ?? to - 10 * minute, to - 10 * minute);
    fill(box, el("h2", {}, "Disks since this page was opened"), graph({
      title: "Bytes a second of all disks", from: Math.max(from, to - day), to, show: (v) => `${bytes(v)}/s`, gap: 3 * trafficEvery * 1000,
      series: [{ name: "read", points: read }, { name: "written", points: written }],
    }));
  };
  live(app, box, [["machine.disks"]], draw, trafficEvery);
}

function sample(disks) {
  const at = Date.now(), sum = (key) => disks.filter((d) => d.kind === "BLOCK_KIND_DISK").reduce((n, d) => n + Number(d.statistics?.[key] ?? 0), 0);
  const now = { at, read: sum("bytesRead"), written: sum("bytesWritten") };
  const { before } = traffic;
  traffic.before = now;
  if (!before || at - before.at < 1000) return;
  for (const key of ["read", "written"]) {
    const list = traffic.points[key];
    list.push([at, Math.max(0, (now[key] - before[key]) / ((at - before.at) / 1000))]);
    if (list.length > day / (trafficEvery * 1000)) list.shift();
  }
}
