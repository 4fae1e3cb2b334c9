// The seller's page.
//
//   URL ─read─▶ state ─question─▶ Feed ─▶ answer ─┬▶ tiles.js   figures, bars, lists: HTML
//    ▲                                           ├▶ charts.js  line, donut, map: ECharts, loaded beside the first numbers
//    └──────── tap ─▶ another state              └▶ tables.js  the same numbers as tables
//
// All numbers of the page come from one answer, which is of one version of the views.

import { Feed } from './feed.js';
import { buckets, slices } from './figures.js';
import { duration, seconds } from './format.js';
import { GRAINS, RANGES, clear, isFiltered, question, read, toggle, withRange, write, DIMENSIONS } from './state.js';
import { h, reconcile, say } from './dom.js';
import { table } from './tables.js';
import { WORDS } from './words.js';
import * as tiles from './tiles.js';

const $ = (selector) => document.querySelector(selector);
const root = document.documentElement;
const embedded = root.dataset.embed;

const GREEN_MS = 15_000;
const AMBER_MS = 120_000;

/** What the tiles may ask of the page. */
const page = {
  state: read(location.search),
  answer: undefined,
  open: new Set(),
  placesBy: undefined,
  go(state) {
    if (write(state) === write(page.state)) return;
    history.pushState(null, '', location.pathname + write(state));
    page.enter(state);
  },
  enter(state) {
    const asks = question(state).toString() !== question(page.state).toString();
    page.state = state;
    controls();
    if (asks) {
      document.body.classList.add('asking');
      feed.ask();
    } else draw();
  },
  toggle: (dimension, value, add) => page.go(toggle(page.state, dimension, value, add)),
  clear: () => page.go(clear(page.state)),
  range: (range) => page.go(withRange(page.state, range)),
  get filtered() {
    return isFiltered(page.state);
  },
};

addEventListener('popstate', () => page.enter(read(location.search)));

// --- numbers ---

const feed = new Feed({
  url: () => `${root.dataset.api ?? '/v1/dashboard'}?${question(page.state)}${embedded ? `&token=${embedded}` : ''}`,
  live: `/live${embedded ? `?token=${embedded}` : ''}`,
  got(answer) {
    // New numbers for the same question: what is new among them has just happened.
    page.renewed = page.asked === feed.shown.url;
    page.asked = feed.shown.url;
    page.answer = answer;
    page.status = { connected: true, lag_ms: answer.lag_ms, as_of: answer.as_of };
    document.body.classList.remove('waiting', 'asking', 'stale');
    $('#failure').hidden = true;
    answer.sellers = answer.tiles.sellers.map((row) => row.seller_id);
    who(answer);
    draw();
    live();
  },
  failed(error) {
    document.body.classList.remove('asking');
    document.body.classList.add('stale');
    const told = $('#failure');
    told.hidden = false;
    const since = page.answer ? ` ${WORDS.offlineSince(seconds(page.answer.as_of))}.` : '';
    say(told, (error.status ? WORDS.failed(error.message) : `${WORDS.offline}.`) + since);
    page.status = { ...page.status, connected: false };
    live();
  },
  heard(news) {
    page.status = { ...page.status, ...news };
    if (news.renewed) {
      document.body.classList.remove('asking', 'stale');
      $('#failure').hidden = true;
      page.status.connected = true;
    }
    live();
  },
});

/** The dot and the words beside it: never colour alone. */
function live() {
  const { connected, lag_ms: lag = 0, as_of: asOf } = page.status ?? {};
  const state = !connected ? 'bad' : lag > AMBER_MS ? 'bad' : lag > GREEN_MS ? 'late' : 'good';
  $('#live').dataset.state = state;
  if (!asOf) return;
  const words = !connected ? WORDS.offline : state === 'good' ? WORDS.live : WORDS.late(duration(lag));
  say($('#live .text'), `${words}, ${WORDS.asOf(seconds(asOf))}`);
}

