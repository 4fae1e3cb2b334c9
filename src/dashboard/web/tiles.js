// The tiles that are plain HTML: figures, bars, lists. Every value that filters is a button.

import { ago, clock, count, dayAndClock, percent, rupees, rupeesExact } from './format.js';
import { before, buckets, change, measured, slices, steps, summed } from './figures.js';
import { MEASURES } from './state.js';
import { h, onTap, reconcile, say } from './dom.js';
import { shown } from './tables.js';
import { WORDS } from './words.js';

const wide = matchMedia('(min-width: 900px)');
const ROWS = 9;
const placesMax = () => (wide.matches ? 9 : 6);
export const SLICES = 6;

const short = (measure, value) => {
  if (value === undefined) return '–';
  if (measure === 'margin') return percent(value);
  return measure === 'orders' ? count(value) : rupees(value);
};

export function kpis(parent, answer, page) {
  const row = answer.tiles.kpis[0];
  const then = before(row);
  const lines = MEASURES.map((measure) => ({ measure, now: measured(measure, row), then: measured(measure, then) }));
  lines.push({ measure: 'visitors', now: answer.tiles.visitors[0].visitors });
  const line = buckets(answer).filter((bucket) => !bucket.future);
  reconcile(parent, lines, (each) => each.measure, (each) => kpi(each, page), (card, each) => {
    const visitors = each.measure === 'visitors';
    const pressed = page.state.measure === each.measure;
    if (!visitors) card.setAttribute('aria-pressed', String(pressed));
    const value = card.querySelector('.value');
    say(value, visitors ? count(each.now) : short(each.measure, each.now));
    value.dataset.value = each.now ?? '';
    value.title = visitors ? '' : shown(each.measure, each.now);
    if (visitors) return;
    delta(card.querySelector('.delta'), answer, each);
    const rate = each.measure === 'margin' || each.measure === 'average';
    spark(card.querySelector('.spark'), line.map((bucket) => measured(each.measure, bucket.sums)).filter((value) => value !== undefined), rate);
  });
}

