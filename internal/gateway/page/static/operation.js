// One operation, live: its steps, bytes, log and end.

import { el, fill, newID, terms } from "./dom.js";
import { bytes, time, word } from "./format.js";
import { actButton, failure, fault, live } from "./parts.js";

const keptLines = 500, lookEvery = 1000;
const ended = ["PHASE_DONE", "PHASE_UNDONE", "PHASE_STUCK"];
const phases = {
  PHASE_DOING: "runs", PHASE_UNDOING: "undoes its steps", PHASE_DONE: "done", PHASE_UNDONE: "failed; Trident has undone its steps",
  PHASE_STUCK: "stuck: the undo of a step failed, and a person has to look",
};
const waits = {
  restart: "It waits for tridentd to restart. This page attaches again by itself.",
  reboot: "It waits for the host to reboot. This page attaches again by itself.",
  continue: "It is paused, and waits for a person to continue or to cancel it.",
};

/** Returns the phase of an operation in words. */
export const phaseOf = (op) => phases[op.phase] ?? word("PHASE_", op.phase);

/** Returns one line about an operation. */
export function brief(op) {
  const kind = { PHASE_DONE: "good", PHASE_UNDONE: "bad", PHASE_STUCK: "bad" }[op.phase];
  return el("p", {}, el("strong", {}, op.summary || op.kind), " ", el("span", { class: kind }, phaseOf(op)), op.phase === "PHASE_DOING" && op.step && ` (${op.step})`);
}

export function operation(app, box, id, heading) {
  const head = el("div"), progress = el("div"), log = el("div", { class: "log", role: "log", "aria-label": "Log of the operation", tabindex: "0" });
  fill(box, el("section", {}, head, progress), el("section", {}, el("h2", {}, "Log"), log));
  let said = "", looking = 0;
  app.atEnd(() => clearInterval(looking));
  const refresh = live(app, head, [["operations.get", { id }], ["self.history", { limit: 200 }]], (answer, history) => {
    if (answer instanceof Error) {
      fill(head, fault(answer));
      return;
    }
    const op = answer.operation;
    fill(heading, op.summary || op.kind);
    clearInterval(looking);
    if (["restart", "reboot"].includes(op.waiting)) looking = setInterval(() => app.link.look(), lookEvery);
    showHead(app, head, op, history instanceof Error ? null : history.entries?.find((e) => e.operationId === id), refresh);
    if (ended.includes(op.phase)) fill(progress);
    const news = `${phaseOf(op)}${ended.includes(op.phase) ? "" : `, step ${op.step}`}`;
    if (news !== said) app.say(`The operation: ${news}`);
    said = news;
  });
  follow(app, id, { log, progress, refresh });
}

function showHead(app, box, op, entry, refresh) {
  const isOver = ended.includes(op.phase);
  const done = (s) => word("STEP_STATE_", s.state) || "pending";
  fill(box,
    el("p", { class: { PHASE_DONE: "good", PHASE_UNDONE: "bad", PHASE_STUCK: "bad" }[op.phase] }, el("strong", {}, `The operation ${op.phase === "PHASE_DONE" || op.phase === "PHASE_STUCK" ? "is " : ""}${phaseOf(op)}.`)),
    op.waiting && el("p", { class: "warn" }, waits[op.waiting] ?? `It waits for: ${op.waiting}.`),
    op.halt?.cause && el("div", { class: "fault" }, el("p", {}, `It has been waiting for the disk since ${time(op.halt.since)}: ${op.halt.cause.message}`)),
    op.failure && failure(op.failure),
    entry?.evidence && el("p", {}, "Evidence of the version that failed, on the host: ", el("code", {}, entry.evidence)),
    el("ol", { class: "steps", "aria-label": "Steps" }, (op.steps ?? []).map((s) => el("li", { class: done(s), "aria-current": s.name === op.step && !isOver && "step" }, s.name, el("span", { class: "unseen" }, `: ${done(s)}`)))),
    terms(["From", entry?.fromVersion], ["To", entry?.toVersion], ["Began", time(op.createTime)], [isOver ? "Ended" : "Last change", time(op.updateTime)], ["Asked by", op.askedBy || "a process on the host"], ["ID", el("code", {}, op.id)]),
    el("div", { class: "row" },
      op.waiting === "continue" && actButton(app, {
        method: "operations.continue", label: "Continue", isMain: true, params: () => ({ id: op.id }), done: refresh,
        question: () => ({ title: "Continue the operation?", label: "Continue", text: ["The operation goes on from its pause: the new version becomes the running one, on trial.", "tridentd restarts in it. This page attaches again by itself."] }),
      }),
      (!isOver || op.phase === "PHASE_STUCK") && actButton(app, {
        method: "operations.cancel", label: op.phase === "PHASE_STUCK" ? "Try the undo again" : "Cancel the operation", params: () => ({ id: op.id }), done: refresh,
        question: () => ({ title: "Cancel the operation?", label: "Cancel the operation", isDangerous: true, text: ["Trident stops the operation and undoes the steps that it has done. The host is then as before.", "After its point of no return an operation cannot be cancelled."] }),
      })));
}

