// New versions: from the update feed, from a file of this browser, or from a URL; and the policy of the owner.

import { el, field, fill, table, terms } from "./dom.js";
import { bytes, time, word } from "./format.js";
import { actButton, ask, fault } from "./parts.js";
import { policy } from "./policy.js";
import { refusal } from "./rights.js";

export function updates(app, box) {
  const feed = el("section"), manual = el("form", { class: "card" }), owner = el("section");
  fill(box, feed, manual, owner);
  showFeed(app, feed, null);
  showForm(app, manual);
  policy(app, owner);
}

const tried = [
  "Trident verifies the signature and the content of the new version, and tries it before anything changes.",
  "Then tridentd restarts in it; the host does not. This page loses tridentd for some seconds and attaches again by itself.",
  "If the new version does not prove healthy, Trident returns to this one by itself.",
];

function showFeed(app, box, answer) {
  const button = actButton(app, { id: "check", method: "self.check_updates", label: answer ? "Check again" : "Check for updates", done: (a) => { showFeed(app, box, a); app.say(a.offer ? `Version ${a.offer.version} is offered.` : "No version is offered."); } });
  fill(box, el("h2", {}, "Update feed"), button, answer && [
    terms(["Feed", answer.feed], ["Channel", answer.channel], ["Read", time(answer.refreshTime)], ["Valid until", time(answer.expireTime)]),
    reasons(answer.reasons),
    answer.offer ? offer(app, answer) : el("p", {}, "No version is offered."),
    answer.others?.length > 0 && [el("h3", {}, "Other versions"), table("Other versions of the channel", [
      ["Version", (r) => r.version],
      ["Published", (r) => time(r.publishTime)],
      ["Why not", (r) => reasons(r.reasons), "long"],
    ], answer.others)],
  ]);
}

function reasons(list) {
  return list?.length > 0 && el("ul", { class: "plain" }, list.map((r) => el("li", {},
    `${r.message || word("REASON_KIND_", r.kind)}${r.until ? ` Until ${time(r.until)}.` : ""}`)));
}

function offer(app, { offer: o, runningVersion }) {
  return el("div", {}, el("p", {}, el("strong", {}, `Version ${o.version} is offered.`), ` ${bytes(o.size)}, of which the host receives ${bytes(o.transferSize)}. Published ${time(o.publishTime)}.`),
    actButton(app, {
      method: "self.upgrade", label: `Upgrade to ${o.version}`, isMain: true,
      question: () => ({ title: `Upgrade from ${runningVersion} to ${o.version}?`, label: "Upgrade", text: tried }),
      params: () => ({ source: { feed: { version: o.version } }, requestId: newRequest() }),
      done: ({ operationId }) => app.go(`operation/${operationId}`),
    }));
}

/** Returns a new requestId. A second call with the same one begins no second operation. */
function newRequest() {
  return `page-${crypto.randomUUID()}`;
}

