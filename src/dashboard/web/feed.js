// Keeps the page's numbers new.
//
//   /live (SSE: which views have a new version) ──▶ ask again, at most once a second, with the ETag ──▶ 304 or numbers
//   no SSE ──▶ ask every 10 s             hidden ──▶ nothing             a minute has passed ──▶ ask: "now" has moved

const AGAIN_MS = 1000;
const POLL_MS = 10_000;
const MINUTE_MS = 60_000;
const PATIENCE_MS = 15_000;

/**
 * `url()` is what to ask for; `got(answer)` hears new numbers, `failed(error)` that there are none, `heard(state)` what
 * the stream tells: { connected, lag_ms, as_of }.
 */
export class Feed {
  constructor({ url, live, got, failed, heard }) {
    Object.assign(this, { url, live, got, failed, heard });
    this.last = 0;
    document.addEventListener('visibilitychange', () => (document.hidden ? this.pause() : this.start()));
    addEventListener('pagehide', () => this.pause());
    addEventListener('pageshow', (event) => event.persisted && this.start());
    if (!document.hidden) this.start();
  }

  start() {
    this.pause();
    this.running = true;
    this.listen();
    this.minute = setInterval(() => this.ask(), MINUTE_MS);
    this.ask();
  }

  pause() {
    this.running = false;
    this.source?.close();
    for (const timer of [this.minute, this.poll, this.soon, this.reconnect]) clearTimeout(timer);
    this.poll = this.soon = this.source = undefined;
  }

  listen() {
    this.source = new EventSource(this.live);
    const told = (event) => {
      const news = JSON.parse(event.data);
      this.heard({ connected: true, ...news });
      if (news.views?.length) this.later();
    };
    this.source.addEventListener('published', told);
    this.source.addEventListener('lag', told);
    this.source.onopen = () => {
      clearInterval(this.poll);
      this.poll = undefined;
      this.heard({ connected: true });
    };
    this.source.onerror = () => {
      this.poll ??= setInterval(() => this.ask(), POLL_MS);
      // The browser tries again by itself, unless the answer was no stream at all.
      if (this.source?.readyState === EventSource.CLOSED) {
        clearTimeout(this.reconnect);
        this.reconnect = setTimeout(() => this.running && this.listen(), POLL_MS);
      }
    };
  }

  /** Ask when a second has passed since the last time. */
  later() {
    this.soon ??= setTimeout(
      () => {
        this.soon = undefined;
        this.ask();
      },
      Math.max(0, this.last + AGAIN_MS - Date.now()),
    );
  }

  /** Ask now. Another question takes the place of the one under way; the same one waits for its answer. */
  async ask() {
    if (!this.running) return;
    const url = this.url();
    if (this.asking?.url === url) {
      this.again = true;
      return;
    }
    this.asking?.stop.abort();
    const asking = { url, stop: new AbortController() };
    this.asking = asking;
    this.last = Date.now();
    const late = setTimeout(() => asking.stop.abort(new Error('no answer in time')), PATIENCE_MS);
    try {
      const answer = await this.fetch(url, asking.stop.signal);
      if (asking !== this.asking) return;
      if (answer) this.got(answer);
      else this.heard({ renewed: true });
    } catch (error) {
      if (asking === this.asking) this.failed(error);
    } finally {
      clearTimeout(late);
      if (asking === this.asking) {
        this.asking = undefined;
        if (this.again) this.later();
        this.again = false;
      }
    }
  }

  /** The numbers, or nothing where they are those that are shown. */
  async fetch(url, signal) {
    const headers = this.shown?.url === url ? { 'if-none-match': this.shown.tag } : {};
    const response = await fetch(url, { headers, signal, cache: 'no-store' });
    if (response.status === 304) return undefined;
    if (response.status === 401) {
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      return undefined;
    }
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.error?.message ?? response.statusText), { status: response.status });
    this.shown = { url, tag: response.headers.get('etag') };
    return answer;
  }
}
