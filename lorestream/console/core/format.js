// How numbers, times and types are written, in every view.

const numbers = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12,345 */
export const number = (value) => (value === null || value === undefined ? "–" : numbers.format(value));

/** 12.3K */
export const compact = (value) => (value === null || value === undefined ? "–" : short.format(value));

/** A number with at most `digits` decimals. */
export const decimal = (value, digits = 2) =>
  value === null || value === undefined ? "–" : String(Number(Number(value).toFixed(digits)));

/** Unix seconds as local date and time: 2026-03-01 14:05:09 */
export function dateTime(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime())) return String(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A duration in seconds: 350 ms, 12 s, 5 min, 3 h, 12 d */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  if (size < 1) return `${decimal(seconds * 1000, size < 0.01 ? 1 : 0)} ms`;
  if (size < 120) return `${decimal(seconds, size < 10 ? 1 : 0)} s`;
  if (size < 7200) return `${Math.round(seconds / 60)} min`;
  if (size < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** How long ago, or in how long: "5 min ago", "in 3 h" */
export function fromNow(seconds, now = Date.now() / 1000) {
  if (seconds === null || seconds === undefined) return "–";
  const away = seconds - now;
  return away > 0 ? `in ${duration(away)}` : `${duration(-away)} ago`;
}

/** 3.4 MiB */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${decimal(value, unit ? 1 : 0)} ${units[unit]}`;
}

/** A text as one word of a shell, for commands to copy. Ids may contain anything. */
export const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The colour of a name, such as a type of event: always the same for the same name. */
export function colourOf(name) {
  if (!name) return "hsl(215 8% 55%)";
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return `hsl(${(sum * 137.508) % 360} ${[62, 45, 75][sum % 3]}% ${[50, 42, 58][sum % 3]}%)`;
}