function draw() {
  const { answer } = page;
  if (!answer) return;
  for (const [name, render] of Object.entries(TILES)) {
    const tile = document.getElementById(name);
    if (tile.classList.contains('as-table')) showTable(tile);
    else render(tile, answer);
  }
  tiles.empty($('#empty'), answer, page);
  $('#kpis').classList.toggle('none', answer.tiles.kpis[0].orders === 0);
  document.body.dataset.epoch = answer.epoch;
}

const TILES = {
  kpis: (tile, answer) => tiles.kpis($('#cards'), answer, page),
  trend: drawTrend,
  funnel: (tile, answer) => tiles.funnel(tile.querySelector('.steps'), answer),
  places: (tile, answer) => {
    tiles.places(tile, answer, page);
    chart('map', tile.querySelector('.map'))?.update(answer, page);
  },
  products: (tile, answer) => tiles.products(tile, answer, page),
  categories: (tile, answer) => {
    tiles.categories(tile, answer, page);
    chart('donut', tile.querySelector('.donut'))?.update(slices(answer.tiles.categories, tiles.SLICES, WORDS.other), page);
  },
  orders: (tile, answer) => tiles.orders(tile, answer, page),
  carts: (tile, answer) => tiles.carts(tile, answer),
  stock: (tile, answer) => tiles.stock(tile, answer, page),
};

function drawTrend(tile, answer) {
  const { range } = answer.period;
  say($('#trend-title'), WORDS.measures[page.state.measure]);
  const rows = buckets(answer);
  const compares = answer.period.before && rows.some((row) => row.then.orders > 0);
  say(tile.querySelector('.now'), compares ? WORDS.line[range] : '');
  say(tile.querySelector('.then'), compares ? WORDS.ghost[range] : '');
  chart('trend', tile.querySelector('.chart'))?.update(rows, page.state.measure, answer);
}

// --- charts: they come later than the numbers, or not at all ---

const charts = new Map();
let library;

function chart(kind, element) {
  if (!library) return undefined;
  if (!charts.has(element)) charts.set(element, library[kind](element, page));
  return charts.get(element);
}

async function loadCharts() {
  if (!root.dataset.charts) {
    root.classList.add('no-charts');
    const tile = $('#trend');
    tile.classList.add('as-table');
    return;
  }
  try {
    const loaded = await import(root.dataset.charts);
    await loaded.ready(root.dataset.map);
    library = loaded;
  } catch {
    root.classList.add('no-charts');
    $('#trend').classList.add('as-table');
  }
  draw();
}

// --- tables ---

function showTable(tile) {
  const body = tile.querySelector('.table') ?? tile.appendChild(h('div', { class: 'table', tabindex: '0', role: 'region' }));
  const title = tile.querySelector('h2').textContent;
  body.setAttribute('aria-label', title);
  body.replaceChildren(table(tile.id, page.answer, title));
}

function addTableButton(tile) {
  const button = h('button', { type: 'button', class: 'plain swap', 'aria-pressed': 'false' });
  const name = () => {
    const asTable = tile.classList.contains('as-table');
    button.setAttribute('aria-pressed', String(asTable));
    button.setAttribute('aria-label', WORDS.showTable(tile.querySelector('h2').textContent));
    say(button, WORDS.table);
  };
  button.addEventListener('click', () => {
    if (!tile.classList.toggle('as-table')) tile.querySelector('.table')?.remove();
    name();
    draw();
    charts.forEach((each) => each.resize());
  });
  name();
  tile.querySelector('header').append(button);
}

// --- what is chosen ---

