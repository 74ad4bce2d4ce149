// Joins a Session to an xterm.js terminal: what is typed goes in, what comes out is drawn, and only what is
// drawn is acknowledged, so a flood waits in the container and not in the tab.

/** What may be typed before the session is ready. */
const EARLY_MAX = 256 * 1024;

/** An xterm.js addon for one session: `term.loadAddon(new PodwireAddon(session))`, then `session.open()`. */
export class PodwireAddon {
  #session;
  #typed;
  #term = null;
  #listeners = [];
  #stop = null;
  #convertEol;
  #early = ''; // typed before it is known whether there is a TTY
  #line = ''; // without a TTY: what has been typed since the last Enter

  /** `typed` may change what is typed before it is sent, as a sticky Ctrl key does. */
  constructor(session, { typed = (data) => data } = {}) {
    this.#session = session;
    this.#typed = typed;
  }

  activate(term) {
    const session = this.#session;
    this.#term = term;
    this.#convertEol = term.options.convertEol;
    this.#stop = new AbortController();
    const on = (type, listener) => session.addEventListener(type, ({ detail }) => listener(detail), { signal: this.#stop.signal });
    on('ready', (ready) => this.#onReady(ready));
    on('data', (bytes) => this.#write(bytes, bytes.length));
    const stderr = new TextDecoder(); // a character may be cut between two messages
    on('stderr', (bytes) => this.#write(stderr.decode(bytes, { stream: true }), bytes.length));
    on('exit', () => this.dispose());
    this.#listeners = [
      term.onResize((size) => session.resize(size)),
      term.onData((data) => this.#onTyped(this.#typed(data))),
      term.onBinary((data) => session.input(Uint8Array.from(data, (char) => char.charCodeAt(0)))),
    ];
    session.resize({ cols: term.cols, rows: term.rows });
    if (session.ready) this.#onReady(session.ready);
  }

  /** Leaves terminal and session as they are, and no longer joins them. */
  dispose() {
    this.#stop?.abort();
    for (const listener of this.#listeners.splice(0)) listener.dispose();
    const term = this.#term;
    const convertEol = this.#convertEol;
    this.#term = null;
    // What has been written before is still to be drawn as it was meant.
    term?.write('', () => { term.options.convertEol = convertEol; });
  }

  #onReady({ tty }) {
    this.#term.options.convertEol = this.#convertEol || !tty;
    this.#session.ack(0); // from here on the relay keeps to its window
    const early = this.#early;
    this.#early = '';
    if (early) this.#onTyped(early);
  }

  #write(data, bytes) {
    this.#term.write(data, () => this.#session.ack(bytes));
  }

  #onTyped(data) {
    const { ready } = this.#session;
    if (ready?.tty) this.#session.input(data);
    else if (ready) this.#typeLine(data);
    else if (this.#early.length + data.length <= EARLY_MAX) this.#early += data;
    else this.#session.dispatchEvent(new CustomEvent('error', { detail: { message: 'too much was typed before the session was ready' } }));
  }

  // Without a TTY nobody in the container echoes, edits or ends a line, so it is done here.
  #typeLine(data) {
    if (data.startsWith('\x1b')) return; // arrows and the like have no meaning here
    for (const key of data.replace(/\r\n?/g, '\n')) {
      if (key === '\x7f') {
        if (this.#line) this.#term.write('\b \b');
        this.#line = [...this.#line].slice(0, -1).join('');
        continue;
      }
      if (key !== '\x04') {
        this.#line += key;
        this.#term.write(key);
      }
      if (key === '\n' || key === '\x04') {
        this.#session.input(this.#line);
        this.#line = '';
      }
      if (key === '\x04') this.#session.eof();
    }
  }
}
