// Calls the gateway with clients of other projects, unchanged. URL, TOKEN and the authority
// (NODE_EXTRA_CA_CERTS) come from the test.
import { createRequire } from "node:module"
import assert from "node:assert/strict"

const require = createRequire(import.meta.url)
const { URL: url, TOKEN: token } = process.env
const socketURL = url.replace("https:", "wss:")
const headers = { Authorization: `Bearer ${token}` }

async function jsonRPC20() {
  const { JSONRPCClient } = require("json-rpc-2.0")
  const client = new JSONRPCClient(async (request) => {
    const response = await fetch(url, { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(request) })
    if (response.status === 200) client.receive(await response.json())
    else assert.equal(response.status, 204)
  })
  assert.equal(typeof (await client.request("version", {})).version, "string")
  client.notify("version", {})
  await assert.rejects(client.request("none", []), { code: -32601 })

  const WebSocket = require("ws")
  const ws = new WebSocket(socketURL)
  await new Promise((resolve, reject) => { ws.onopen = resolve; ws.onerror = reject })
  const socket = new JSONRPCClient(async (request) => ws.send(JSON.stringify(request)))
  ws.onmessage = (m) => socket.receive(JSON.parse(m.data))
  assert.match((await socket.request("authenticate", { token })).identity, /^token:/)
  assert.ok((await socket.request("system_load.current", {})).processors >= 1)
  const { subscription } = await socket.request("notifications.subscribe", { topic: "load" })
  await socket.request("notifications.unsubscribe", [subscription])
  ws.close()
}

async function jayson() {
  const { hostname, port, pathname } = new URL(url)
  const client = require("jayson/promise").Client.https({ hostname, port, path: pathname, headers })
  assert.ok((await client.request("self.status", {})).result.runningVersion)
  assert.equal((await client.request("self.history", { limit: -1 })).error.code, 3)
  const batch = await client.request([client.request("version", [], undefined, false), client.request("none", [], undefined, false)])
  assert.equal(batch.length, 2)
}

async function openRPC() {
  const { HTTPTransport, WebSocketTransport, RequestManager, Client } = await import("@open-rpc/client-js")
  const http = new Client(new RequestManager([new HTTPTransport(url, { headers })]))
  assert.equal((await http.request({ method: "rpc.discover", params: [] })).openrpc, "1.2.6")
  await assert.rejects(http.request({ method: "operations.get", params: ["none"] }), { code: 5 })
  const ws = new Client(new RequestManager([new WebSocketTransport(socketURL)]))
  await assert.rejects(ws.request({ method: "version", params: [] }), { code: 16 })
  await ws.request({ method: "authenticate", params: { token } })
  assert.equal(typeof (await ws.request({ method: "version", params: [] })).version, "string")
  ws.close()
}

async function metaSchema() {
  // It refers to a copy of the meta-schema of JSON Schema, draft 7, by another name.
  const text = JSON.stringify(require("@open-rpc/meta-schema").default)
  const meta = JSON.parse(text.replace(/https:\/\/meta\.json-schema\.tools\/?(#\/definitions\/JSONSchemaObject)?/g, "http://json-schema.org/draft-07/schema#"))
  const Ajv = require("ajv")
  const ajv = new Ajv({ unknownFormats: "ignore", logger: false })
  const document = await (await fetch(url.replace("/rpc", "/openrpc.json"))).json()
  assert.ok(ajv.validate(meta, document), JSON.stringify(ajv.errors))
  assert.ok(!ajv.validate(meta, { ...document, other: 1 }), "the meta-schema refuses an unknown member")
  // What the text of the specification demands, and the meta-schema does not.
  for (const m of document.methods) {
    assert.ok(m.result?.schema && Array.isArray(m.params), m.name)
    const required = m.params.map((p) => !!p.required)
    assert.deepEqual(required, [...required].sort().reverse(), `${m.name}: optional parameters are last`)
  }
  const all = JSON.stringify(document)
  for (const [, name] of all.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) assert.ok(document.components.schemas[name], name)
}

for (const test of [jsonRPC20, jayson, openRPC, metaSchema]) {
  await test()
  console.log("passed:", test.name)
}
process.exit(0)
