// What was done on the host, with the reason of each failure and the place of its evidence.

import { el, fill, terms } from "./dom.js";
import { time } from "./format.js";
import { failure, fault, live } from "./parts.js";
import { brief } from "./operation.js";

const shown = 100;

export function history(app, box) {
  const list = el("div");
  fill(box, list);
  live(app, list, [["operations.list", { limit: shown }], ["self.history", { limit: shown }]], (operations, own) => {
    if (operations instanceof Error) {
      fill(list, fault(operations));
      return;
    }
    const entries = new Map((own instanceof Error ? [] : own.entries ?? []).map((e) => [e.operationId, e]));
    const all = operations.operations ?? [];
    fill(list, all.length === 0 ? el("p", {}, "Nothing was done on this host yet.") : el("ul", { class: "plain", "aria-label": `The newest ${all.length} operations` }, all.map((op) => row(op, entries.get(op.id)))));
  }, 60);
}

function row(op, entry) {
  return el("li", {}, brief(op),
    terms(["From", entry?.fromVersion], ["To", entry?.toVersion], ["Began", time(op.createTime)], ["Asked by", op.askedBy],
      ["Evidence", entry?.evidence && el("span", {}, el("code", {}, entry.evidence), " on the host: what Trident saved of the version that failed")]),
    op.failure && failure(op.failure),
    el("p", {}, el("a", { href: `#operation/${op.id}`, "aria-label": `Steps and log of ${op.summary || op.kind}, ${time(op.createTime)}` }, "Steps and log")));
}
