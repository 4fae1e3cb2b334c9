// What is computed of an answer's rows: rates from their own sums, changes, buckets of time. Pure.

import { wall } from './format.js';

const HOUR_MS = 3_600_000;
const STEP_MS = { minute: 60_000, hour: HOUR_MS, day: 24 * HOUR_MS };

/** The value of a measure over sums; undefined where a rate has nothing below it. */
export function measured(measure, sums) {
  switch (measure) {
    case 'margin':
      return sums.revenue ? sums.profit / sums.revenue : undefined;
    case 'average':
      return sums.orders ? sums.revenue / sums.orders : undefined;
    default:
      return sums[measure] ?? 0;
  }
}

/** The sums of the time before, under the names of those of now. */
export const before = (row) => ({ orders: row.orders_before, revenue: row.revenue_before, profit: row.profit_before });

/** How a value has changed: { share } of the old one, or { points } for what is a share itself. */
export function change(measure, now, then) {
  if (now === undefined || then === undefined) return undefined;
  if (measure === 'margin') return { points: (now - then) * 100, up: now > then, same: Math.abs(now - then) < 0.0005 };
  if (!then) return undefined;
  const share = now / then - 1;
  return { share, up: now > then, same: Math.abs(share) < 0.0005 };
}

/** Every bucket of the period, those without orders too: { at, sums, then, future }. */
export function buckets(answer) {
  const { grain, from, to, before: compares } = answer.period;
  const step = STEP_MS[grain];
  const rows = new Map(answer.tiles.trend.map((row) => [wall(row.at), row]));
  const now = wall(answer.now);
  let [first, end] = [wall(`${from}T00:00:00`), wall(`${to}T00:00:00`)];
  if (grain === 'minute') [first, end] = [now - 59 * step, now + step];
  if (!compares) first = Math.min(...rows.keys(), end - 7 * step);
  const out = [];
  for (let at = Math.floor(first / step) * step; at < end; at += step) {
    const row = rows.get(at) ?? {};
    const sums = { orders: row.orders ?? 0, revenue: row.revenue ?? 0, profit: row.profit ?? 0 };
    const then = { orders: row.orders_before ?? 0, revenue: row.revenue_before ?? 0, profit: row.profit_before ?? 0 };
    out.push({ at: new Date(at).toISOString().slice(0, 19), sums, then, future: at > now });
  }
  return out;
}

/** Add rows up by a key: [{ [key], revenue, profit, orders }], the largest `by` first. */
export function summed(rows, key, by) {
  const sums = new Map();
  for (const row of rows) {
    const name = row[key] ?? null;
    const sum = sums.get(name) ?? { [key]: name, revenue: 0, profit: 0, orders: 0 };
    for (const measure of ['revenue', 'profit', 'orders']) sum[measure] += row[measure] ?? 0;
    sums.set(name, sum);
  }
  return [...sums.values()].sort((a, b) => b[by] - a[by]);
}

/** The steps of the funnel: { visits, share of the first, loss to the next }. */
export function steps(row) {
  const counts = [row.visited, row.viewed, row.added, row.bought];
  return counts.map((visits, at) => ({
    visits,
    share: counts[0] ? visits / counts[0] : undefined,
    loss: at + 1 < counts.length && visits ? 1 - counts[at + 1] / visits : undefined,
  }));
}

/** At most `most` slices; what is beyond them is one. Losses have no slice. */
export function slices(rows, most, other) {
  const worth = rows.filter((row) => row.profit > 0);
  if (worth.length <= most) return worth;
  const rest = worth.slice(most - 1);
  return [...worth.slice(0, most - 1), { category: other, others: true, profit: rest.reduce((sum, row) => sum + row.profit, 0) }];
}
