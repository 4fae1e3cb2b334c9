// Numbers and times as they are written in India: lakh and crore, the rupee sign, Indian time.

const whole = new Intl.NumberFormat('en-IN', { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat('en-IN', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const two = new Intl.NumberFormat('en-IN', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const exact = new Intl.NumberFormat('en-IN', { style: 'currency', currency: 'INR', trailingZeroDisplay: 'stripIfInteger' });

const LAKH = 1e5;
const CRORE = 1e7;

export const count = (value) => whole.format(value ?? 0);
export const percent = (share) => (Number.isFinite(share) ? `${one.format(share * 100)}%` : '–');
export const rupeesExact = (value) => exact.format(value ?? 0);

/** Short, with three or four digits that count: ₹845, ₹98,765, ₹9.87 L, ₹3.57 Cr, ₹35.74 Cr. */
export function rupees(value) {
  if (!Number.isFinite(value)) return '–';
  const sign = value < 0 ? '−' : '';
  const size = Math.abs(value);
  const short = (unit, name) => `${sign}₹${(size / unit >= 100 ? one : two).format(size / unit)} ${name}`;
  // What would be rounded up to 100.00 L is a crore.
  if (size >= CRORE - 500) return short(CRORE, 'Cr');
  if (size >= LAKH) return short(LAKH, 'L');
  return `${sign}₹${whole.format(size)}`;
}

/** For the axis of a chart: ₹50, ₹20k, ₹5 L, ₹2 Cr. */
export function rupeesAxis(value) {
  const size = Math.abs(value);
  const trim = (number) => String(Math.round(number * 10) / 10);
  if (size >= CRORE) return `₹${trim(value / CRORE)} Cr`;
  if (size >= LAKH) return `₹${trim(value / LAKH)} L`;
  if (size >= 1000) return `₹${trim(value / 1000)}k`;
  return `₹${trim(value)}`;
}

export const countAxis = (value) => (value >= LAKH ? `${Math.round((value / LAKH) * 10) / 10} L` : whole.format(value));

/** A wall clock in India ("2026-11-22T12:04:07") as milliseconds that are formatted in UTC. */
export const wall = (text) => Date.parse(`${text.replace(' ', 'T').slice(0, 19)}Z`);

const part = (options, timeZone) => new Intl.DateTimeFormat('en-IN', { ...options, timeZone, hourCycle: 'h23' });
const clockUtc = part({ hour: '2-digit', minute: '2-digit' }, 'UTC');
const dayUtc = part({ day: 'numeric', month: 'short' }, 'UTC');
const weekdayUtc = part({ weekday: 'short', day: 'numeric', month: 'short' }, 'UTC');
const clockIst = part({ hour: '2-digit', minute: '2-digit', second: '2-digit' }, 'Asia/Kolkata');

export const clock = (text) => clockUtc.format(wall(text));
export const day = (text) => dayUtc.format(wall(text));
export const weekday = (text) => weekdayUtc.format(wall(text));
export const dayAndClock = (text) => `${day(text)}, ${clock(text)}`;
export const seconds = (instant) => clockIst.format(new Date(instant));

/** Milliseconds that a wall clock in India is ago. */
export const ago = (text) => Date.now() + IST_MS - wall(text);

const IST_MS = 5.5 * 3600 * 1000;

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}
