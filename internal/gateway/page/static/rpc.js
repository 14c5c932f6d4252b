// A connection to the gateway: JSON-RPC 2.0 over one WebSocket, which is opened again until close().

/** An error that the gateway has answered, or code 14 if the connection was lost. */
export class RPCError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.kind = data?.kind ?? "";
    this.hint = data?.hint ?? "";
    this.operationId = data?.operationId ?? "";
  }
}

export const unavailable = 14;
const exhausted = 8; // a limit of the gateway
const methodNotFound = -32601;

/** Reports whether an error says that the gateway does not have a method. */
export const isAbsent = (e) => e instanceof RPCError && e.code === methodNotFound;

const firstPause = 250, longestPause = 5000;
const mostEarly = 1000;

/**
 * Events: "open" (logged in; detail is the answer of authenticate, or null), "lost" (tries again),
 * "refused" (the login does not count; detail is the error; does not try again).
 */
export class RPC extends EventTarget {
  /** login returns the parameters of authenticate, or null for a certificate of the browser. */
  constructor(login) {
    super();
    this.login = login;
    this.last = 0;
    this.waiting = new Map();
    this.subscriptions = new Map();
    this.early = []; // notifications that came before the answer with the name of their subscription
    this.pause = firstPause;
    this.pending = 0; // subscriptions without an answer
    this.isOpen = false;
    this.hasBeenOpen = false; // a login that was good once is tried again
    this.isClosed = false;
  }

  open() {
    const ws = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/rpc`);
    this.ws = ws;
    ws.onopen = () => this.#enter(ws);
    ws.onmessage = (m) => this.#receive(JSON.parse(m.data));
    ws.onclose = () => this.#lose(ws);
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.ws?.close();
  }

  async #enter(ws) {
    const params = this.login();
    try {
      const answer = params ? await this.#send("authenticate", params) : await this.#send("version", {}).then(() => null);
      if (ws !== this.ws) return;
      this.isOpen = true;
      this.hasBeenOpen = true;
      this.pause = firstPause;
      this.dispatchEvent(new CustomEvent("open", { detail: answer }));
      for (const s of [...this.subscriptions.values()]) this.#subscribe(s);
    } catch (e) {
      if (e.code === unavailable && ws.readyState !== WebSocket.OPEN) return; // lost: #lose tries again
      if (!params && e.code === unavailable) { // tridentd does not answer; the login counts
        this.isOpen = true;
        this.dispatchEvent(new CustomEvent("open", { detail: null }));
        return;
      }
      if (this.hasBeenOpen && (e.code === unavailable || e.code === exhausted)) { ws.close(); return; }
      this.close();
      this.dispatchEvent(new CustomEvent("refused", { detail: e }));
    }
  }

  #lose(ws) {
    if (ws !== this.ws) return;
    const was = this.isOpen;
    this.isOpen = false;
    for (const { reject } of this.waiting.values()) reject(new RPCError({ code: unavailable, message: "the connection to the gateway was lost" }));
    this.waiting.clear();
    for (const s of this.subscriptions.values()) s.name = "";
    this.early = [];
    if (this.isClosed) return;
    this.dispatchEvent(new CustomEvent("lost", { detail: was }));
    this.timer = setTimeout(() => this.open(), this.pause * (0.75 + Math.random() / 2));
    this.pause = Math.min(this.pause * 2, longestPause);
  }

  /** Calls a method. Fails with an RPCError. */
  call(method, params = {}) {
    if (!this.isOpen) return Promise.reject(new RPCError({ code: unavailable, message: "there is no connection to the gateway" }));
    return this.#send(method, params);
  }

  #send(method, params) {
    this.last += 1;
    const id = this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.ws.send(JSON.stringify({ jsonrpc: "2.0", method, params, id }));
    });
  }

  #receive(m) {
    if (m.method) {
      this.#notify(m.method, m.params);
      return;
    }
    const w = this.waiting.get(m.id);
    this.waiting.delete(m.id);
    if (m.error) w?.reject(new RPCError(m.error));
    else w?.resolve(m.result);
  }

  #notify(method, params) {
    for (const s of this.subscriptions.values()) {
      if (s.name !== params.subscription) continue;
      if (method === "notify.end") {
        this.subscriptions.delete(s.key);
        s.onEnd(params.error ? new RPCError(params.error) : null);
      } else s.onNote(params);
      return;
    }
    if (this.pending > 0 && this.early.length < mostEarly) this.early.push([method, params]);
  }

  /**
   * Subscribes, and again after each new connection: params() returns the parameters. onNote gets
   * each notification, onEnd the error or null when no more will come. Returns a function that
   * ends the subscription.
   */
  subscribe(params, onNote, onEnd = () => {}) {
    this.last += 1;
    const s = { key: this.last, params, onNote, onEnd, name: "" };
    this.subscriptions.set(s.key, s);
    if (this.isOpen) this.#subscribe(s);
    return () => {
      this.subscriptions.delete(s.key);
      if (s.name && this.isOpen) this.#send("notifications.unsubscribe", { subscription: s.name }).catch(() => {});
    };
  }

  async #subscribe(s) {
    try {
      this.pending += 1;
      const { subscription } = await this.#send("notifications.subscribe", s.params()).finally(() => { this.pending -= 1; });
      if (this.subscriptions.has(s.key)) s.name = subscription;
      else this.#send("notifications.unsubscribe", { subscription }).catch(() => {});
      for (const [method, params] of this.early.splice(0)) this.#notify(method, params);
    } catch (e) {
      if (e.code === unavailable && !this.isOpen) return; // again after the next connection
      this.subscriptions.delete(s.key);
      s.onEnd(e);
    }
  }
}
