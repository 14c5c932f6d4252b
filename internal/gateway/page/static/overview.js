// What runs on the host, and what it can return to.

import { el, fill, table, terms } from "./dom.js";
import { bytes, seconds, span, time, word } from "./format.js";
import { actButton, failure, fault, live } from "./parts.js";
import { brief } from "./operation.js";

export function overview(app, box) {
  const running = el("section", { "aria-label": "Operation", hidden: true });
  const trident = el("section"), host = el("section"), generations = el("section"), troubles = el("div");
  fill(box, running, troubles, el("div", { class: "cards" }, trident, host), generations);
  live(app, trident, [["self.status"]], (s) => {
    if (s instanceof Error) {
      fill(trident, el("h2", {}, "Trident"), fault(s));
      return;
    }
    showRunning(app, running, s.operation);
    showTrident(trident, s);
    showTroubles(troubles, s);
    showGenerations(app, generations, s);
  }, 60);
  live(app, host, [["machine.version"], ["machine.uptime"], ["host.slot"], ["mounts.list"]], (...got) => showHost(host, ...got), 60);
}

function showRunning(app, box, op) {
  box.hidden = !op;
  if (op) fill(box, el("h2", {}, "An operation runs"), brief(op), el("p", {}, el("a", { href: `#operation/${op.id}` }, "Watch it live")));
}

function showTrident(box, s) {
  const proof = s.activeVersion && `${s.merged ? "merged into /usr" : "not merged"}${s.verity ? ", read through dm-verity" : ""}`;
  fill(box, el("h2", {}, "Trident"), terms(
    ["Version", el("strong", {}, s.runningVersion)],
    ["Runs from", word("ORIGIN_", s.origin) === "extension" ? "the system extension" : "the package or the OS image"],
    ["Extension", s.activeVersion && `${s.activeVersion}, ${proof}`],
    ["Rolls back to", s.rollbackTarget || "nothing: there is no previous version"],
    ["Trusts", s.trusted?.map((c) => el("div", {}, `${c.subject}, until ${time(c.notAfter)}`))],
    ["Held back", s.policy?.hold && `${s.policy.hold.until ? `until ${time(s.policy.hold.until)}` : "until you end it"}${s.policy.hold.reason ? `: ${s.policy.hold.reason}` : ""}`],
    ["Pinned to", s.policy?.pin]));
}

function showTroubles(box, s) {
  fill(box, (s.faults ?? []).map((f) => el("div", { class: "fault" }, el("p", {}, f))),
    s.last?.failure && el("section", {}, el("h2", {}, "The last operation on Trident failed"), el("p", {}, `${s.last.kind}, ${time(s.last.endTime)}`), failure(s.last.failure),
      el("p", {}, el("a", { href: "#history" }, "Reasons and evidence in the history"))));
}

function showHost(box, version, uptime, slot, mounts) {
  const ok = (v) => (v instanceof Error ? {} : v);
  fill(box, el("h2", {}, "Host"), version instanceof Error ? fault(version) : terms(
    ["Name", version.hostname],
    ["OS", version.osPrettyName],
    ["Kernel", `${version.kernel} ${version.kernelRelease}, ${version.machine}`],
    ["Slot", slotOf(slot)],
    ["Extensions", extensions(ok(mounts).mounts ?? [])],
    ["Up for", ok(uptime).uptime && `${span(seconds(uptime.uptime))}, since ${time(uptime.bootTime)}`]));
}

function slotOf(slot) {
  if (slot instanceof Error) return "";
  const letter = { VOLUME_A: "A", VOLUME_B: "B" }[slot.activeVolume];
  return letter ? `${letter} runs` : "none: this OS has no slots";
}

