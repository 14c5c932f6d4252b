// The policy of the owner of the host for new versions, and the buttons for hold and pin.

import { el, field, fill, terms } from "./dom.js";
import { bytes, time, word } from "./format.js";
import { actButton, fault, live } from "./parts.js";

export function policy(app, box) {
  const now = el("div"), acts = el("div");
  fill(box, el("h2", {}, "Policy of the owner"), now, acts);
  const refresh = live(app, now, [["self.policy"]], (answer) => {
    if (answer instanceof Error) {
      fill(now, fault(answer));
      return;
    }
    const p = answer.policy ?? {};
    fill(now, terms(
      ["Feed", p.feed || "none"], ["Channel", p.channel],
      ["By itself", { AUTO_OFF: "nothing", AUTO_CHECK: "checks for updates", AUTO_STAGE: "checks and stages", AUTO_ACTIVATE: "checks, stages and activates" }[p.auto] ?? word("AUTO_", p.auto)],
      ["Hold", p.hold ? `${p.hold.until ? `until ${time(p.hold.until)}` : "until a person ends it"}${p.hold.reason ? `: ${p.hold.reason}` : ""}` : "none"],
      ["Pinned to", p.pin || "no version"],
      ["At most", Number(p.maxBytes) > 0 && `${bytes(p.maxBytes)} for one download`]));
    showActs(app, acts, p, () => refresh());
  });
}

function showActs(app, box, p, refresh) {
  const until = el("input", { type: "datetime-local", id: "hold-until" }), reason = el("input", { type: "text", id: "hold-reason", maxlength: "200" });
  const pin = el("input", { type: "text", id: "pin-version", autocomplete: "off", spellcheck: "false" });
  const hold = p.hold ? actButton(app, {
    method: "self.unhold", label: "End the hold", done: refresh,
    question: () => ({ title: "End the hold?", label: "End the hold", text: ["The host takes new versions again, as its policy says."] }),
  }) : [field("Until", until, "empty: until a person ends it"), field("Reason", reason), actButton(app, {
    method: "self.hold", label: "Hold new versions back", done: refresh,
    question: () => ({ title: "Hold new versions back?", label: "Hold", text: [`Trident takes no new version ${until.value ? `until ${time(until.value)}` : "until a person ends the hold"}, neither by itself nor from the feed on request.`] }),
    params: () => ({ ...(until.value && { until: new Date(until.value).toISOString() }), ...(reason.value && { reason: reason.value }) }),
  })];
  const pinned = p.pin ? actButton(app, {
    method: "self.unpin", label: `Remove the pin to ${p.pin}`, done: refresh,
    question: () => ({ title: "Remove the pin?", label: "Remove the pin", text: ["The host takes any version that its policy allows."] }),
  }) : [field("The only version that the host may take", pin), actButton(app, {
    method: "self.pin", label: "Pin", done: refresh,
    question: () => ({ title: `Pin the host to ${pin.value}?`, label: "Pin", text: [`The host takes no version from the feed but ${pin.value}.`] }),
    params: () => ({ pin: pin.value.trim() }),
  })];
  fill(box, el("h3", {}, "Hold"), hold, el("h3", {}, "Pin"), pinned);
}