function showForm(app, form) {
  const input = (properties) => el("input", properties);
  const file = input({ type: "file", name: "file", accept: ".raw" });
  const url = input({ type: "text", inputmode: "url", name: "url", autocomplete: "off", spellcheck: "false" });
  const places = { file: field("Image", file), url: field("URL of the image", url, "http, https or oci") };
  const place = el("div", {}, places.file);
  let kind = "file";
  const choose = [["file", "A file of this device"], ["url", "A URL"]].map(([value, label]) => field(label, input({
    type: "radio", name: "source", value, checked: value === kind, onchange: () => { kind = value; fill(place, places[value]); },
  })));
  const trial = trialFields();
  const why = refusal("self.upgrade", app.rights);
  const button = el("button", { class: "main", disabled: Boolean(why), "aria-describedby": why && "upgrade-why" }, "Upgrade");
  const said = el("div");
  const send = async (e) => {
    e.preventDefault();
    const chosen = kind === "file" ? file.files[0] : url.value.trim();
    if (!chosen) {
      fill(said, fault({ message: kind === "file" ? "No file is chosen." : "The URL is empty." }));
      return;
    }
    const from = kind === "file" ? `${chosen.name} (${bytes(chosen.size)})` : chosen;
    if (!(await ask({ title: "Upgrade Trident?", label: "Upgrade", text: [`From ${from}.`, trial.warning(), ...tried] }))) return;
    button.disabled = true;
    fill(said);
    try {
      const source = kind === "file" ? { upload: { id: await upload(app, chosen, said) } } : { url: chosen };
      const { operationId } = await app.call("self.upgrade", { source, trial: trial.value(), requestId: newRequest() });
      app.go(`operation/${operationId}`);
    } catch (error) {
      fill(said, fault(error));
    }
    button.disabled = false;
  };
  form.addEventListener("submit", send);
  fill(form, el("h2", {}, "Upgrade from a file or a URL"), el("fieldset", {}, el("legend", {}, "Source"), el("div", { class: "row" }, choose), place),
    trial.box, el("div", { class: "row" }, button, why && el("span", { class: "why", id: "upgrade-why" }, why)), said);
}

function trialFields() {
  const soak = el("input", { type: "number", min: "1", max: "3600", placeholder: "10" });
  const deadline = el("input", { type: "number", min: "2", max: "86400", placeholder: "180" });
  const downgrade = el("input", { type: "checkbox" }), readOnly = el("input", { type: "checkbox" });
  const pause = el("select", {}, [["", "nowhere"], ["PAUSE_BEFORE_ACTIVATE", "before anything changes on the host"], ["PAUSE_BEFORE_RESTART", "before tridentd restarts in the new version"]].map(([value, label]) => el("option", { value }, label)));
  const box = el("fieldset", {}, el("legend", {}, "Trial"),
    field("Keep the new version after it has answered for (seconds)", soak), field("Roll back if it is not kept after (seconds)", deadline), field("Pause for a person", pause),
    field("Permit an older version", downgrade), field("Permit that /usr becomes read-only", readOnly, "needed where the package manager can write to /usr"));
  const value = () => ({
    ...(soak.value && { soak: `${Number(soak.value)}s` }), ...(deadline.value && { deadline: `${Number(deadline.value)}s` }),
    ...(pause.value && { pause: pause.value }), ...(downgrade.checked && { allowDowngrade: true }), ...(readOnly.checked && { allowReadOnlyUsr: true }),
  });
  const warning = () => readOnly.checked && "The package manager of the host cannot write to /usr while the new version is merged.";
  return { box, value, warning };
}

// upload sends a file to the gateway and returns the ID of the upload. It uses XMLHttpRequest, because fetch
// does not report how much it has sent.
function upload(app, file, box) {
  const bar = el("progress", { max: file.size, value: 0, "aria-label": "Upload" }), text = el("p", { class: "dim" }, "Uploading…");
  const request = new XMLHttpRequest();
  fill(box, bar, text, el("button", { type: "button", onclick: () => request.abort() }, "Cancel the upload"));
  return new Promise((resolve, reject) => {
    request.upload.onprogress = (e) => {
      bar.value = e.loaded;
      fill(text, `${bytes(e.loaded)} of ${bytes(file.size)} uploaded`);
    };
    const fail = (message) => reject(new Error(message));
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { answer = { error: { message: request.responseText || `The gateway has answered with HTTP ${request.status}.` } }; }
      if (answer.id) resolve(answer.id);
      else reject(Object.assign(new Error(answer.error?.message ?? "The gateway has not answered with an ID."), { hint: answer.error?.data?.hint }));
    };
    request.onerror = () => fail("The upload failed: the connection to the gateway was lost. Nothing has changed on the host.");
    request.onabort = () => fail("The upload was cancelled. Nothing has changed on the host.");
    request.open("POST", "/upload");
    if (app.token) request.setRequestHeader("Authorization", `Bearer ${app.token}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.send(file);
  });
}
