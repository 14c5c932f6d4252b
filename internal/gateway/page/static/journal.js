// The journal of the host: a page of it by unit, urgency and time, and what comes after.

import { el, field, fill } from "./dom.js";
import { time } from "./format.js";
import { fault } from "./parts.js";
import { refusal } from "./rights.js";

const priorities = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const pageSize = 200, keptLines = 2000;

export function journal(app, box, unit) {
  const why = refusal("machine.journal", app.rights);
  const name = el("input", { type: "text", autocomplete: "off", spellcheck: "false", value: unit });
  const urgency = el("select", {}, [["", "any"], ...priorities.map((p, i) => [String(i), i === 0 ? p : `${p} or more urgent`])].map(([value, label]) => el("option", { value }, label)));
  const since = el("input", { type: "datetime-local" });
  const follows = el("input", { type: "checkbox", checked: true });
  const button = el("button", { class: "main", disabled: Boolean(why), "aria-describedby": why && "journal-why" }, "Show");
  const said = el("div"), log = el("div", { class: "log", role: "log", "aria-label": "Journal", tabindex: "0" });
  let end = () => {};
  app.atEnd(() => end());
  const show = async () => {
    end();
    end = () => {};
    const wanted = {
      ...(name.value.trim() && { unit: name.value.trim() }), ...(urgency.value && { priority: Number(urgency.value) }),
      ...(since.value && { since: new Date(since.value).toISOString() }),
    };
    try {
      const { entries = [], cursor = "" } = await app.call("machine.journal", { ...wanted, limit: pageSize });
      fill(said, entries.length === 0 && el("p", {}, "No entry matches."));
      fill(log, entries.map(line));
      log.scrollTop = log.scrollHeight;
      if (follows.checked) end = follow(app, log, said, wanted, entries.at(-1)?.cursor ?? cursor);
    } catch (e) {
      fill(said, fault(e));
    }
  };
  fill(box, el("form", { class: "card", onsubmit: (e) => { e.preventDefault(); show(); } },
    el("div", { class: "row" }, field("Unit", name, "empty: all; ssh* is a pattern"), field("Urgency", urgency), field("Since", since), field("Show new entries as they come", follows)),
    el("div", { class: "row" }, button, why && el("span", { class: "why", id: "journal-why" }, why)), said), log);
  if (!why) show();
}

function follow(app, log, said, wanted, from) {
  let cursor = from;
  return app.rpc.subscribe(() => ({ topic: "journal", ...wanted, ...(cursor && { cursor }) }), ({ entries }) => {
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    for (const e of entries ?? []) {
      cursor = e.cursor || cursor;
      log.append(line(e));
    }
    while (log.childElementCount > keptLines) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }, (e) => { if (e && app.isShown(log)) fill(said, fault(e)); });
}

function line(e) {
  const urgent = e.priority !== undefined && e.priority !== null && e.priority <= 3;
  const text = e.message || (Number(e.omittedBytes) > 0 ? `(an entry of ${e.omittedBytes} bytes)` : e.messageBytes ? "(not text)" : "");
  return el("div", { class: urgent ? "bad" : e.priority === 4 ? "warn" : null },
    `${time(e.time)} ${e.identifier || e.unit || "?"}${Number(e.pid) > 0 ? `[${e.pid}]` : ""}: `, urgent && el("strong", {}, `${priorities[e.priority]}: `), text);
}
