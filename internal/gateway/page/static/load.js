// The load and the traffic of the disks in the last 24 hours, of which the gateway has a sample a minute.

import { el, fill, terms } from "./dom.js";
import { bytes, span } from "./format.js";
import { graph } from "./graph.js";
import { fault, live } from "./parts.js";

const day = 24 * 3600e3;
// Without a sample for so long the line is interrupted: the gateway did not run.
const gap = 5 * 60e3;

export function load(app, box) {
  const now = el("section"), past = el("section"), disks = el("section");
  fill(box, now, past, disks);
  live(app, now, [["system_load.current"], ["machine.memory"]], showNow(now), 15);
  loadOfDay(app, past, disks);
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

// loadOfDay shows what the gateway has sampled, and each new sample.
function loadOfDay(app, box, disks) {
  let samples = [];
  const lines = (pairs) => pairs.map(([name, key]) => ({ name, points: samples.map((s) => [Date.parse(s.time), Number(s[key] ?? 0)]) }));
  const draw = () => {
    const to = Date.now(), from = to - day;
    samples = samples.filter((s) => Date.parse(s.time) >= from);
    fill(box, el("h2", {}, "Load of the last 24 hours"), graph({
      title: "Load of the last 24 hours", from, to, gap, show: (v) => v.toFixed(v < 10 ? 2 : 0), series: lines([["1 minute", "load1"], ["5 minutes", "load5"], ["15 minutes", "load15"]]),
    }));
    fill(disks, el("h2", {}, "Disks in the last 24 hours"), graph({
      title: "Bytes a second of all disks in the last 24 hours", from, to, gap, show: (v) => `${bytes(v)}/s`, series: lines([["read", "diskRead"], ["written", "diskWritten"]]),
    }));
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
