// A shop for the browser: `flash run` over a file of events, which the tests add to, and SQL to compare with.
//
//   flash simulate ─▶ events.jsonl ─▶ flash run ─▶ http://127.0.0.1:<free port>
//        order() ──────▲                  ▲── sql(): POST /v1/sql

import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const START_MS = 120_000;
const DAY_MS = 86_400_000;
/** Where the simulated history ends: midnight in India. */
const END = '2026-11-20T18:30:00Z';

/** Move the events of a file by whole days, so that they end now; how many are left. */
function untilNow(file) {
  const lines = readFileSync(file, 'utf8').split('\n').filter((line) => line.includes('"event_time"'));
  const time = /"event_time":"([^"]+)"/;
  const now = Date.now();
  const days = Math.ceil((now - Date.parse(END)) / DAY_MS);
  const moved = [];
  for (const line of lines) {
    const at = Date.parse(time.exec(line)?.[1]) + days * DAY_MS;
    if (at < now) moved.push(line.replace(time, `"event_time":"${new Date(at).toISOString()}"`));
  }
  writeFileSync(file, `${moved.join('\n')}\n`);
  return moved.length;
}

export class Shop {
  /** `today`: the history goes on until now. */
  static async open(flash, records, { today = false } = {}) {
    const shop = new Shop();
    shop.folder = mkdtempSync(join(tmpdir(), 'flash-browser-'));
    shop.file = join(shop.folder, 'events.jsonl');
    execFileSync(flash, ['simulate', '--events', String(records), '--seed', '7', '--out', shop.file], { stdio: 'ignore' });
    const events = today ? untilNow(shop.file) : records;
    const ports = ['--flight', '127.0.0.1:0', '--http', '127.0.0.1:0'];
    const source = ['--source', `raw.events=jsonl:${shop.file}`];
    shop.process = spawn(flash, ['run', '--project', 'sql', '--lake', join(shop.folder, 'lake'), ...source, ...ports], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    shop.url = await new Promise((found, lost) => {
      const late = setTimeout(() => lost(new Error('flash run did not say where it listens')), START_MS);
      const told = [];
      createInterface({ input: shop.process.stderr }).on('line', (line) => {
        told.push(line);
        const address = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
        if (!address) return;
        clearTimeout(late);
        found(address[0]);
      });
      shop.process.on('exit', (code) => lost(new Error(`flash run ended with ${code}\n${told.join('\n')}`)));
    });
    await shop.until('all events are in gold', async () => {
      const [row] = await shop.sql('SELECT CAST(sum(events) AS BIGINT) AS held FROM gold.kpis').catch(() => [{}]);
      const [all] = await shop.sql('SELECT count(*) AS landed FROM bronze.events').catch(() => [{}]);
      const [kept] = await shop.sql('SELECT count(*) AS kept FROM silver.events').catch(() => [{}]);
      return all.landed >= events && row.held === kept.kept;
    });
    return shop;
  }

  /** Ask again until it is so. */
  async until(what, so, ms = START_MS) {
    const end = Date.now() + ms;
    for (;;) {
      if (await so()) return;
      if (Date.now() > end) throw new Error(`not in time: ${what}`);
      await new Promise((next) => setTimeout(next, 50));
    }
  }

  headers(who) {
    return who ? { authorization: `Basic ${Buffer.from(who).toString('base64')}` } : {};
  }

  /** The rows of a statement. */
  async sql(text, who = this.who) {
    const headers = { 'content-type': 'text/plain', accept: 'application/x-ndjson', ...this.headers(who) };
    const response = await fetch(`${this.url}/v1/sql`, { method: 'POST', body: text, headers });
    const body = await response.text();
    if (!response.ok) throw new Error(`${text}\n${response.status} ${body}`);
    return body.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  async get(path, who = this.who) {
    const response = await fetch(this.url + path, { headers: this.headers(who), redirect: 'manual' });
    return { status: response.status, headers: response.headers, body: await response.text() };
  }

  async answer(query, who) {
    const { status, body } = await this.get(`/v1/dashboard?${query}`, who);
    if (status !== 200) throw new Error(`${query}: ${status} ${body}`);
    return JSON.parse(body);
  }

  /** One more purchase, now. */
  order(number, { seller = 'S001', city = 'Panaji', product = 'Silver Anklets', category = 'Jewelry', price = 4299 } = {}) {
    const visit = { session_id: `visit-${number}`, user_id: `user-${number}`, seller_id: seller, product_id: 'P-test', product_name: product, category };
    const at = new Date().toISOString();
    const event = (event_type) => ({ event_id: `${event_type}-${number}`, event_type, event_time: at, ...visit, price, cost: 2999, quantity: 1, city, state: 'x' });
    appendFileSync(this.file, ['view', 'add_to_cart', 'purchase'].map((type) => `${JSON.stringify(event(type))}\n`).join(''));
  }

  async close() {
    this.process.removeAllListeners('exit');
    const ended = new Promise((end) => this.process.on('exit', end));
    this.process.kill('SIGTERM');
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
