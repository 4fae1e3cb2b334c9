// The dashboard in a real browser, beside SQL.
//
//     FLASH=target/release/flash CHROMIUM=/usr/bin/chromium node dashboard.mjs [--pictures FOLDER]
//
// Every check says what it has checked; the first that fails ends the run. The browser can reach nothing but the shop.

import { strict as assert } from 'node:assert';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Shop } from './shop.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const EVENTS = 20_000;
const DESKTOP = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const LIVE_MS = 10_000;
const POLL_MS = 20_000;

let passed = 0;
const ok = (what) => {
  passed += 1;
  console.log(`ok  ${what}`);
};

const close = (a, b, what) => assert.ok(Math.abs(a - b) < 0.005, `${what}: ${a} is not ${b}`);
const sum = (rows, key) => rows.reduce((total, row) => total + row[key], 0);

/** A page whose errors and requests are watched. */
async function open(browser, shop, path, options = {}) {
  const context = options.context ?? (await browser.newContext({ viewport: DESKTOP, ...options }));
  const page = await context.newPage();
  page.watched = { errors: [], outside: [] };
  page.on('console', (message) => message.type() === 'error' && page.watched.errors.push(message.text()));
  page.on('pageerror', (error) => page.watched.errors.push(error.message));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== shop.url && protocol !== 'data:' && protocol !== 'blob:') page.watched.outside.push(request.url());
  });
  await page.goto(shop.url + path);
  if (options.wait !== false) await settled(page);
  return page;
}

/** The numbers of the newest question are drawn, and the charts with them. */
const settled = (page) =>
  page.waitForFunction(() => {
    const { classList, dataset } = document.body;
    const charts = document.documentElement.classList.contains('no-charts') || document.querySelectorAll('.chart canvas').length === 3;
    return dataset.epoch && !classList.contains('asking') && !classList.contains('waiting') && charts;
  });

const figure = async (page, measure) => Number(await page.locator(`#cards [data-key="${measure}"] .value`).getAttribute('data-value'));
const values = (page, selector) => page.$$eval(selector, (found) => found.map((element) => Number(element.dataset.value)));
const calm = (page, what = 'the page') => {
  assert.deepEqual(page.watched.errors, [], `${what} has no errors on the console`);
  assert.deepEqual(page.watched.outside, [], `${what} asks nobody outside`);
};

async function figuresEqualSql(browser, shop) {
  const page = await open(browser, shop, '/?range=all');
  const [sql] = await shop.sql(`SELECT CAST(sum(revenue) AS DOUBLE) AS revenue, CAST(sum(profit) AS DOUBLE) AS profit,
    count(*) AS orders FROM silver.events WHERE event_type = 'purchase'`);
  close(await figure(page, 'revenue'), sql.revenue, 'revenue');
  close(await figure(page, 'profit'), sql.profit, 'profit');
  close(await figure(page, 'orders'), sql.orders, 'orders');
  close(await figure(page, 'margin'), sql.profit / sql.revenue, 'margin');
  close(await figure(page, 'average'), sql.revenue / sql.orders, 'average order');
  const [steps] = await shop.sql(`SELECT count(*) AS visited,
    count(*) FILTER (WHERE furthest_step IN ('view', 'cart', 'purchase')) AS viewed,
    count(*) FILTER (WHERE furthest_step IN ('cart', 'purchase')) AS added,
    count(*) FILTER (WHERE furthest_step = 'purchase') AS bought FROM gold.sessions`);
  assert.deepEqual(await values(page, '#funnel .number b'), [steps.visited, steps.viewed, steps.added, steps.bought]);
  const [carts] = await shop.sql('SELECT count(*) AS carts, CAST(sum(cart_value) AS DOUBLE) AS worth FROM gold.abandoned_carts');
  assert.deepEqual(await values(page, '#carts .value'), [carts.carts]);
  close((await values(page, '#carts .worth'))[0], carts.worth, 'what carts are worth');
  close(sum((await values(page, '#categories .key .number:not(.soft)')).map((v) => ({ v })), 'v'), sql.profit, 'profit of the categories');
  for (const tile of ['products', 'places']) {
    const more = page.locator(`#${tile} .more`);
    if (await more.isVisible()) await more.click();
  }
  close(sum((await values(page, '#products .number')).map((v) => ({ v })), 'v'), sql.profit, 'profit of the products');
  close(sum((await values(page, '#places .number')).map((v) => ({ v })), 'v'), sql.revenue, 'revenue of the states');
  calm(page);
  await page.context().close();
  ok('figures, funnel, carts, and the sums of all lists equal SQL');
}

