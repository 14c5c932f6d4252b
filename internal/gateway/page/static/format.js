// Numbers, times and words for people.

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Returns a number of bytes with a unit: 12.3 MiB. */
export function bytes(n) {
  let v = Number(n), i = 0;
  for (; v >= 1024 && i < units.length - 1; i++) v /= 1024;
  return `${i === 0 || v >= 100 ? Math.round(v) : v.toFixed(1)} ${units[i]}`;
}

/** Returns a duration in seconds with its two largest units: 3 d 4 h. */
export function span(seconds) {
  const s = Math.max(0, Math.round(Number(seconds)));
  const parts = [["d", Math.floor(s / 86400)], ["h", Math.floor(s / 3600) % 24], ["min", Math.floor(s / 60) % 60], ["s", s % 60]];
  const from = parts.findIndex(([, n]) => n > 0);
  if (from < 0) return "0 s";
  return parts.slice(from, from + 2).filter(([, n]) => n > 0).map(([u, n]) => `${n} ${u}`).join(" ");
}

/** Returns the seconds of a duration as JSON-RPC has it: "1.5s". */
export function seconds(text) {
  return Number(String(text ?? "0s").replace(/s$/, ""));
}

/** Returns a time of RFC 3339 in the language and the zone of the browser; "" for none. */
export function time(text) {
  if (!text) return "";
  const t = new Date(text);
  return Number.isNaN(t.getTime()) ? text : t.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Returns a value of an enumeration in words: PHASE_UNDONE without its prefix is "undone". */
export function word(prefix, value) {
  const text = String(value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
  return text === "unspecified" ? "" : text;
}
