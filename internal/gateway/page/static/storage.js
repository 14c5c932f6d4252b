// Disks, mounts and shares.

import { el, field, fill, table } from "./dom.js";
import { bytes, word } from "./format.js";
import { actButton, fault, live } from "./parts.js";

// File systems of the kernel, which have no space of their own.
const ofKernel = new Set(["proc", "sysfs", "cgroup2", "cgroup", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore", "bpf", "configfs", "fusectl", "hugetlbfs", "autofs", "binfmt_misc", "efivarfs", "nsfs", "rpc_pipefs", "devtmpfs"]);

export function storage(app, box) {
  const mounts = el("section"), disks = el("section"), shares = el("section");
  fill(box, mounts, disks, shares);
  showMounts(app, mounts);
  live(app, disks, [["machine.disks"]], (answer) => {
    fill(disks, el("h2", {}, "Disks"), answer instanceof Error ? fault(answer) : el("div", { class: "scroll" }, diskTable(answer.disks ?? [])));
  });
  live(app, shares, [["shares.list"]], (answer) => {
    fill(shares, el("h2", {}, "Shares of other hosts"), answer instanceof Error ? fault(answer) : shareTable(answer.shares ?? []));
  }, 60);
}

function showMounts(app, box) {
  const filter = el("input", { type: "search" }), all = el("input", { type: "checkbox" }), list = el("div");
  let mounts = [];
  const draw = () => {
    const text = filter.value.toLowerCase();
    const rows = mounts.filter((m) => (all.checked || !ofKernel.has(m.type)) && `${m.target} ${m.source} ${m.type}`.toLowerCase().includes(text));
    fill(list, el("p", { class: "dim" }, `${rows.length} of ${mounts.length} mounts`), mountTable(app, rows));
  };
  filter.addEventListener("input", draw);
  all.addEventListener("change", draw);
  fill(box, el("h2", {}, "Mounts"), field("Filter by place, source or type", filter), field("Also those of the kernel", all), list);
  live(app, list, [["mounts.list"]], (answer) => {
    if (answer instanceof Error) {
      fill(list, fault(answer));
      return;
    }
    mounts = answer.mounts ?? [];
    draw();
  }, 60);
}

function mountTable(app, rows) {
  return table("Mounts", [
    ["Place", (m) => el("code", {}, m.target)],
    ["Source", (m) => el("code", {}, m.source), "long"],
    ["Type", (m) => m.type],
    ["Space", (m) => space(m)],
    ["Act", (m) => unmount(app, m)],
  ], rows);
}

function space(m) {
  if (m.isUnresponsive) return el("span", { class: "bad" }, "the server does not answer");
  if (!Number(m.size)) return "";
  const used = Number(m.size) - Number(m.free ?? 0);
  return [el("progress", { max: m.size, value: used, "aria-label": `Space in use of ${m.target}` }), `${bytes(used)} of ${bytes(m.size)}`];
}

// The page has a button only for mounts below the folders in which people mount. Trident refuses to unmount
// what the host needs.
function unmount(app, m) {
  if (!/^\/(mnt|media|srv|home)\//.test(m.target)) return "";
  return actButton(app, {
    method: "mounts.unmount", label: `Unmount ${m.target}`,
    question: () => ({
      title: `Unmount ${m.target}?`, label: "Unmount", isDangerous: true,
      text: [`Programs can no longer use the files in ${m.target}. Services that require the mount stop.`, "If a program uses it, Trident unmounts nothing and says who it is."],
    }),
    params: () => ({ where: m.target }), done: () => app.freshen(),
  });
}

function diskTable(disks) {
  return table("Disks and partitions", [
    ["Name", (d) => el("code", {}, d.parent ? `└ ${d.name}` : d.name)],
    ["Kind", (d) => word("BLOCK_KIND_", d.kind)],
    ["Size", (d) => bytes(d.size), "number"],
    ["Mounted at", (d) => (d.mountPoints ?? []).join(", "), "long"],
    ["Model", (d) => d.model],
  ], disks.filter((d) => Number(d.size) > 0));
}

function shareTable(shares) {
  if (shares.length === 0) return el("p", {}, "None.");
  return table("Shares", [
    ["Place", (s) => el("code", {}, s.where)],
    ["Share", (s) => el("code", {}, s.what), "long"],
    ["Type", (s) => s.type],
    ["State", (s) => [s.mounted ? "mounted" : "not mounted", s.persistent && ", at each boot"]],
  ], shares);
}