async function tapFilters(browser, shop) {
  const page = await open(browser, shop, '/?range=all');
  const whole = await figure(page, 'revenue');
  await page.locator('#places .bar', { hasText: 'Maharashtra' }).click();
  await settled(page);
  await page.locator('#categories .key', { hasText: 'Electronics' }).click();
  await settled(page);
  const where = `event_type = 'purchase' AND category = 'Electronics'
    AND city IN (SELECT name FROM ref.cities WHERE state = 'Maharashtra')`;
  const [sql] = await shop.sql(`SELECT CAST(sum(revenue) AS DOUBLE) AS revenue, count(*) AS orders FROM silver.events WHERE ${where}`);
  close(await figure(page, 'revenue'), sql.revenue, 'revenue, filtered');
  close(await figure(page, 'orders'), sql.orders, 'orders, filtered');
  assert.ok(sql.revenue < whole);
  assert.equal(await page.locator('#chips .chip').count(), 2);

  const answer = await shop.answer('range=all&state=Maharashtra&category=Electronics');
  const { tiles } = answer;
  const one = (name) => tiles[name][0];
  close(sum(tiles.products, 'revenue'), one('kpis').revenue, 'products');
  close(sum(tiles.trend, 'revenue'), one('kpis').revenue, 'trend');
  close(sum(tiles.categories.filter((row) => row.category === 'Electronics'), 'revenue'), one('kpis').revenue, 'the category');
  close(sum(tiles.cities.filter((row) => row.state === 'Maharashtra'), 'revenue'), one('kpis').revenue, 'the state');
  assert.ok(tiles.categories.length > 1 && tiles.cities.length > 5, 'the tapped tiles keep their other values');
  const [visits] = await shop.sql(`SELECT count(*) AS bought FROM (SELECT DISTINCT day, seller_id, session_id FROM gold.visit_steps
    WHERE purchases > 0 AND category = 'Electronics' AND city IN (SELECT name FROM ref.cities WHERE state = 'Maharashtra')) AS v`);
  assert.equal(one('funnel').bought, visits.bought, 'distinct visits stay exact');
  const cities = (await shop.sql("SELECT name FROM ref.cities WHERE state = 'Maharashtra'")).map((row) => row.name);
  assert.ok(tiles.orders.length > 0 && tiles.orders.every((row) => row.category === 'Electronics' && cities.includes(row.city)));
  assert.ok(tiles.stock.every((row) => row.category === 'Electronics'));
  assert.ok(tiles.largest_carts.length > 0 && tiles.largest_carts.every((row) => cities.includes(row.city)));

  await page.locator('#categories .key', { hasText: 'Sports' }).click({ modifiers: ['ControlOrMeta'] });
  await settled(page);
  assert.equal(new URL(page.url()).searchParams.getAll('category').join(), 'Electronics,Sports', 'with Ctrl it adds');
  const wide = await figure(page, 'revenue');
  assert.ok(wide > sql.revenue);

  const twin = await open(browser, shop, new URL(page.url()).pathname + new URL(page.url()).search);
  close(await figure(twin, 'revenue'), wide, 'the same address shows the same');
  await twin.context().close();
  await page.goBack();
  await settled(page);
  close(await figure(page, 'revenue'), sql.revenue, 'back is the state before');
  await page.locator('#categories .key', { hasText: 'Electronics' }).click();
  await settled(page);
  await page.locator('#chips .plain').click();
  await settled(page);
  close(await figure(page, 'revenue'), whole, 'tapping again, and Clear, let go');

  await page.locator('#products .bar').first().focus();
  await page.keyboard.press('Enter');
  await settled(page);
  assert.equal(await page.locator('#products .bar').first().getAttribute('aria-pressed'), 'true', 'keys filter as taps do');
  const box = await page.locator('#places .map canvas').boundingBox();
  assert.ok(box.width > 200 && box.height > 200, 'there is a map');
  calm(page);
  await page.context().close();
  ok('a tap filters every tile, sums agree, taps add and let go, the address holds it all, keys do too');
}

