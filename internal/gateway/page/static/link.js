// The two connections to the host: from this page to the gateway, and from the gateway to tridentd. Each may
// end at any time, by an upgrade, a restart or a boot. The page connects again by itself, and says so.

import { time } from "./format.js";
import { unavailable } from "./rpc.js";

const every = 1000, shownFor = 20000;

/**
 * Watches the connection. show gets a sentence for the person, "" to remove it; fresh is called
 * when answers may have changed; known gets {version, hostname} of the host.
 */
export class Link {
  constructor(rpc, { show, fresh, known }) {
    Object.assign(this, { rpc, show, fresh, known, version: "", boot: "", outage: "", isProbing: false });
    rpc.addEventListener("lost", () => this.#say(`There is no connection to the gateway since ${this.#since()}. This page tries again until there is one; you need not reload it.`));
    rpc.addEventListener("open", () => this.probe());
    addEventListener("online", () => { if (!rpc.isOpen && !rpc.isClosed) { clearTimeout(rpc.timer); rpc.open(); } });
  }

  #since() {
    this.outage ||= time(new Date().toISOString());
    return this.outage;
  }

  #say(text) {
    clearTimeout(this.timer);
    this.show(text);
  }

  /** Asks tridentd for its version once, and begins to probe if that has changed or if there is no answer. Called while an operation waits for a restart, because the gateway does not report it. */
  async look() {
    if (this.isProbing || !this.rpc.isOpen) return;
    const { version } = await this.rpc.call("version").catch(() => ({}));
    if (version !== this.version) this.probe();
  }

  /** Asks tridentd each second until it answers, then shows what has changed since its last answer and has the views refreshed. */
  async probe() {
    if (this.isProbing) return;
    this.isProbing = true;
    while (this.rpc.isOpen) {
      try {
        const { version } = await this.rpc.call("version");
        await this.#found(version);
        break;
      } catch (e) {
        if (e.code !== unavailable) { // it answers, and refuses
          await this.#found("");
          break;
        }
        if (!this.rpc.isOpen) break;
        this.#say(`tridentd does not answer since ${this.#since()}; it may be restarting. This page tries again until it answers.`);
        await new Promise((resolve) => { setTimeout(resolve, every); });
      }
    }
    this.isProbing = false;
  }

  async #found(version) {
    const { bootId: boot = "" } = await this.rpc.call("machine.uptime").catch(() => ({}));
    const { hostname = "" } = await this.rpc.call("machine.version").catch(() => ({}));
    const news = [];
    if (this.boot && boot && boot !== this.boot) news.push("The host has booted again.");
    if (this.version && version && version !== this.version) news.push(`tridentd was ${this.version} and is ${version} now.`);
    if (this.outage) news.unshift(`This page is attached again, after an outage that began at ${this.outage}.`);
    this.version = version || this.version;
    this.boot = boot || this.boot;
    this.outage = "";
    this.known({ version: this.version, hostname });
    if (news.length > 0) { // else what was said last stays for its time
      this.#say(news.join(" "));
      this.timer = setTimeout(() => this.show(""), shownFor);
    }
    this.fresh();
  }
}