function kpi({ measure }, page) {
  if (measure === 'visitors') {
    return h(
      'div',
      { class: 'kpi visitors' },
      h('span', { class: 'label' }, h('span', { class: 'pulse', 'aria-hidden': 'true' }), WORDS.visitors),
      h('span', { class: 'value' }),
      h('span', { class: 'delta' }, WORDS.visitorsNote),
    );
  }
  return h(
    'button',
    { class: 'kpi', type: 'button', onclick: () => page.go({ ...page.state, measure }) },
    h('span', { class: 'label' }, WORDS.measures[measure]),
    h('span', { class: 'value' }),
    h('span', { class: 'delta' }),
    h('svg:svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, h('svg:path', { class: 'area' }), h('svg:path', { class: 'line' })),
  );
}

function delta(element, answer, { measure, now, then }) {
  const changed = answer.period.before ? change(measure, now, then) : undefined;
  element.className = 'delta';
  if (!changed) return say(element, answer.period.before ? WORDS.noCompare : '');
  if (!changed.same) element.classList.add(changed.up ? 'up' : 'down');
  const sign = changed.same ? '±' : changed.up ? '▲' : '▼';
  const size =
    changed.points === undefined
      ? percent(Math.abs(changed.share))
      : `${Math.abs(changed.points).toFixed(1)} ${WORDS.points}`;
  const against = WORDS.before[answer.period.range];
  if (element.dataset.text === sign + size + against) return undefined;
  element.dataset.text = sign + size + against;
  return element.replaceChildren(h('b', {}, `${sign} ${size}`), ` ${against}`);
}

/** What adds up has its area, from zero on; a rate has only its line. */
function spark(svg, values, rate) {
  const [area, line] = svg.children;
  const top = Math.max(...values, 0) * (rate ? 1.5 : 1) || 1;
  const width = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * width).toFixed(2)} ${(22 - 20 * (Math.max(0, value) / top)).toFixed(2)}`);
  const path = points.length > 1 ? `M${points.join('L')}` : '';
  line.setAttribute('d', path);
  area.setAttribute('d', path && !rate ? `${path}L100 24L0 24Z` : '');
}

export function funnel(parent, answer) {
  const rows = steps(answer.tiles.funnel[0]).map((step, at) => ({ ...step, at }));
  const make = () =>
    h(
      'li',
      { class: 'step' },
      h('span', { class: 'name' }),
      h('span', { class: 'number' }, h('b', {}), ' ', h('span', { class: 'soft' })),
      h('span', { class: 'track', 'aria-hidden': 'true' }, h('span', { class: 'fill' })),
      h('span', { class: 'loss' }),
    );
  reconcile(parent, rows, (row) => String(row.at), make, (item, row) => {
    say(item.querySelector('.name'), WORDS.steps[row.at]);
    say(item.querySelector('b'), count(row.visits));
    item.querySelector('b').dataset.value = row.visits;
    say(item.querySelector('.soft'), percent(row.share));
    item.querySelector('.fill').style.setProperty('--part', row.share ?? 0);
    const loss = row.loss === undefined ? '' : row.loss > 0 ? WORDS.lost(percent(row.loss)) : WORDS.noneLost;
    say(item.querySelector('.loss'), loss);
  });
}

/** A ranked list: name, a bar, a value; each row a button that filters by `dimension`. */
function bars(parent, rows, { dimension, measure, page, note }) {
  const most = Math.max(...rows.map((row) => Math.abs(row[measure])), 1);
  const held = page.state.filters[dimension];
  const name = (row) => row[dimension];
  const make = (row) => {
    const button = h(
      'button',
      { type: 'button', class: 'bar' },
      h('span', { class: 'name' }),
      h('span', { class: 'number' }),
      h('span', { class: 'track', 'aria-hidden': 'true' }, h('span', { class: 'fill' })),
    );
    if (name(row) === null || row.rest) button.disabled = true;
    else onTap(button, (add) => page.toggle(dimension, name(row), add));
    return h('li', {}, button);
  };
  reconcile(parent, rows, (row) => (row.rest ? '\u0000rest' : (name(row) ?? '\u0000')), make, (item, row) => {
    const button = item.firstElementChild;
    const chosen = held.includes(name(row));
    button.setAttribute('aria-pressed', String(chosen));
    button.classList.toggle('dim', held.length > 0 && !chosen);
    button.classList.toggle('loss', row[measure] < 0);
    const label = row.rest ? WORDS.rest : (name(row) ?? WORDS.unknown);
    const extra = note?.(row);
    if (button.dataset.text !== label + extra) {
      button.dataset.text = label + extra;
      button.querySelector('.name').replaceChildren(label, ...(extra ? [h('small', {}, extra)] : []));
    }
    const value = button.querySelector('.number');
    say(value, rupees(row[measure]));
    value.title = rupeesExact(row[measure]);
    value.dataset.value = row[measure];
    button.querySelector('.fill').style.setProperty('--part', Math.abs(row[measure]) / most);
  });
}

/** The first rows, all of them after a tap on "Show all", and always those that are chosen. */
function few(rows, most, key, page, name) {
  const all = page.open.has(name);
  const chosen = page.state.filters[key] ?? [];
  return rows.filter((row, at) => all || at < most || chosen.includes(row[key]));
}

function more(button, rows, most, page, name) {
  button.hidden = rows.length <= most;
  say(button, page.open.has(name) ? WORDS.fewer : `${WORDS.all} (${rows.length})`);
}

export function products(tile, answer, page) {
  const rows = answer.tiles.products.map((row) => ({ ...row, rest: row.product === null && row.place > 50 }));
  const options = { dimension: 'product', measure: 'profit', page, note: (row) => row.category };
  bars(tile.querySelector('.bars'), few(rows, ROWS, 'product', page, 'products'), options);
  more(tile.querySelector('.more'), rows, ROWS, page, 'products');
  tile.querySelector('.none').hidden = rows.length > 0;
}

export function places(tile, answer, page) {
  const key = page.placesBy ?? (page.state.filters.city.length ? 'city' : 'state');
  const rows = key === 'city' ? answer.tiles.cities : summed(answer.tiles.cities, 'state', 'revenue');
  const shares = rows.reduce((sum, row) => sum + row.revenue, 0);
  const note = (row) => percent(row.revenue / shares);
  bars(tile.querySelector('.bars'), few(rows, placesMax(), key, page, 'places'), { dimension: key, measure: 'revenue', page, note });
  more(tile.querySelector('.more'), rows, placesMax(), page, 'places');
  for (const button of tile.querySelectorAll('[data-places]')) {
    button.setAttribute('aria-pressed', String(button.dataset.places === key));
  }
}

/** The legend of the donut, which is its accessible twin; colours are those of the slices. */
export function categories(tile, answer, page) {
  const rows = answer.tiles.categories;
  const total = rows.reduce((sum, row) => sum + Math.max(0, row.profit), 0);
  const colours = new Map(slices(rows, SLICES, WORDS.other).map((row, at) => [row.category, at]));
  const list = tile.querySelector('.legend');
  tile.querySelector('.none').hidden = rows.length > 0;
  const held = page.state.filters.category;
  const make = (row) => {
    const button = h(
      'button',
      { type: 'button', class: 'key' },
      h('span', { class: 'swatch', 'aria-hidden': 'true' }),
      h('span', { class: 'name' }, row.category ?? WORDS.unknown),
      h('span', { class: 'number' }),
      h('span', { class: 'soft number' }),
    );
    if (row.category === null) button.disabled = true;
    else onTap(button, (add) => page.toggle('category', row.category, add));
    return h('li', {}, button);
  };
  reconcile(list, rows, (row) => row.category ?? '\u0000', make, (item, row) => {
    const button = item.firstElementChild;
    const chosen = held.includes(row.category);
    button.setAttribute('aria-pressed', String(chosen));
    button.classList.toggle('dim', held.length > 0 && !chosen);
    button.querySelector('.swatch').dataset.slice = colours.get(row.category) ?? SLICES - 1;
    const [value, part] = button.querySelectorAll('.number');
    say(value, rupees(row.profit));
    value.dataset.value = row.profit;
    say(part, percent(row.profit / total));
  });
}

export function carts(tile, answer) {
  const row = answer.tiles.carts[0];
  say(tile.querySelector('.value'), count(row.carts));
  tile.querySelector('.value').dataset.value = row.carts;
  say(tile.querySelector('.worth'), row.carts ? `${rupees(row.cart_value)} · ${WORDS.cartsNote(WORDS.pieces(count(row.items)))}` : WORDS.noCarts);
  tile.querySelector('.worth').dataset.value = row.cart_value;
  const rows = answer.tiles.largest_carts.map((cart, at) => ({ ...cart, at }));
  const make = () => h('li', {}, h('span', { class: 'name' }), h('span', { class: 'number' }));
  reconcile(tile.querySelector('.lines'), rows, (cart) => String(cart.at), make, (item, cart) => {
    const name = item.querySelector('.name');
    name.replaceChildren(cart.city ?? WORDS.unknown, h('small', {}, `${WORDS.pieces(count(cart.items))} · ${when(cart.last_at)}`));
    say(item.querySelector('.number'), rupees(cart.cart_value));
  });
}

export function stock(tile, answer, page) {
  const { filters } = page.state;
  tile.querySelector('.note').hidden = filters.state.length + filters.city.length === 0;
  for (const list of tile.querySelectorAll('[data-mover]')) {
    const rows = answer.tiles.stock.filter((row) => row.mover === list.dataset.mover);
    const make = () => h('li', {}, h('span', { class: 'name' }), h('span', { class: 'number' }));
    reconcile(list, rows, (row) => `${row.seller_id} ${row.product}`, make, (item, row) => {
      const shop = page.manyShops ? `${row.seller_id} · ` : '';
      item.querySelector('.name').replaceChildren(row.product ?? WORDS.unknown, h('small', {}, shop + WORDS.sold(count(row.sold))));
      const left = item.querySelector('.number');
      say(left, row.stock > 0 ? WORDS.left(count(row.stock)) : WORDS.outOfStock);
      left.classList.toggle('down', row.stock <= 0);
    });
    list.nextElementSibling.hidden = rows.length > 0;
  }
}

export function orders(tile, answer, page) {
  const rows = answer.tiles.orders;
  const make = () => h('li', {}, h('span', { class: 'name' }), h('span', { class: 'number' }));
  const list = tile.querySelector('.lines');
  const first = list.childElementCount === 0;
  reconcile(list, rows, (row) => row.order_id, make, (item, row) => {
    const name = item.querySelector('.name');
    const line = `${row.city ?? WORDS.unknown} · ${when(row.ordered_at)}`;
    if (item.dataset.text !== line) {
      item.dataset.text = line;
      name.replaceChildren(row.product ?? WORDS.unknown, h('small', {}, line));
    }
    say(item.querySelector('.number'), rupees(row.revenue));
  });
  const shown = page.seenOrders;
  for (const item of list.children) {
    if (!first && page.renewed && shown && !shown.has(item.dataset.key)) item.classList.add('fresh');
  }
  page.seenOrders = new Set(rows.map((row) => row.order_id));
  tile.querySelector('.none').hidden = rows.length > 0;
}

/** When something was, in few words. */
function when(text) {
  const minutes = Math.floor(ago(text) / 60_000);
  if (minutes < 1 && minutes >= -5) return WORDS.now;
  if (minutes >= 1 && minutes < 60) return WORDS.minutesAgo(minutes);
  return minutes < 24 * 60 && minutes > 0 ? clock(text) : dayAndClock(text);
}

/** What to say when nothing was sold: why, when the last order was, and a way out. */
export function empty(parent, answer, page) {
  const none = answer.tiles.kpis[0].orders === 0;
  parent.hidden = !none;
  if (!none) return;
  const filtered = page.filtered;
  const last = answer.tiles.last_order[0]?.ordered_at;
  const out = [h('p', {}, filtered ? WORDS.empty.filtered : WORDS.empty[answer.period.range], ' ', last ? WORDS.lastOrder(dayAndClock(last)) : WORDS.nothingYet)];
  if (filtered) out.push(h('button', { type: 'button', class: 'plain', onclick: () => page.clear() }, WORDS.clear));
  else if (last && answer.period.range !== 'all') {
    const range = ago(last) < 28 * 86_400_000 ? '28d' : 'all';
    if (range !== answer.period.range) out.push(h('button', { type: 'button', class: 'plain', onclick: () => page.range(range) }, WORDS.showRange(WORDS.ranges[range])));
  }
  parent.replaceChildren(...out);
}
