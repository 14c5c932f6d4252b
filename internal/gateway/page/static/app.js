// The page as a whole: login, navigation, and the one object that every view gets.

import { el, fill } from "./dom.js";
import { form, save, saved } from "./login.js";
import { Link } from "./link.js";
import { RPC, unavailable } from "./rpc.js";
import { overview } from "./overview.js";
import { operation } from "./operation.js";
import { updates } from "./updates.js";
import { history } from "./history.js";
import { load } from "./load.js";
import { storage } from "./storage.js";
import { services } from "./services.js";
import { journal } from "./journal.js";

// A view is [name in the URL, title, function(app, box, rest of the name)].
const views = [
  ["overview", "Overview", overview],
  ["updates", "Updates", updates],
  ["history", "History", history],
  ["load", "Load", load],
  ["storage", "Storage", storage],
  ["services", "Services", services],
  ["journal", "Journal", journal],
  ["operation", "Operation", operation],
];
const hidden = ["operation"]; // of the navigation: it needs an ID

const followAgain = 60_000;

const at = (id) => document.getElementById(id);
const main = at("main");

/** What a view uses. */
class App {
  #ends = [];
  #fresh = new Set();

  constructor(rpc) {
    this.rpc = rpc;
    this.rights = null; // as text; null if not known
    this.token = "";
    this.link = new Link(rpc, {
      show: (text) => fill(at("link"), text),
      fresh: () => this.freshen(),
      known: ({ hostname }) => { fill(at("host"), hostname); document.title = hostname ? `${hostname} · Trident` : "Trident"; },
    });
  }

  /** Calls a method. When tridentd does not answer, the page begins to look for it. */
  async call(method, params) {
    try {
      return await this.rpc.call(method, params);
    } catch (e) {
      if (e.code === unavailable && this.rpc.isOpen) this.link.probe();
      throw e;
    }
  }

  /** Calls f when the view ends. */
  atEnd(f) { this.#ends.push(f); }

  /** Calls f whenever the answers of the gateway may have changed, as long as the view is shown. */
  onFresh(f) {
    this.#fresh.add(f);
    this.atEnd(() => this.#fresh.delete(f));
  }

  freshen() { for (const f of [...this.#fresh]) f(); }

  /** Refreshes the view when an operation begins or ends. If tridentd cannot say so, it refreshes each minute and subscribes again. */
  followOperations() {
    this.rpc.subscribe(() => ({ topic: "operations" }), () => this.freshen(), () => {
      setTimeout(() => {
        if (this.rpc.isClosed) return;
        this.freshen();
        this.followOperations();
      }, followAgain);
    });
  }

  /** Reports whether a box of a view is still in the page. */
  isShown(box) { return box.isConnected; }

  /** Has a screen reader say a sentence. */
  say(text) { fill(at("say"), text); }

  go(name) { location.hash = `#${name}`; }

  end() {
    for (const f of this.#ends.splice(0)) f();
  }

  /** Shows the view that the URL names. */
  show(moveFocus) {
    this.end();
    const [name, ...rest] = location.hash.slice(1).split("/");
    const [key, title, view] = views.find(([n]) => n === name) ?? views[0];
    const box = el("div", {}), heading = el("h1", { tabindex: "-1" }, title);
    fill(main, heading, box);
    fill(at("nav").firstElementChild, views.filter(([n]) => !hidden.includes(n)).map(([n, t]) => el("li", {},
      el("a", { href: `#${n}`, "aria-current": n === key && "page" }, t))));
    if (moveFocus) heading.focus();
    view(this, box, decodeURIComponent(rest.join("/")), heading);
  }
}

let app = null;

function leave(reason) {
  app?.end();
  app?.rpc.close();
  app = null;
  save(null);
  at("nav").hidden = true;
  at("me").hidden = true;
  fill(at("link"));
  form(main, reason, begin);
}

/**
 * Logs in with the parameters of authenticate, null for a certificate. If the gateway cannot be reached, a
 * login from the form fails, and a saved login waits for the gateway.
 */
function begin(credentials, isSaved = false) {
  let given = credentials;
  const rpc = new RPC(() => given), own = new App(rpc);
  app = own;
  let isIn = false;
  rpc.addEventListener("open", ({ detail }) => {
    if (given) {
      // From now on the token, which a restart of the gateway may end, but not the passphrase.
      given = { token: detail.token || given.token };
      own.rights = detail.rights;
      own.token = given.token;
      save({ token: given.token, identity: detail.identity, expires: detail.expires });
    }
    fill(at("me"), el("span", {}, given ? `${detail.identity}: ${detail.rights}` : "by certificate"), el("button", { type: "button", onclick: () => leave(null) }, "Log out"));
    at("me").hidden = false;
    at("nav").hidden = false;
    if (!isIn) own.show(true);
    isIn = true;
  });
  rpc.addEventListener("lost", () => {
    if (!isIn && !isSaved) leave({ message: "The gateway does not accept the connection.", hint: credentials ? "Try again in some seconds." : "Choose the certificate again, or log in in another way." });
  });
  rpc.addEventListener("refused", ({ detail }) => { if (app === own) leave(detail); });
  rpc.addEventListener("open", () => own.followOperations(), { once: true });
  rpc.open();
}

addEventListener("hashchange", () => app?.show(true));
at("skip").addEventListener("click", (e) => { e.preventDefault(); main.focus(); });

const login = saved();
if (login?.token) begin({ token: login.token }, true);
else form(main, null, begin);
