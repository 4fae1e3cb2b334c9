// Every tile as a table: for those who do not see a chart, or want the digits.

import { count, day, dayAndClock, percent, rupeesExact } from './format.js';
import { before, buckets, change, measured, steps } from './figures.js';
import { MEASURES } from './state.js';
import { h } from './dom.js';
import { WORDS } from './words.js';

const { columns, measures } = WORDS;

/** [heading, value of a row, is a number] for each column. */
const text = (key, heading = columns[key]) => [heading, (row) => row[key] ?? WORDS.unknown];
const number = (key, show, heading = columns[key]) => [heading, (row) => (row[key] === undefined || row[key] === null ? '–' : show(row[key])), true];
const share = (heading, value) => [heading, (row) => percent(value(row)), true];
const margin = share(columns.margin, (row) => row.profit / row.revenue);

export function shown(measure, value) {
  if (value === undefined) return '–';
  if (measure === 'margin') return percent(value);
  return measure === 'orders' ? count(value) : rupeesExact(value);
}

export const TABLES = {
  kpis: (answer) => {
    const row = answer.tiles.kpis[0];
    const then = before(row);
    const lines = MEASURES.map((measure) => ({ measure, now: measured(measure, row), then: measured(measure, then) }));
    const table = [
      ['', (line) => measures[line.measure]],
      [WORDS.ranges[answer.period.range], (line) => shown(line.measure, line.now), true],
    ];
    if (answer.period.before) {
      table.push([WORDS.before[answer.period.range], (line) => shown(line.measure, line.then), true]);
      table.push(['%', (line) => percent(change(line.measure, line.now, line.then)?.share), true]);
    }
    return [table, lines];
  },
  trend: (answer) => {
    const when = answer.period.grain === 'day' ? day : dayAndClock;
    const table = [
      [columns.at, (row) => when(row.at)],
      ...['revenue', 'profit', 'orders'].map((key) => [columns[key], (row) => shown(key, row.sums[key]), true]),
    ];
    if (answer.period.before) table.push([`${columns.revenue} ${columns.before}`, (row) => rupeesExact(row.then.revenue), true]);
    return [table, buckets(answer).filter((row) => !row.future || row.then.orders)];
  },
  funnel: (answer) => [
    [
      [columns.step, (row) => row.name],
      number('visits', count),
      share(columns.share, (row) => row.share),
      share(columns.loss, (row) => row.loss),
    ],
    steps(answer.tiles.funnel[0]).map((step, at) => ({ ...step, name: WORDS.steps[at] })),
  ],
  places: (answer) => [
    [text('city'), text('state'), number('revenue', rupeesExact), number('profit', rupeesExact), number('orders', count)],
    answer.tiles.cities,
  ],
  products: (answer) => [
    [
      [columns.product, (row) => row.product ?? WORDS.rest],
      [columns.category, (row) => row.category ?? ''],
      number('profit', rupeesExact),
      number('revenue', rupeesExact),
      margin,
      number('orders', count),
    ],
    answer.tiles.products,
  ],
  categories: (answer) => [
    [text('category'), number('profit', rupeesExact), number('revenue', rupeesExact), margin, number('orders', count)],
    answer.tiles.categories,
  ],
  carts: (answer) => [
    [[columns.at, (row) => dayAndClock(row.last_at)], text('city'), number('items', count), number('cart_value', rupeesExact)],
    answer.tiles.largest_carts,
  ],
  stock: (answer) => [
    [text('product'), text('category'), text('seller_id', columns.seller), text('mover'), number('sold', count), number('stock', count)],
    answer.tiles.stock,
  ],
  orders: (answer) => [
    [[columns.at, (row) => dayAndClock(row.ordered_at)], text('city'), text('product'), number('pieces', count), number('revenue', rupeesExact)],
    answer.tiles.orders,
  ],
};

export function table(name, answer, caption) {
  const [head, rows] = TABLES[name](answer);
  const cell = (tag, content, isNumber) => h(tag, { class: isNumber && 'number', scope: tag === 'th' ? 'col' : undefined }, content);
  return h(
    'table',
    {},
    h('caption', { class: 'unseen' }, caption),
    h('thead', {}, h('tr', {}, ...head.map(([heading, , isNumber]) => cell('th', heading, isNumber)))),
    h('tbody', {}, ...rows.map((row) => h('tr', {}, ...head.map(([, value, isNumber]) => cell('td', value(row), isNumber))))),
  );
}