// follow shows the events of the operation from its beginning, each once, also if the connection or tridentd
// ends meanwhile.
function follow(app, id, { log, progress, refresh }) {
  let last = "0", timer = 0;
  const soon = () => { timer ||= setTimeout(() => { timer = 0; refresh(); }, 150); };
  const meter = newMeter(progress);
  const begin = () => app.rpc.subscribe(() => ({ topic: "operation", id, afterSequence: last }), ({ event }) => {
    last = event.sequence ?? last;
    if (event.progress) meter(event.step, event.progress);
    else if (event.log) add(log, line(event));
    else if (event.change || event.halt) {
      add(log, change(event));
      meter(event.step, null);
      soon();
    }
  }, (e) => {
    soon();
    if (e && app.isShown(log)) { // it goes on without us: begin again when tridentd answers
      app.link.probe();
      app.onFresh(once(() => { end = begin(); }));
    }
  });
  let end = begin();
  app.atEnd(() => { end(); clearTimeout(timer); });
}

function once(f) {
  let isDone = false;
  return () => { if (!isDone) f(); isDone = true; };
}

function add(log, row) {
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  log.append(row);
  while (log.childElementCount > keptLines) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function clock(text) {
  return new Date(text).toLocaleTimeString(undefined, { timeStyle: "medium" });
}

function line(event) {
  const severity = word("SEVERITY_", event.log.severity);
  return el("div", { class: { error: "bad", warning: "warn", debug: "dim" }[severity] }, `${clock(event.time)} ${event.step}: ${severity === "info" ? "" : `${severity}: `}${event.log.message}`);
}

function change(event) {
  const c = event.change ?? {};
  const text = event.halt ? "waits for the disk" : c.waiting ? `waits for: ${c.waiting}` : word("PHASE_", event.phase);
  return el("div", { class: c.failure && "bad" }, `${clock(event.time)} ${event.step || "end"}: ${text}${c.failure ? `: ${c.failure.message}` : ""}`);
}

// newMeter returns a function that shows the progress p of a step: bytes, a bar and the rate. With null for
// p it removes the progress of the previous step.
function newMeter(box) {
  const bar = el("progress", { max: 1 }), text = el("p", { class: "dim" }), id = newID("step");
  const name = el("p", { id });
  bar.setAttribute("aria-labelledby", id);
  let step = "", from = { at: 0, done: 0 };
  return (now, p) => {
    if (!p) {
      if (now !== step) fill(box);
      return;
    }
    const done = Number(p.done ?? 0), total = Number(p.total ?? 0);
    if (now !== step || done < from.done) from = { at: performance.now(), done };
    step = now;
    const took = (performance.now() - from.at) / 1000;
    const rate = took > 0.5 ? `, ${bytes((done - from.done) / took)}/s` : "";
    if (!bar.isConnected) fill(box, name, bar, text);
    fill(name, `Step ${step}`);
    if (total > 0) bar.value = Math.min(1, done / total);
    else bar.removeAttribute("value");
    fill(text, total > 0 ? `${bytes(done)} of ${bytes(total)} (${Math.floor((100 * done) / total)} %)${rate}` : `${bytes(done)}${rate}`);
  };
}