// systemd-sysext merges by an overlay, whose layers have the names of the extensions.
function extensions(mounts) {
  const names = new Set();
  for (const m of mounts) {
    if (m.type !== "overlay") continue;
    for (const [, name] of m.options.join(",").matchAll(/\/(?:sysext|confext)\/extensions\/([^/:,]+)/g)) names.add(name);
  }
  return [...names].join(", ") || "none is merged";
}

function showGenerations(app, box, s) {
  const rows = (s.images ?? []).map((i) => ({ ...i, name: i.version, state: [i.active && "active", i.version === s.runningVersion && "runs", i.previous && "previous"].filter(Boolean).join(", ") || "staged" }));
  if (s.baseVersion) rows.push({ name: s.baseVersion, isBase: true, state: ["base", s.origin === "ORIGIN_BASE" && "runs"].filter(Boolean).join(", ") });
  const isTarget = (r) => (r.isBase ? s.rollbackTarget === "base" : r.version === s.rollbackTarget);
  fill(box, el("h2", {}, "Versions on this host"),
    rows.length === 0 ? el("p", {}, "Trident comes from the package or the OS image alone.") : table("Versions of Trident on this host", [
      ["Version", (r) => r.name],
      ["State", (r) => r.state],
      ["Staged", (r) => time(r.stagedTime)],
      ["Size", (r) => (r.size ? bytes(r.size) : ""), "number"],
      ["Act", (r) => (isRunning(s, r) ? "" : r.isBase || isTarget(r) ? rollBackTo(app, s, r, isTarget(r)) : activate(app, s, r))],
    ], rows),
    s.blocked?.length > 0 && [el("h3", {}, "Versions that failed here"), el("ul", { class: "plain" }, s.blocked.map((b) => el("li", {},
      el("strong", {}, b.version), ` failed at ${time(b.time)}: ${b.reason} `, b.evidence && el("span", { class: "dim" }, "Evidence: ", el("code", {}, b.evidence)))))]);
}

function isRunning(s, row) {
  return row.isBase ? s.origin === "ORIGIN_BASE" : row.version === s.activeVersion;
}

function rollBackTo(app, s, row, isTarget) {
  const name = row.isBase ? `the base, ${row.name}` : row.name;
  return actButton(app, {
    method: "self.rollback", label: `Roll back to ${name}`,
    why: !isTarget && `Trident returns to ${s.rollbackTarget === "base" ? "the base" : s.rollbackTarget || "nothing"} only.`,
    question: () => ({
      title: `Roll back to ${name}?`, label: "Roll back", isDangerous: true,
      text: [
        `Trident ${s.runningVersion} stops, and ${name} takes its place. tridentd restarts; the host does not.`,
        "Trident tries the previous version as it tries a new one, and returns to this one if it does not answer.",
        "This page loses tridentd for some seconds and attaches again by itself.",
      ],
    }),
    done: ({ operationId }) => app.go(`operation/${operationId}`),
  });
}

// Activates an image that is neither active nor the target of a rollback.
function activate(app, s, row) {
  const blocked = s.blocked?.find((b) => b.version === row.version), fromBase = s.origin === "ORIGIN_BASE";
  return actButton(app, {
    method: "self.activate", label: `Activate ${row.name}`, params: () => ({ version: row.version, ...(fromBase && { trial: { allowReadOnlyUsr: true } }) }),
    why: blocked && `${row.version} failed on this host: ${blocked.reason}`,
    question: () => ({
      title: `Activate ${row.name}?`, label: "Activate", isDangerous: true,
      text: [
        `Trident ${s.runningVersion} stops, and ${row.name} takes its place on trial. tridentd restarts; the host does not.`,
        `If ${row.name} does not answer, Trident returns to ${s.runningVersion} and blocks ${row.name}.`,
        ...(fromBase ? ["As long as an extension is active, /usr is read-only, and the package manager of the host cannot write to it."] : []),
        "This page loses tridentd for some seconds and attaches again by itself.",
      ],
    }),
    done: ({ operationId }) => app.go(`operation/${operationId}`),
  });
}
