// The operators' page: how the views are kept, from the system tables.

import { Feed } from './feed.js';
import { count, duration, seconds } from './format.js';
import { h, say } from './dom.js';
import { WORDS } from './words.js';

const $ = (selector) => document.querySelector(selector);

const number = (value) => (value === null || value === undefined ? '–' : count(value));
const at = (value) => (value ? seconds(`${value.replace(/Z?$/, 'Z')}`) : '–');

/** The lag of a view beside its target: a word and a colour. */
function lag(row, lags) {
  const ms = lags[row.view_name];
  if (row.suspended) return badge('late', 'suspended');
  if (ms === null || ms === undefined) return badge('late', 'not filled yet');
  const target = row.target_lag_ms;
  const state = target && ms > 2 * target ? 'bad' : target && ms > target ? 'late' : 'good';
  return badge(state, `${duration(ms)}${target ? ` of ${duration(target)}` : ''}`);
}

const badge = (state, text) => h('span', { class: 'badge', 'data-state': state }, h('span', { class: 'dot', 'aria-hidden': 'true' }), text);

/** Columns: [heading, value of a row, class]. */
const TABLES = {
  views: (answer) => [
    ['View', (row) => h('b', {}, row.view_name)],
    ['Lag', (row) => lag(row, answer.lag_ms)],
    ['Rows', (row) => number(row.rows), 'number'],
    ['Version', (row) => number(row.version), 'number'],
    ['Epoch', (row) => number(row.frontier), 'number'],
    ['Quarantined', (row) => number(row.quarantined), 'number'],
    ['Dropped', (row) => number(row.dropped), 'number'],
    ['Duplicates', (row) => number(row.duplicates), 'number'],
    ['Kept by', (row) => row.mode],
    ['Because', (row) => row.reason, 'wrap'],
  ],
  refreshes: () => [
    ['View', (row) => h('b', {}, row.view_name)],
    ['Epoch', (row) => number(row.epoch), 'number'],
    ['At', (row) => at(row.published_at)],
    ['Took', (row) => duration(row.took_ms), 'number'],
    ['In', (row) => number(row.rows_in), 'number'],
    ['Out', (row) => number(row.rows_out), 'number'],
    ['Mode', (row) => (row.state === 'failed' ? badge('bad', 'failed') : row.mode)],
    ['Because', (row) => row.error ?? row.reason, 'wrap'],
  ],
  expectations: () => [
    ['View', (row) => row.view_name],
    ['Expectation', (row) => h('b', {}, row.expectation)],
    ['On violation', (row) => row.action.replaceAll('_', ' ')],
    ['Violations', (row) => number(row.violations), 'number'],
    ['Removed', (row) => number(row.removed), 'number'],
    ['Last in epoch', (row) => number(row.last_epoch), 'number'],
  ],
  shards: () => [
    ['Source', (row) => row.source_name],
    ['Shard', (row) => row.shard_id],
    ['Behind', (row) => (row.behind_ms === null ? '–' : duration(row.behind_ms)), 'number'],
  ],
  errors: () => [
    ['What', (row) => h('b', {}, row.view_name ?? `${row.source_name} ${row.shard_id}`)],
    ['At', (row) => at(row.published_at ?? row.found_at)],
    ['Why', (row) => row.error ?? row.reason, 'wrap'],
  ],
};

function draw(answer) {
  const { tables } = answer;
  const rows = { ...tables, errors: [...tables.data_loss, ...tables.errors] };
  for (const [name, columns] of Object.entries(TABLES)) {
    const head = columns(answer);
    const body = document.querySelector(`#${name} .body`);
    body.tabIndex = 0;
    body.setAttribute('role', 'region');
    body.setAttribute('aria-label', document.querySelector(`#${name} h2`).textContent);
    if (rows[name].length === 0) {
      body.replaceChildren(h('p', { class: 'none' }, 'None.'));
      continue;
    }
    const cell = (tag, content, kind) => h(tag, { class: kind, scope: tag === 'th' ? 'col' : undefined }, content ?? '–');
    const scrolled = body.scrollTop;
    body.replaceChildren(
      h(
        'table',
        {},
        h('thead', {}, h('tr', {}, ...head.map(([heading, , kind]) => cell('th', heading, kind)))),
        h('tbody', {}, ...rows[name].map((row) => h('tr', {}, ...head.map(([, value, kind]) => cell('td', value(row), kind))))),
      ),
    );
    body.scrollTop = scrolled;
  }
  document.body.dataset.epoch = answer.epoch;
}

let status = {};

function live() {
  const state = status.connected ? 'good' : 'bad';
  $('#live').dataset.state = state;
  const words = status.connected ? WORDS.live : WORDS.offline;
  say($('#live .text'), status.as_of ? `${words}, ${WORDS.asOf(seconds(status.as_of))}` : words);
}

new Feed({
  url: () => '/v1/operations',
  live: '/live',
  got(answer) {
    document.body.classList.remove('waiting', 'stale');
    $('#failure').hidden = true;
    status = { connected: true, as_of: answer.as_of };
    draw(answer);
    live();
  },
  failed(error) {
    document.body.classList.add('stale');
    $('#failure').hidden = false;
    say($('#failure'), error.status ? error.message : WORDS.offline);
    status.connected = false;
    live();
  },
  heard(news) {
    status = { ...status, ...news };
    live();
  },
});
