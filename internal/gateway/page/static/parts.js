// Parts of all views: buttons that act, the question before, errors, and answers that stay fresh.

import { el, fill, newID } from "./dom.js";
import { isAbsent } from "./rpc.js";
import { refusal } from "./rights.js";

/** Returns a box with an error, and what the person can do about it. */
export function fault(e) {
  const text = isAbsent(e) ? "This gateway is too old for this view: it does not have the method." : e.message;
  return el("div", { class: "fault", role: "alert" }, el("p", {}, text), e.hint && el("p", { class: "dim" }, e.hint));
}

/** Returns the failure of an operation as a box. */
export function failure(f) {
  return el("div", { class: "fault" }, el("p", {}, el("strong", {}, f.reason), ` ${f.message}`), f.hint && el("p", { class: "dim" }, f.hint));
}

/**
 * Asks whether to act. question has title, text (a list of sentences: what the act does), label (of
 * the button) and isDangerous. Returns a promise of true or false; Escape is false.
 */
export function ask(question) {
  return new Promise((resolve) => {
    const title = newID("title"), text = newID("text");
    const close = (yes) => { d.close(); d.remove(); resolve(yes); };
    const d = el("dialog", { "aria-labelledby": title, "aria-describedby": text, oncancel: (e) => { e.preventDefault(); close(false); } },
      el("h2", { id: title }, question.title),
      el("div", { id: text }, question.text.filter(Boolean).map((t) => el("p", {}, t))),
      el("div", { class: "row" },
        el("button", { type: "button", autofocus: true, onclick: () => close(false) }, "Cancel"),
        el("button", { type: "button", class: question.isDangerous ? "danger" : "main", onclick: () => close(true) }, question.label)));
    document.body.append(d);
    d.showModal();
  });
}

/**
 * Returns a button that calls a method after a question. act has method, label, question() (null to
 * ask nothing), params(), done(answer) and isMain. A person without the right sees the
 * reason beside the button. A failure appears below it.
 */
export function actButton(app, act) {
  const why = act.why || refusal(act.method, app.rights);
  const id = act.id ?? newID("act"), said = el("div", {});
  const button = el("button", {
    type: "button", id, class: act.isMain && "main", disabled: Boolean(why), "aria-describedby": why && `${id}-why`,
    onclick: async () => {
      fill(said);
      const question = act.question?.();
      if (question && !(await ask(question))) return;
      button.disabled = true;
      try {
        const answer = await app.call(act.method, act.params?.() ?? {});
        await act.done?.(answer);
      } catch (e) {
        fill(said, fault(e));
      }
      button.disabled = false;
    },
  }, act.label);
  return el("div", {}, button, why && el("span", { class: "why", id: `${id}-why` }, why), said);
}

/**
 * Shows answers in a box and keeps them fresh. calls is a list of [method, params]; show gets for each an
 * answer, or the error, and fills the box. It is called again only when an answer has changed. The page
 * makes the calls again after each operation, after each new connection, and, if every is given, after each
 * so many seconds. Returns a function that makes them now.
 */
export function live(app, box, calls, show, every) {
  let shown = "", running = false, again = false;
  const ask = async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      const got = await Promise.all(calls.map(([method, params]) => app.call(method, params).catch((e) => e)));
      if (!app.isShown(box)) return;
      const text = JSON.stringify(got.map((g) => (g instanceof Error ? [g.code, g.message] : g)));
      // During an outage the view keeps its last answers; the line at the top of the page says that there is one.
      if (got.some((g) => g instanceof Error && g.code === 14) && shown) continue;
      if (text !== shown) {
        shown = text;
        show(...got);
      }
    } while (again);
    running = false;
  };
  if (every) {
    const timer = setInterval(() => { if (!document.hidden) ask(); }, every * 1000);
    app.atEnd(() => clearInterval(timer));
  }
  app.onFresh(ask);
  ask();
  return ask;
}