async function liveWithoutReload(browser, shop) {
  const page = await open(browser, shop, '/');
  await page.evaluate(() => (window.neverReloaded = true));
  const before = await figure(page, 'orders');
  await page.evaluate(() => {
    const value = document.querySelector('#cards [data-key="orders"] .value');
    new MutationObserver(() => (window.drawnAt = Date.now())).observe(value, { childList: true, characterData: true, subtree: true });
  });
  shop.order(1);
  await page.waitForFunction((was) => Number(document.querySelector('#cards [data-key="orders"] .value').dataset.value) === was + 1, before, { timeout: LIVE_MS });
  assert.equal(await page.evaluate(() => window.neverReloaded), true);
  const drawn = await page.evaluate(() => window.drawnAt);
  const [{ published }] = await shop.sql(`SELECT CAST(max(published_at) AS VARCHAR) AS published FROM system.refreshes
    WHERE view_name = 'gold.shop_cube' AND rows_out > 0`);
  const took = drawn - Date.parse(`${published.replace(' ', 'T').replace(/Z?$/, 'Z')}`);
  assert.equal(await page.locator('#orders .lines li .name').first().innerText().then((text) => text.split('\n')[0]), 'Silver Anklets');
  assert.equal(await figure(page, 'visitors'), 1, 'one visitor now');
  calm(page);
  await page.context().close();

  const deaf = await browser.newContext({ viewport: PHONE });
  await deaf.route('**/live', (route) => route.abort());
  const polling = await open(browser, shop, '/', { context: deaf });
  const then = await figure(polling, 'orders');
  shop.order(2);
  await polling.waitForFunction((was) => Number(document.querySelector('#cards [data-key="orders"] .value').dataset.value) === was + 1, then, { timeout: POLL_MS });
  await deaf.close();
  ok(`an order shows without a reload, ${took} ms after its epoch was published; without the stream by asking`);
}

async function tablesAndStates(browser, shop) {
  const page = await open(browser, shop, '/?range=28d&grain=hour');
  for (const tile of await page.$$eval('.tile', (found) => found.map((element) => element.id))) {
    await page.locator(`#${tile} .swap`).evaluate((button) => button.click());
    const rows = await page.locator(`#${tile} tbody tr`).count();
    assert.ok(rows > 0, `${tile} is a table with rows`);
    await page.locator(`#${tile} .swap`).evaluate((button) => button.click());
  }
  await page.locator('#cards [data-key="margin"]').click();
  assert.equal(await page.locator('#trend-title').innerText(), 'Margin');
  await page.locator('#theme').click();
  await page.locator('#theme').click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await page.goto(`${shop.url}/?range=yesterday&city=Shimla&product=Diamond+Ring`);
  await settled(page);
  assert.match(await page.locator('#empty').innerText(), /No orders with these filters\. Last order: \d+ \w+, \d\d:\d\d\./);
  await page.locator('#empty button').click();
  await settled(page);
  assert.equal(await page.locator('#chips .chip').count(), 0);
  calm(page);
  await page.context().close();

  const plain = await browser.newContext({ viewport: DESKTOP });
  await plain.route('**/charts.js', (route) => route.abort());
  const without = await open(browser, shop, '/?range=all', { context: plain });
  assert.ok((await without.locator('#trend tbody tr').count()) > 0, 'without charts the trend is a table');
  close(await figure(without, 'revenue'), sum((await shop.answer('range=all')).tiles.kpis, 'revenue'), 'the same numbers');
  await plain.close();

  const cut = await open(browser, shop, '/?range=all');
  const held = await figure(cut, 'revenue');
  await cut.route('**/v1/dashboard?*', (route) => route.abort());
  await cut.locator('#ranges button', { hasText: '7 days' }).click();
  await cut.waitForSelector('.stale #failure:not([hidden])');
  close(await figure(cut, 'revenue'), held, 'the last good numbers stay');
  assert.equal(await cut.locator('#live').getAttribute('data-state'), 'bad');
  await cut.unroute('**/v1/dashboard?*');
  await cut.locator('#ranges button', { hasText: '28 days' }).click();
  await cut.waitForSelector('#live[data-state="good"]');
  await cut.context().close();
  ok('every tile is a table too; empty, without charts, and cut off, the page says what is the case');
}

