// Who logs in by a certificate; and what a person sees when the gateway restarts, the host boots, or a login ends.
import assert from "node:assert/strict";
import { control, LARGE, logIn, CLIENT, PAGE, READER, run, see } from "./common.mjs";

await run(async (_, open) => {
  const owner = await open("/", { clientCertificates: [{ origin: PAGE, certPath: `${CLIENT}.crt`, keyPath: `${CLIENT}.key` }] });
  await owner.getByLabel("Certificate of this browser").check();
  await owner.getByRole("button", { name: "Log in" }).click();
  await see(owner, "Versions on this host");
  await see(owner, "by certificate");

  const person = await open("/#updates");
  await logIn(person);
  const reader = await open("/#storage");
  await logIn(reader, { token: READER });
  await see(reader, "/mnt/backup");

  // The gateway ends in the middle of an upload.
  await person.getByLabel("Image").setInputFiles(LARGE);
  await person.getByRole("button", { name: "Upgrade", exact: true }).click();
  await person.getByRole("dialog").getByRole("button", { name: "Upgrade" }).click();
  await see(person, /of 1.9 GiB uploaded/);
  await control("away");
  await see(person, "The upload failed: the connection to the gateway was lost. Nothing has changed on the host.");
  for (const page of [owner, person, reader]) await see(page, "There is no connection to the gateway since");

  // The host boots: who has a certificate or a token is in again, and learns of it. The login by passphrase was the gateway's.
  await control("booted");
  for (const page of [owner, reader]) {
    await see(page, "The host has booted again.");
    assert.equal(await page.getByRole("heading", { name: "Log in" }).count(), 0);
  }
  await see(owner, "Versions on this host");
  await person.getByRole("heading", { name: "Log in" }).waitFor();
  await see(person, "Log in again");
  await logIn(person);
  await see(person, "Update feed");
  await person.getByRole("link", { name: "History" }).click();
  await see(person, "Nothing was done on this host yet");

  // The token is revoked: the page knows with its next connection.
  await control("revoked");
  await reader.getByRole("heading", { name: "Log in" }).waitFor();
  await see(reader, "is revoked");
  assert.equal(await reader.evaluate(() => sessionStorage.length), 0);
  assert.equal(await owner.getByRole("heading", { name: "Log in" }).count(), 0);
});