function controls() {
  const choice = (label, pressed, onclick) => h('button', { type: 'button', 'aria-pressed': String(pressed), onclick }, label);
  reconcile(
    $('#ranges'),
    RANGES,
    (range) => range,
    (range) => choice(WORDS.ranges[range], false, () => page.range(range)),
    (button, range) => button.setAttribute('aria-pressed', String(page.state.range === range)),
  );
  const grains = [...GRAINS[page.state.range]].reverse();
  $('#grains').hidden = grains.length < 2;
  reconcile(
    $('#grains'),
    grains,
    (grain) => grain,
    (grain) => choice(WORDS.grains[grain], false, () => page.go({ ...page.state, grain })),
    (button, grain) => button.setAttribute('aria-pressed', String(page.state.grain === grain)),
  );
  const held = DIMENSIONS.flatMap((dimension) => page.state.filters[dimension].map((value) => ({ dimension, value })));
  const chips = $('#chips');
  chips.hidden = held.length === 0;
  const rows = held.length ? [...held, { dimension: 'clear', value: '' }] : [];
  reconcile(
    chips,
    rows,
    ({ dimension, value }) => `${dimension} ${value}`,
    ({ dimension, value }) =>
      dimension === 'clear'
        ? h('button', { type: 'button', class: 'plain', onclick: page.clear }, WORDS.clear)
        : h(
            'button',
            { type: 'button', class: 'chip', 'aria-label': WORDS.remove(value), onclick: () => page.toggle(dimension, value, true) },
            h('span', { class: 'soft' }, WORDS.columns[dimension]),
            value,
            h('span', { class: 'x', 'aria-hidden': 'true' }, '×'),
          ),
    () => {},
  );
}

/** Whose shop it is, and for those who see several, whose they look at. */
function who(answer) {
  const { sellers, locked } = answer;
  page.manyShops = !answer.seller && sellers.length > 1;
  const name = answer.seller ? WORDS.shop(answer.seller) : sellers.length === 1 ? WORDS.shop(sellers[0]) : WORDS.allShops;
  say($('#shop'), name);
  document.title = `${name} · ${WORDS.title}`;
  const choice = $('.as');
  choice.hidden = locked || (sellers.length < 2 && !page.state.seller);
  $('#shop').classList.toggle('unseen', !choice.hidden);
  for (const link of document.querySelectorAll('.operator')) link.hidden = !answer.operator || Boolean(embedded);
  $('#logout').hidden = !answer.user || Boolean(embedded);
  if (choice.hidden) return;
  const select = $('#seller');
  const options = [{ value: '', name: WORDS.allShops }, ...sellers.map((seller) => ({ value: seller, name: WORDS.shop(seller) }))];
  reconcile(select, options, (option) => option.value, (option) => h('option', { value: option.value }, option.name), () => {});
  if (select.value !== (page.state.seller ?? '')) select.value = page.state.seller ?? '';
}

$('#seller').addEventListener('change', (event) => page.go({ ...page.state, seller: event.target.value || null }));

for (const button of document.querySelectorAll('[data-places]')) {
  button.addEventListener('click', () => {
    page.placesBy = button.dataset.places;
    draw();
  });
}
for (const button of document.querySelectorAll('.more')) {
  button.addEventListener('click', () => {
    const { id } = button.closest('.tile');
    page.open.has(id) ? page.open.delete(id) : page.open.add(id);
    draw();
  });
}

// --- colours ---

const THEMES = ['auto', 'light', 'dark'];
const ICONS = { auto: '◐', light: '☀', dark: '☾' };

function theme(wanted) {
  root.dataset.theme = wanted;
  $('#theme').textContent = ICONS[wanted];
  $('#theme').setAttribute('aria-label', WORDS.theme[wanted]);
  $('#theme').title = WORDS.theme[wanted];
  charts.forEach((each) => each.restyle());
  draw();
}

const stored = () => {
  try {
    return localStorage.getItem('theme') ?? THEMES[0];
  } catch {
    return THEMES[0];
  }
};
$('#theme').addEventListener('click', () => {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
  try {
    localStorage.setItem('theme', next);
  } catch {
    // A private window remembers nothing; the choice holds for this page.
  }
  theme(next);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme(root.dataset.theme));

// --- begin ---

document.querySelectorAll('.tile').forEach(addTableButton);
controls();
theme(THEMES.includes(stored()) ? stored() : THEMES[0]);
new ResizeObserver(() => charts.forEach((each) => each.resize())).observe($('#tiles'));
loadCharts();