async function accessible(browser, shop) {
  const looks = [
    ['/?range=all', { viewport: DESKTOP, colorScheme: 'light' }],
    ['/?range=all&state=Maharashtra&category=Electronics', { viewport: DESKTOP, colorScheme: 'dark' }],
    ['/?range=7d', { viewport: PHONE, hasTouch: true, colorScheme: 'light' }],
    ['/?range=all', { viewport: PHONE, hasTouch: true, colorScheme: 'dark' }],
    ['/operations', { viewport: DESKTOP, colorScheme: 'light', wait: false }],
    ['/login', { viewport: PHONE, colorScheme: 'dark', wait: false }],
  ];
  for (const [path, options] of looks) {
    const page = await open(browser, shop, path, { ...options, reducedMotion: 'reduce' });
    if (path === '/operations') await page.waitForFunction(() => document.body.dataset.epoch);
    await page.evaluate(AXE);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    const grave = found.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    const told = grave.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
    assert.deepEqual(told, [], `${path} ${options.colorScheme}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${path} at ${options.viewport.width} px is ${wide} px too wide`);
    calm(page, path);
    await page.context().close();
  }
  ok('axe finds nothing serious: desktop and phone, light and dark, filtered, operations, log-in; nothing is too wide');
}

/** From here on there are users. */
async function everybodySeesTheirOwn(browser, shop) {
  const root = 'root:correct horse';
  for (const sql of [
    "CREATE USER root PASSWORD 'correct horse' ROLE admin",
    'CREATE ROLE seller',
    'GRANT SELECT ON SCHEMA gold TO seller',
    'CREATE POLICY own_rows ON silver.events TO seller USING (seller_id = current_seller())',
    "CREATE USER asha PASSWORD 'sells rings here' ROLE seller ATTRIBUTES (seller_id = 'S001')",
    "CREATE USER ravi PASSWORD 'sells phones too' ROLE seller ATTRIBUTES (seller_id = 'S004')",
  ]) {
    await shop.sql(sql, root);
  }
  shop.who = root;
  const people = { S001: 'asha:sells rings here', S004: 'ravi:sells phones too' };
  const questions = ['range=all', 'range=28d&grain=hour&category=Electronics&category=Jewelry', 'range=today&grain=minute', 'range=all&state=Delhi', 'range=7d&product=Laptop'];
  const without = (tiles) => ({ ...tiles, sellers: [] });
  for (const question of questions) {
    for (const [seller, who] of Object.entries(people)) {
      const own = await shop.answer(question, who);
      const owner = await shop.answer(`${question}&seller=${seller}`, root);
      assert.deepEqual(without(own.tiles), without(owner.tiles), `${question} of ${seller}`);
      assert.deepEqual(own.tiles.sellers, [{ seller_id: seller }]);
      const other = seller === 'S001' ? 'S004' : 'S001';
      const { tiles } = await shop.answer(`${question}&seller=${other}`, who);
      assert.equal(tiles.kpis[0].orders + tiles.visitors[0].visitors + tiles.funnel[0].visited + tiles.carts[0].carts, 0, 'no rows of others');
      for (const name of ['orders', 'products', 'cities', 'categories', 'stock', 'trend', 'largest_carts']) assert.deepEqual(tiles[name], [], `${name} of others`);
    }
  }
  assert.equal((await shop.get('/v1/dashboard', null)).status, 401);
  assert.equal((await shop.get('/v1/operations', people.S001)).status, 403);

  const page = await open(browser, shop, '/?range=all&category=Jewelry', { wait: false });
  await page.waitForURL(/\/login\?next=/);
  await page.fill('input[name=user]', 'asha');
  await page.fill('input[name=password]', 'wrong password');
  await page.click('button[type=submit]');
  assert.match(await page.locator('.wrong').innerText(), /the name or the password is wrong/);
  page.watched.errors.length = 0; // The browser tells of the 401 that was wanted.
  await page.fill('input[name=user]', 'asha');
  await page.fill('input[name=password]', 'sells rings here');
  await page.click('button[type=submit]');
  await settled(page);
  assert.equal(new URL(page.url()).search, '?range=all&category=Jewelry', 'the way on is kept');
  assert.equal(await page.locator('#shop').innerText(), 'Shop S001');
  const [own] = await shop.sql("SELECT CAST(sum(revenue) AS DOUBLE) AS revenue FROM silver.events WHERE seller_id = 'S001' AND category = 'Jewelry'");
  close(await figure(page, 'revenue'), own.revenue, 'her own revenue');
  assert.ok(!(await page.locator('.as').isVisible()) && !(await page.locator('.menu .operator').isVisible()));
  const [cookie] = await page.context().cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict', 'the cookie is for this site, and for no script');
  calm(page, "asha's page");
  await page.locator('#logout button').click();
  await page.waitForURL(/\/login/);
  assert.equal((await page.request.get(`${shop.url}/v1/dashboard`)).status(), 401, 'logged out');
  await page.context().close();
  ok('two sellers never see the rows of one another, on any tile; log-in, log-out, cookie');
}

