// The dashboard's budgets: first paint, bytes, answers over a million rows of gold, commit to pixels, open pages.
//
//     cd "$(mktemp -d)" && cp <repository>/tests/browser/{package*.json,.npmrc} . && npm ci
//     NODE_PATH=. FLASH=<release binary> CHROMIUM=/usr/bin/chromium node <repository>/benches/dashboard.mjs [--events N] [--answers]
//
//   flash simulate N, moved to end now ─▶ flash run
//                                  ├▶ 600 questions, no two alike          p50, p95 of all tiles
//                                  ├▶ the first question of each seller    p50, p95 of all tiles
//                                  ├▶ an epoch, a question, 160 times      p50, p95 of all tiles
//                                  ├▶ Chromium on a 4G line               first paint, KB
//                                  ├▶ one order at a time, 20 times        commit to pixels
//                                  └▶ 1,000 listeners, then epochs         MB and CPU of the process

import { readFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Shop } from '../tests/browser/shop.mjs';

const { chromium } = createRequire(join(process.cwd(), 'package.json'))('playwright-core');
const flag = (name, usual) => (process.argv.includes(name) ? Number(process.argv[process.argv.indexOf(name) + 1]) : usual);
const EVENTS = flag('--events', 1_800_000);
const PAGES = flag('--pages', 1_000);
const QUESTIONS = 150;
const EPOCHS = 40;
const ORDERS = 20;
/** A 4G line as Lighthouse has it: 9 Mbit/s down, 170 ms there and back. */
const LINE = { offline: false, latency: 170, downloadThroughput: (9 * 1024 * 1024) / 8, uploadThroughput: (1.5 * 1024 * 1024) / 8 };
const TICKS_PER_SECOND = 100;

const part = (times, share) => [...times].sort((a, b) => a - b)[Math.ceil(times.length * share) - 1];
const say = (what, value) => console.log(`| ${what} | ${value} |`);

/** Resident MB and CPU seconds of a process. */
function used(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return { mb: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024, cpu: (Number(stat[11]) + Number(stat[12])) / TICKS_PER_SECOND };
}

const pick = (list, at) => list[at % list.length];
const told = (what, times) => say(`${what}: p50, p95`, `${Math.round(part(times, 0.5))} ms, ${Math.round(part(times, 0.95))} ms`);
const SPANS = { 'the whole time': ['all'], 'any range': ['all', '28d', '7d', 'yesterday', 'today'] };

/** Milliseconds until all tiles are there. */
async function timed(shop, query) {
  const began = performance.now();
  await shop.answer(query);
  return performance.now() - began;
}

/** What can be tapped, and who sells. */
async function values(shop) {
  const of = async (column) => (await shop.sql(`SELECT DISTINCT ${column} AS value FROM gold.orders WHERE ${column} IS NOT NULL ORDER BY 1`)).map((row) => row.value);
  return { products: await of('product'), cities: await of('city'), categories: await of('category'), sellers: await of('seller_id') };
}

/** One to four filters; no two questions of one kind are alike. */
function question(of, ranges, at, seller) {
  const query = new URLSearchParams({ range: pick(ranges, at), city: pick(of.cities, at), category: pick(of.categories, at * 3 + 1), product: pick(of.products, at * 7), n: at });
  query.append('city', pick(of.cities, at * 5 + 1));
  if (at % 3) query.delete('product');
  if (at % 4) query.delete('category');
  if (seller) query.set('seller', pick(of.sellers, at));
  return query;
}

/** Nothing is known of any seller alone, and nobody has looked at all of them. */
async function first(shop, of) {
  const times = [];
  for (let at = 0; at < of.sellers.length; at += 1) times.push(await timed(shop, `range=all&seller=${of.sellers[at]}`));
  told('all tiles, the first question of a seller, the whole time', times);
}

async function answers(shop, of) {
  for (const seller of [true, false]) {
    for (const [span, ranges] of Object.entries(SPANS)) {
      const times = [];
      for (let at = 0; at < QUESTIONS; at += 1) times.push(await timed(shop, question(of, ranges, at, seller)));
      told(`all tiles, ${seller ? 'one seller' : 'all sellers'}, ${span}`, times);
    }
  }
}

/** An order between every two questions, so that each is of an epoch that nobody has asked yet. */
async function live(shop, of) {
  let orders = 100_000;
  const published = async () => (await shop.sql('SELECT max(epoch) AS epoch FROM system.refreshes'))[0].epoch;
  for (const seller of [true, false]) {
    for (const [span, ranges] of Object.entries(SPANS)) {
      const times = [];
      for (let at = 0; at < EPOCHS; at += 1) {
        const before = await published();
        shop.order((orders += 1), { seller: pick(of.sellers, at) });
        await shop.until('an epoch', async () => (await published()) > before, 20_000);
        times.push(await timed(shop, question(of, ranges, at, seller)));
      }
      told(`all tiles, an epoch before every question, ${seller ? 'one seller' : 'all sellers'}, ${span}`, times);
    }
  }
}

