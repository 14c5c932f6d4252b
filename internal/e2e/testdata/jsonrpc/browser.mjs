// Runs the example for browsers of docs/json-rpc.md as it is, but for the address. DOC, URL, TOKEN and
// OPERATION come from the test.
import { createRequire } from "node:module"
import { readFileSync } from "node:fs"
import assert from "node:assert/strict"

const require = createRequire(import.meta.url)
const { DOC, URL: url, TOKEN: token, OPERATION: id } = process.env
const block = readFileSync(DOC, "utf8").match(/^ {4}const ws = [\s\S]*?^ {4}ws\.onmessage = .*$/m)
assert.ok(block, "the page has no example for browsers")
const example = block[0].replace("wss://host1.example.org:7443/rpc", url.replace("https:", "wss:"))
assert.notEqual(example, block[0])

const timer = setTimeout(() => { console.error("no event within a minute:", JSON.stringify(seen)); process.exit(1) }, 60_000)
const seen = []
const log = (text) => {
  const message = JSON.parse(text)
  seen.push(message)
  assert.ok(!message.error, text)
  // The second answer may come after the first event.
  const isComplete = seen.some((m) => m.id === 2 && m.result.subscription) && seen.some((m) => m.method === "notify.operation" && m.params.event.operationId === id)
  if (!isComplete) return
  assert.equal(seen[0].result.identity, "token:panel")
  clearTimeout(timer)
  process.exit(0)
}
new Function("WebSocket", "console", "token", "id", example)(require("ws"), { log }, token, id)
