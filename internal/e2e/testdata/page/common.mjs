// What both scripts use: Chromium, the login, axe, and waits for texts of the page.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

export const { PAGE, CONTROL, PASSPHRASE, READER, IMAGE, BAD, LARGE, CLIENT, PICTURES } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Deadline of a wait, which ends with its event, in milliseconds. */
export const patience = Number(process.env.PATIENCE ?? 60_000);

export async function launch() {
  const path = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  return chromium.launch({
    executablePath: path,
    // A test is often root, for which Chromium has no sandbox. Names lead to this machine.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP *.example.org 127.0.0.1"],
  });
}

/** Opens the page in a context of its own. Any error of a script or of the policy fails the test. */
export async function open(browser, at = "/", options = {}) {
  const context = await browser.newContext({ ...options, ignoreHTTPSErrors: true, locale: "en-GB", timezoneId: "UTC", viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (e) => page.faults.push(String(e)));
  page.on("console", (m) => { if (m.type() === "error" && !/WebSocket|ERR_/.test(m.text())) page.faults.push(m.text()); });
  page.on("request", (r) => { if (!r.url().startsWith(PAGE)) page.faults.push(`a request to ${r.url()}`); });
  await page.goto(PAGE + at);
  return page;
}

export async function logIn(page, { token } = {}) {
  if (token) {
    await page.getByLabel("Token", { exact: true }).check();
    await page.locator("input[name=token]").fill(token);
  } else await page.getByLabel("Passphrase", { exact: true }).and(page.locator("input[type=password]")).fill(PASSPHRASE);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("navigation", { name: "Views" }).waitFor();
}

export async function see(page, text) {
  await page.getByText(text).first().waitFor();
}

export const control = async (name) => {
  const answer = await fetch(`${CONTROL}/${name}`);
  assert.equal(answer.status, 200, await answer.text());
};

/** Fails if axe-core finds a violation, or if the page is wider than the screen. */
export async function audit(page, name) {
  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: 800 });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document));
      const found = violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 3).join(" ")}`);
      assert.deepEqual(found, [], `${name}, ${width}, ${colorScheme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${name} is ${wide} pixels wide on a screen of ${width}`);
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
}

/** Runs f with Chromium, and fails for each fault of a page that it has opened. */
export async function run(f) {
  const browser = await launch();
  try {
    const pages = [];
    await f(browser, async (at, options) => { const p = await open(browser, at, options); pages.push(p); return p; });
    for (const p of pages) assert.deepEqual(p.faults, []);
  } catch (e) {
    for (const c of browser.contexts()) for (const p of c.pages()) console.log(p.url(), await p.locator("body").innerText().catch(() => ""), p.faults);
    throw e;
  } finally {
    await browser.close();
  }
}