async function links(browser, shop) {
  const response = await fetch(`${shop.url}/v1/embed-links?seller=S004&days=1`, { method: 'POST', headers: shop.headers(shop.who) });
  assert.equal(response.status, 201);
  const { url } = await response.json();
  const page = await open(browser, shop, `${url}&range=all`);
  const owner = await shop.answer('range=all&seller=S004');
  close(await figure(page, 'revenue'), owner.tiles.kpis[0].revenue, 'the page of the link');
  assert.equal(await page.locator('.as').isVisible(), false);
  calm(page, 'the page of a link');
  await page.context().close();
  const token = new URL(shop.url + url).searchParams.get('token');
  const tried = await shop.get(`/v1/dashboard?range=all&seller=S001&token=${token}`, null);
  assert.deepEqual(JSON.parse(tried.body).tiles.kpis, owner.tiles.kpis, 'another seller cannot be asked for');
  const forged = token.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
  assert.equal((await shop.get(`/v1/dashboard?token=${forged}`, null)).status, 401);
  assert.equal((await shop.get(`/embed?token=${forged}`, null)).status, 401);
  assert.match((await shop.get(url, null)).headers.get('content-security-policy'), /frame-ancestors 'self'/);
  ok('a link shows one seller, and cannot be forged or widened');
}

/** What the README shows: a history until now. */
async function pictures(browser, flash, folder) {
  mkdirSync(folder, { recursive: true });
  const shop = await Shop.open(flash, 220_000, { today: true });
  const shots = [
    ['dashboard-light', '/', { viewport: { width: 1280, height: 1100 }, colorScheme: 'light' }],
    ['dashboard-dark', '/?range=7d&state=Maharashtra&category=Electronics', { viewport: { width: 1280, height: 1100 }, colorScheme: 'dark' }],
    ['dashboard-phone', '/', { viewport: PHONE, colorScheme: 'light' }],
  ];
  for (const [name, path, options] of shots) {
    const page = await open(browser, shop, path, { ...options, reducedMotion: 'reduce' });
    await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.context().close();
  }
  await shop.close();
  ok(`pictures in ${folder}`);
}

const flash = process.env.FLASH ?? 'target/release/flash';
const shop = await Shop.open(flash, EVENTS);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
});
try {
  const at = process.argv.indexOf('--pictures');
  if (at > 0) await pictures(browser, flash, process.argv[at + 1]);
  await figuresEqualSql(browser, shop);
  await tapFilters(browser, shop);
  await liveWithoutReload(browser, shop);
  await tablesAndStates(browser, shop);
  await accessible(browser, shop);
  await everybodySeesTheirOwn(browser, shop);
  await links(browser, shop);
  console.log(`${passed} passed, 0 failed`);
} finally {
  await browser.close();
  await shop.close();
}
