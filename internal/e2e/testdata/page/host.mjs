// A person upgrades a host, whose tridentd restarts meanwhile.
import assert from "node:assert/strict";
import { control, IMAGE, logIn, PAGE, run, see } from "./common.mjs";

await run(async (browser, open) => {
  const page = await open();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await page.getByLabel("Certificate of this browser").check(); // it has none
  await page.getByRole("button", { name: "Log in" }).click();
  await see(page, "the caller has not logged in");
  await page.locator("input[type=password]").fill("a wrong passphrase");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  await logIn(page);
  await see(page, "Versions on this host");

  // A reload keeps the login; another tab does not have it.
  await page.reload();
  await see(page, "Versions on this host");
  const other = await open();
  await other.getByRole("heading", { name: "Log in" }).waitFor();

  await logIn(other);
  await see(other, "Versions on this host");

  await page.getByRole("link", { name: "Updates" }).click();
  await page.getByLabel("Image").setInputFiles(IMAGE);
  await page.getByLabel("Pause for a person").selectOption("PAUSE_BEFORE_ACTIVATE");
  await page.getByLabel("Permit that /usr becomes read-only").check();
  await page.getByRole("button", { name: "Upgrade", exact: true }).click();
  const dialog = page.getByRole("dialog");
  await see(page, "The package manager of the host cannot write to /usr");
  await dialog.getByRole("button", { name: "Upgrade" }).click();
  await see(page, "It is paused, and waits for a person");
  assert.match(page.url(), /#operation\//);

  // Another page learns of it by itself.
  await see(other, "An operation runs");
  await other.getByRole("link", { name: "Watch it live" }).click();
  await see(other, "It is paused, and waits for a person");

  await control("stop");
  await page.getByRole("button", { name: "Continue" }).click();
  await dialog.getByRole("button", { name: "Continue" }).click();
  await see(page, "tridentd does not answer since");
  await control("start");
  await see(page, "This page is attached again");
  await page.getByRole("button", { name: "Continue" }).click();
  await dialog.getByRole("button", { name: "Continue" }).click();
  await see(page, "failed; Trident has undone its steps");
  await see(page, "arm rescue");
  await see(page, "passphrase:admin");
  for (const name of ["fetch", "verify", "probe"]) assert.equal(await page.locator("ol.steps li.undone", { hasText: name }).count(), 1, name);
  await see(other, "failed; Trident has undone its steps");
  const lines = await page.getByRole("log").locator("div").allInnerTexts();
  assert.equal(lines.filter((l) => /waits for: continue/.test(l)).length, 1, lines.join("\n"));

  await page.getByRole("link", { name: "History" }).click();
  await see(page, "failed; Trident has undone its steps");
  await see(page, "arm rescue");

  // Another origin, and a name that is not the gateway's.
  const stranger = await browser.newPage({ ignoreHTTPSErrors: true });
  const at = PAGE.replace("localhost", "evil.example.org");
  const answer = await stranger.goto(`${at}/`);
  assert.equal(answer.status(), 403);
  const outcome = await stranger.evaluate((url) => new Promise((resolve) => {
    const ws = new WebSocket(`${url.replace("https", "wss")}/rpc`);
    ws.onopen = () => resolve("open");
    ws.onerror = () => resolve("refused");
  }), PAGE);
  assert.equal(outcome, "refused");
  const fetched = await stranger.evaluate((url) => fetch(`${url}/rpc`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).then(() => "read", () => "refused"), PAGE);
  assert.equal(fetched, "refused");
  await stranger.close();

  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
  assert.deepEqual(await page.context().cookies(), []);
});