async function paint(browser, shop) {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  let bytes = 0;
  await session.send('Network.enable');
  await session.send('Network.emulateNetworkConditions', LINE);
  session.on('Network.loadingFinished', ({ encodedDataLength }) => (bytes += encodedDataLength));
  await page.goto(`${shop.url}/?range=7d`);
  await page.waitForFunction(() => document.body.dataset.epoch && document.querySelectorAll('.chart canvas').length === 3);
  const [first] = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime));
  const numbers = await page.evaluate(() => performance.getEntriesByType('resource').find((entry) => entry.name.includes('/v1/dashboard')).responseEnd);
  say('first paint on a 4G line', `${Math.round(first)} ms`);
  say('numbers on a 4G line', `${Math.round(numbers)} ms`);
  say('transferred, everything', `${Math.round(bytes / 1024)} KB`);
  await context.close();
}

async function pixels(browser, shop) {
  const page = await browser.newPage();
  await page.goto(shop.url);
  await page.waitForFunction(() => document.body.dataset.epoch);
  await page.evaluate(() => {
    const value = document.querySelector('#cards [data-key="orders"] .value');
    new MutationObserver(() => requestAnimationFrame(() => (window.drawnAt = Date.now()))).observe(value, { childList: true, characterData: true, subtree: true });
  });
  const [commits, events] = [[], []];
  for (let at = 0; at < ORDERS; at += 1) {
    const was = await page.evaluate(() => window.drawnAt);
    const put = Date.now();
    shop.order(1_000 + at);
    await page.waitForFunction((then) => window.drawnAt !== then, was, { timeout: 20_000 });
    const drawn = await page.evaluate(() => window.drawnAt);
    const [{ at: published }] = await shop.sql("SELECT CAST(max(published_at) AS VARCHAR) AS at FROM system.refreshes WHERE view_name = 'gold.orders' AND rows_out > 0");
    commits.push(drawn - Date.parse(`${published.replace(' ', 'T').replace(/Z?$/, 'Z')}`));
    events.push(drawn - put);
    await new Promise((next) => setTimeout(next, 1_500));
  }
  say('commit to pixels: p50, p95', `${part(commits, 0.5)} ms, ${part(commits, 0.95)} ms`);
  say('event to pixels: p50, p95', `${part(events, 0.5)} ms, ${part(events, 0.95)} ms`);
  await page.close();
}

async function open(shop) {
  const before = used(shop.process.pid);
  const agent = new Agent({ maxSockets: Infinity, keepAlive: true });
  let heard = 0;
  const listeners = [];
  for (let at = 0; at < PAGES; at += 1) {
    listeners.push(await new Promise((found, lost) => {
      const request = get(`${shop.url}/live`, { agent }, (response) => {
        response.on('data', (data) => (heard += String(data).includes('event: published') ? 1 : 0));
        found(request);
      });
      request.on('error', lost);
    }));
  }
  const idle = used(shop.process.pid);
  await new Promise((next) => setTimeout(next, 30_000));
  const rested = used(shop.process.pid);
  heard = 0;
  const epochs = 10;
  for (let at = 0; at < epochs; at += 1) {
    const wanted = heard + PAGES;
    shop.order(5_000 + at);
    await shop.until('all pages have heard', () => heard >= wanted, 20_000);
  }
  const busy = used(shop.process.pid);
  say(`${PAGES} open pages: memory beyond that without`, `${(idle.mb - before.mb).toFixed(0)} MB (${before.mb.toFixed(0)} before)`);
  say(`${PAGES} open pages: CPU at rest`, `${(((rested.cpu - idle.cpu) / 30) * 100).toFixed(1)} % of a core`);
  say(`${PAGES} open pages: CPU for an epoch, refresh included`, `${Math.round(((busy.cpu - rested.cpu) / epochs) * 1000)} ms`);
  listeners.forEach((request) => request.destroy());
  agent.destroy();
}

const shop = await Shop.open(process.env.FLASH ?? 'target/release/flash', EVENTS, { today: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
  const rows = await shop.sql(`SELECT view_name, "rows" AS held FROM system.materialized_views WHERE view_name LIKE 'gold.%'`);
  console.log(`| of ${EVENTS.toLocaleString('en')} events, ${rows.reduce((sum, row) => sum + row.held, 0).toLocaleString('en')} rows of gold | |\n|---|--:|`);
  const of = await values(shop);
  await first(shop, of);
  await answers(shop, of);
  await live(shop, of);
  say('memory after that', `${used(shop.process.pid).mb.toFixed(0)} MB`);
  if (!process.argv.includes('--answers')) {
    await paint(browser, shop);
    await pixels(browser, shop);
    await open(shop);
  }
} finally {
  await browser.close();
  await shop.close();
}
