// A person services a machine: a good version stays, a bad one is rolled back with evidence, and the person returns to the base.
import assert from "node:assert/strict";
import { BAD, IMAGE, logIn, run, see } from "./common.mjs";

await run(async (_, open) => {
  const page = await open();
  const go = (name) => page.getByRole("navigation").getByRole("link", { name }).click();
  const dialog = page.getByRole("dialog");
  await logIn(page);
  await see(page, "Versions on this host");

  const upgrade = async (image) => {
    await go("Updates");
    await page.getByLabel("Image").setInputFiles(image);
    await page.getByLabel("Keep the new version after it has answered for (seconds)").fill("2");
    await page.getByLabel("Permit that /usr becomes read-only").check();
    await page.getByRole("button", { name: "Upgrade", exact: true }).click();
    await dialog.getByRole("button", { name: "Upgrade" }).click();
  };
  await upgrade(IMAGE);
  await see(page, "tridentd was 1.0.0 and is 2.0.0 now.");
  await see(page, "The operation is done.");

  await upgrade(BAD);
  await see(page, "failed; Trident has undone its steps");
  await go("History");
  const failed = page.getByRole("listitem").filter({ hasText: "/var/lib/trident/self/evidence/" }).first();
  await failed.waitFor();
  const text = await failed.innerText();
  assert.match(text, /trident 3\.0\.1 was rolled back: /);
  assert.match(text, /passphrase:admin/);
  await go("Overview");
  await see(page, "Versions that failed here");

  await page.getByRole("button", { name: "Roll back to the base, 1.0.0" }).click();
  await see(page, "Trident 2.0.0 stops");
  await dialog.getByRole("button", { name: "Roll back" }).click();
  await see(page, "tridentd was 2.0.0 and is 1.0.0 now.");
  await see(page, "The operation is done.");
});
