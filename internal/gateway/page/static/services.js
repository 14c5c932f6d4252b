// The units of systemd.

import { el, field, fill, table, terms } from "./dom.js";
import { bytes, time } from "./format.js";
import { fault, live } from "./parts.js";

export function services(app, box) {
  const filter = el("input", { type: "search" }), state = el("select", {}, [["", "any"], ["failed", "failed"], ["active", "active"], ["inactive", "inactive"]].map(([value, label]) => el("option", { value }, label)));
  const onlyServices = el("input", { type: "checkbox", checked: true });
  const list = el("div"), one = el("section", { hidden: true, "aria-label": "One unit" });
  let answer = { units: [] };
  const draw = () => {
    const text = filter.value.toLowerCase();
    const rows = answer.units.filter((u) => (!state.value || u.activeState === state.value) && (!onlyServices.checked || u.name.endsWith(".service")) && `${u.name} ${u.description}`.toLowerCase().includes(text));
    fill(list, el("p", { class: "dim", role: "status" }, `${rows.length} of ${answer.units.length} units`), Number(answer.omitted) > 0 && el("p", { class: "warn" }, `${answer.omitted} more units are not shown.`), unitTable(rows, (name) => showUnit(app, one, name)));
  };
  filter.addEventListener("input", draw);
  for (const c of [state, onlyServices]) c.addEventListener("change", draw);
  fill(box, one, el("section", {}, el("div", { class: "row" }, field("Filter by name or description", filter), field("State", state), field("Services only", onlyServices)), list));
  live(app, list, [["machine.services"]], (got) => {
    if (got instanceof Error) {
      fill(list, fault(got));
      return;
    }
    answer = { units: got.units ?? [], omitted: got.omitted };
    draw();
  }, 30);
}

const isBad = (u) => u.activeState === "failed";

function unitTable(rows, open) {
  return table("Units of systemd", [
    ["Unit", (u) => el("button", { type: "button", class: "mono", onclick: () => open(u.name) }, u.name)],
    ["State", (u) => el("span", { class: isBad(u) ? "bad" : u.activeState === "active" ? "good" : "dim" }, `${u.activeState} (${u.subState})`)],
    ["What it is", (u) => u.description, "long"],
  ], rows);
}

async function showUnit(app, box, name) {
  box.hidden = false;
  const heading = el("h2", { tabindex: "-1" }, name);
  fill(box, heading);
  heading.focus();
  try {
    const u = await app.call("machine.unit", { name });
    fill(box, heading, terms(
      ["What it is", u.unit.description],
      ["State", `${u.unit.activeState} (${u.unit.subState})${u.stateChangeTime ? ` since ${time(u.stateChangeTime)}` : ""}`],
      ["At boot", u.unitFileState], ["Last result", u.result], ["Restarts", Number(u.restarts) > 0 && u.restarts], ["Process", Number(u.mainPid) > 0 && u.mainPid],
      ["Memory", u.memoryBytes && bytes(u.memoryBytes)], ["File", u.fragmentPath && el("code", {}, u.fragmentPath)], ["Protected", u.protected]),
    el("div", { class: "row" }, el("a", { href: `#journal/${encodeURIComponent(name)}` }, "Its journal"), el("button", { type: "button", onclick: () => { box.hidden = true; } }, "Close")));
  } catch (e) {
    fill(box, heading, fault(e));
  }
}
