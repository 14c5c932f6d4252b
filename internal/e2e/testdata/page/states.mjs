// Each view in each state, with axe; the bytes of the page; and the pictures of its documentation.
import assert from "node:assert/strict";
import { join } from "node:path";
import { audit, control, IMAGE, logIn, PICTURES, READER, run, see } from "./common.mjs";

const budget = 150 * 1024;

async function picture(page, name, width = 960, height = 720) {
  if (!PICTURES) return;
  await page.mouse.move(0, 0);
  await page.setViewportSize({ width, height });
  await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
  await page.screenshot({ path: join(PICTURES, `page-${name}.png`) });
  await page.setViewportSize({ width: 1280, height: 900 });
}

// count counts the bytes that a page receives.
async function count(page) {
  const cdp = await page.context().newCDPSession(page);
  const sum = { files: 0, messages: 0 };
  await cdp.send("Network.enable");
  await cdp.send("Network.setCacheDisabled", { cacheDisabled: true });
  cdp.on("Network.loadingFinished", (e) => { sum.files += e.encodedDataLength; });
  cdp.on("Network.webSocketFrameReceived", (e) => { sum.messages += e.response.payloadData.length; });
  return sum;
}

const go = (page, name) => page.getByRole("navigation").getByRole("link", { name }).click();

await run(async (_, open) => {
  const page = await open();
  const sum = await count(page);
  await page.reload();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await audit(page, "login");
  await logIn(page);
  await see(page, "Versions on this host");
  await see(page, "Debian GNU/Linux 13");
  await see(page, "trident"); // the extension, by the layers of /usr
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  console.log(`first paint ${Math.round(paint)} ms, files ${sum.files} bytes, messages ${sum.messages} bytes`);
  assert.ok(sum.files > 10_000 && sum.files + sum.messages < budget);
  await audit(page, "overview");

  await go(page, "Updates");
  await page.getByRole("button", { name: "Check for updates" }).click();
  await see(page, "Version 2.0.0 is offered.");
  await audit(page, "updates");
  await picture(page, "updates");
  // By the keyboard alone: Escape is no, and the focus returns.
  await page.getByRole("button", { name: "Upgrade to 2.0.0" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await audit(page, "question");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });

  await page.getByLabel("Reason").fill("freeze of the year's end");
  await page.getByRole("button", { name: "Hold new versions back" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Hold" }).click();
  await see(page, "freeze of the year's end");
  await page.getByRole("button", { name: "End the hold" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "End the hold" }).click();
  await page.getByRole("button", { name: "Hold new versions back" }).waitFor();
  await page.getByLabel("The only version").fill("2.0.0");
  await page.getByRole("button", { name: "Pin", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pin" }).click();
  await page.getByRole("button", { name: "Remove the pin to 2.0.0" }).waitFor();

  for (const [name, text] of [["Load", "Load of the last 24 hours"], ["Storage", "/mnt/backup"], ["Services", "backup.service"], ["Journal", "tries again after 2"]]) {
    await go(page, name);
    await see(page, text);
    await audit(page, name);
    if (name === "Load") await picture(page, "load");
  }
  await see(page, "<b>the server</b>");
  await go(page, "Services");
  await page.getByLabel("Filter by name").fill("backup");
  await see(page, "1 of 3 units");
  await page.getByRole("button", { name: "backup.service" }).click();
  await see(page, "exit-code");
  await page.getByRole("link", { name: "Its journal" }).click();
  assert.equal(await page.getByLabel("Unit", { exact: true }).inputValue(), "backup.service");

  // An operation that takes long.
  await go(page, "Updates");
  await page.getByRole("button", { name: "Check for updates" }).click();
  await page.getByRole("button", { name: "Upgrade to 2.0.0" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Upgrade" }).click();
  await see(page, "30.0 MiB of 48.0 MiB (62 %)");
  await see(page, "received 30 MiB");
  await audit(page, "running operation");
  await picture(page, "operation");
  await page.getByRole("button", { name: "Cancel the operation" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the operation" }).click();
  await see(page, "cancelled by request");
  await control("fresh");

  // An upload, watched through the restart of tridentd.
  await go(page, "Updates");
  await page.getByLabel("Image").setInputFiles(IMAGE);
  await page.getByRole("button", { name: "Upgrade", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Upgrade" }).click();
  await see(page, "waits for tridentd to restart");
  await see(page, "received 30 MiB");
  assert.equal(await page.locator("ol.steps li.done").count(), 6);
  assert.equal(await page.locator("ol.steps li[aria-current=step]").textContent(), "restart: doing");
  await audit(page, "waiting operation");
  await control("end");
  await see(page, "tridentd does not answer since");
  await audit(page, "outage");
  await control("kept");
  await see(page, "tridentd was 1.4.0 and is 2.0.0 now.");
  await see(page, "The operation is done.");
  await audit(page, "ended operation");

  // A phone: the rollback.
  await page.setViewportSize({ width: 360, height: 740 });
  await go(page, "Overview");
  const button = page.getByRole("button", { name: "Roll back to 1.4.0" });
  await button.waitFor();
  assert.ok(await page.getByRole("button", { name: "Roll back to the base" }).isDisabled());
  await see(page, "Trident returns to 1.4.0 only.");
  await picture(page, "phone", 360, 740);
  await button.click();
  await see(page, "Trident 2.0.0 stops");
  await page.getByRole("dialog").getByRole("button", { name: "Roll back" }).click();
  await see(page, "waits for tridentd to restart");
  await control("failed");
  await see(page, "tridentd was 2.0.0 and is 1.4.0 now.");

  // The failed upgrade, and its evidence.
  await go(page, "Overview");
  await see(page, "The last operation on Trident failed");
  await see(page, "Versions that failed here");
  await audit(page, "overview with a failure");

  // Another version that the host has is activated; the one that failed is not.
  assert.ok(await page.getByRole("button", { name: "Activate 2.0.0" }).isDisabled());
  await see(page, "2.0.0 failed on this host: tridentd did not answer");
  await page.getByRole("button", { name: "Activate 1.9.0" }).click();
  await see(page, "1.9.0 takes its place on trial");
  await audit(page, "question of a trial");
  await page.getByRole("dialog").getByRole("button", { name: "Activate" }).click();
  await see(page, "waits for tridentd to restart");
  await control("failed");
  await go(page, "History");
  await see(page, "did not answer for 10s");
  await see(page, "/var/lib/trident/self/evidence/op-1");
  await audit(page, "history");
  await page.getByRole("link", { name: /Steps and log/ }).click();
  await see(page, "Evidence of the version that failed");

  // Who may not do an act sees it disabled, with the right that it needs.
  const reader = await open("/#updates");
  await logIn(reader, { token: READER });
  await see(reader, "This needs the right admin. You have: read, operate.");
  assert.ok(await reader.getByRole("button", { name: "Pin", exact: true }).isDisabled());
  await go(reader, "Journal");
  await see(reader, "This needs the right secret.");
  await audit(reader, "journal without the right");
});
