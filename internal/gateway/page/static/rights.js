// Which right each act of this page needs. A test of the gateway compares the table with its own.

export const needs = {
  "self.upgrade": "operate",
  "self.activate": "operate",
  "self.rollback": "operate",
  "self.hold": "admin",
  "self.unhold": "admin",
  "self.pin": "admin",
  "self.unpin": "admin",
  "operations.cancel": "operate",
  "operations.continue": "operate",
  "mounts.unmount": "operate",
  "machine.journal": "secret",
};

/**
 * Returns why a person cannot call a method, or "". The rights are those of the login, "read,
 * operate"; null if they are not known, as with a certificate: then the gateway decides.
 */
export function refusal(method, rights) {
  const right = needs[method];
  if (!right || rights === null || rights.split(", ").includes(right)) return "";
  return `This needs the right ${right}. You have: ${rights}.`;
}
