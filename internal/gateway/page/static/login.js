// The form with which a person logs in, and what the browser keeps of the login until the tab ends.

import { el, field, fill } from "./dom.js";
import { fault } from "./parts.js";

const key = "trident-login";

/** Returns the login of this tab, or null: {token, identity, expires}. */
export function saved() {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

/** Keeps the login for this tab; null forgets it. No cookie and no other tab has the login. */
export function save(login) {
  if (login) sessionStorage.setItem(key, JSON.stringify(login));
  else sessionStorage.removeItem(key);
}

const kinds = [
  ["passphrase", "Passphrase"],
  ["token", "Token"],
  ["certificate", "Certificate of this browser"],
];

/**
 * Shows the form. enter gets the parameters of authenticate, null for a certificate. reason is an
 * error to show, or null.
 */
export function form(main, reason, enter) {
  const name = el("input", { name: "name", autocomplete: "username", value: "admin", autocapitalize: "off", spellcheck: "false" });
  const passphrase = el("input", { name: "passphrase", type: "password", autocomplete: "current-password" });
  const token = el("input", { name: "token", type: "password", autocomplete: "off" });
  const fields = { passphrase: [field("Name", name), field("Passphrase", passphrase)], token: [field("Token", token)], certificate: [el("p", { class: "dim" }, "The browser asks for the certificate when it connects.")] };
  const place = el("div", {}, fields.passphrase);
  let kind = "passphrase";
  const choices = kinds.map(([value, label]) => field(label, el("input", {
    type: "radio", name: "kind", value, checked: value === kind, onchange: () => { kind = value; fill(place, fields[value]); },
  })));
  const button = el("button", { class: "main" }, "Log in");
  const said = el("div", {}, reason && fault(reason));
  const submit = (e) => {
    e.preventDefault();
    const given = { passphrase: { name: name.value, passphrase: passphrase.value }, token: { token: token.value.trim() }, certificate: null }[kind];
    if (given && !(given.passphrase || given.token)) {
      fill(said, fault({ message: `The ${kind} is empty.` }));
      (kind === "token" ? token : passphrase).focus();
      return;
    }
    button.disabled = true;
    fill(said, el("p", { role: "status" }, "Logging in…"));
    enter(given);
  };
  fill(main, el("h1", { tabindex: "-1" }, "Log in"),
    el("form", { class: "card", onsubmit: submit }, el("fieldset", {}, el("legend", {}, "With"), el("div", { class: "row" }, choices)), place, el("div", { class: "row" }, button), said));
  passphrase.focus();
}
