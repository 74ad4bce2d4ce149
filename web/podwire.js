// A session of Podwire: the shell of a Kubernetes container, through a relay, in its podwire.v1 dialect.
// No dependency; runs wherever there is a WebSocket. What it knows of a token stays in its memory and
// goes nowhere but into the handshake.

const SUBPROTOCOL = 'podwire.v1';
const BEARER = 'base64url.bearer.authorization.k8s.io.';
/** Well below the relay's largest message, which is 1 MiB. */
const INPUT_CHUNK = 64 * 1024;
/** What may be typed before the session is ready: as much as the relay would keep. */
const EARLY_MAX = 256 * 1024;
/** How much is consumed before the relay hears of it: well below its window, which is 512 KiB. */
const ACK_EVERY = 64 * 1024;
/** When it hears of the rest. */
const ACK_IDLE_MS = 200;
/** A close reason's room in a frame (RFC 6455). */
const REASON_MAX = 123;
/** The parameters of a target that may stand in an address. */
const PARAMETERS = ['cluster', 'namespace', 'pod', 'container', 'shell', 'command', 'tty'];

const encoder = new TextEncoder();

/**
 * One session. Events: `ready`, `data` and `stderr` (bytes), `notice`, `error`, `pong` and, exactly once and
 * last, `exit`; what they tell is in `detail`, see podwire.d.ts.
 */
export class Session extends EventTarget {
  #address;
  #token;
  #WebSocket;
  #socket = null;
  #ready = null;
  #end = null; // what `exit` will tell, or has told
  #over = false;
  #early = []; // typed before the session was ready
  #earlyBytes = 0;
  #earlyEof = false;
  #size = null;
  #consumed = 0;
  #acked = null; // null until the first `ack`: a page that never sends one is never waited for
  #ackTimer;
  #pings = new Map();
  #lastPing = 0;

  /**
   * @param {string | URL} relay the relay's base address, such as `https://relay.example/base/`
   * @param {object} [target] `namespace`, `pod`, and what else podwire.d.ts lists
   * @param {object} [options] `token`, `WebSocket`
   */
  constructor(relay, target = {}, { token = '', WebSocket: Socket = globalThis.WebSocket } = {}) {
    super();
    this.#address = Session.address(relay, target);
    this.#token = token;
    this.#WebSocket = Socket;
  }

  /** The WebSocket's address for a target, or for the parameters of an address as they are. */
  static address(relay, target) {
    const base = new URL(relay, globalThis.document?.baseURI);
    if (!base.pathname.endsWith('/')) base.pathname += '/';
    const address = new URL('exec', base);
    address.protocol = address.protocol.replace(/^http/, 'ws');
    const pairs = target instanceof URLSearchParams ? [...target] : PARAMETERS.flatMap((name) =>
      [target[name] ?? []].flat().map((value) => [name, String(value)]));
    for (const [name, value] of pairs) address.searchParams.append(name, value);
    return address;
  }

  /** The relay's first message, once it is there. */
  get ready() { return this.#ready; }

  /** How the session ended, once it has. */
  get ending() { return this.#over ? this.#end : null; }

  /** Bytes of input that are still in this browser. */
  get buffered() { return this.#earlyBytes + (this.#socket?.bufferedAmount ?? 0); }

  /** Opens the session, once; a terminal's size is its first one. */
  open({ cols, rows } = {}) {
    if (this.#socket) throw new Error('a session is opened once; make another one');
    if (cols && rows) this.#size ??= { cols, rows };
    if (this.#size) {
      this.#address.searchParams.set('cols', this.#size.cols);
      this.#address.searchParams.set('rows', this.#size.rows);
    }
    const offered = this.#token ? [SUBPROTOCOL, BEARER + base64url(this.#token)] : [SUBPROTOCOL];
    const socket = this.#socket = new this.#WebSocket(this.#address.href, offered);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => this.#onMessage(data);
    socket.onclose = ({ code, reason }) => this.#onClose(code, reason);
    socket.onerror = () => {}; // a close follows, and says as much as a page may know
    return this;
  }

  /** Sends text or bytes to the process. False if they were not taken: the session is over, or not ready for so much. */
  input(data) {
    const bytes = typeof data === 'string' ? encoder.encode(data) : data;
    if (this.#end || this.#earlyEof) return false;
    if (this.#ready) return this.#sendBytes(bytes);
    if (this.#earlyBytes + bytes.length > EARLY_MAX) return false;
    this.#earlyBytes += bytes.length;
    this.#early.push(bytes.slice()); // its owner may use the memory again
    return true;
  }

  /** Says how large the terminal is. Repeats are not sent. */
  resize({ cols, rows }) {
    if (this.#size?.cols === cols && this.#size?.rows === rows) return;
    this.#size = { cols, rows };
    if (this.#ready) this.#tell({ type: 'resize', rows, cols });
  }

  /** Ends the input. Only without a TTY: a terminal has Ctrl-D for that. */
  eof() {
    if (this.#ready) this.#tell({ type: 'eof' });
    else this.#earlyEof = true;
  }

  /**
   * Says that so many bytes more of `data` and `stderr` have been consumed. From the first call on the relay
   * keeps to its window: what is not consumed waits in the container and not in this browser.
   */
  ack(bytes) {
    if (this.#over) return;
    this.#consumed += bytes;
    if (this.#acked === null || this.#consumed - this.#acked >= ACK_EVERY) this.#sendAck();
    else if (this.#consumed > this.#acked) this.#ackTimer ??= setTimeout(() => this.#sendAck(), ACK_IDLE_MS);
  }

  /** Asks the relay for an answer; `pong` tells how many milliseconds it took. */
  ping() {
    if (!this.#ready || this.#pings.size > 8) return; // so many without an answer: it will not come sooner
    const id = this.#lastPing += 1;
    this.#pings.set(id, performance.now());
    this.#tell({ type: 'ping', id });
  }

  /** Ends the session; the relay hangs up the process. */
  close(reason = 'closed by the page') {
    if (this.#over) return;
    this.#end ??= { kind: 'closed', exitCode: null, message: reason, retry: true };
    if (!this.#socket) return this.#onClose(1000, '');
    let cut = reason;
    while (encoder.encode(cut).length > REASON_MAX) cut = [...cut].slice(0, -1).join('');
    this.#socket.close(1000, cut);
  }

  #isOpen() { return this.#socket?.readyState === 1; }

  #tell(message) {
    if (this.#isOpen()) this.#socket.send(JSON.stringify(message));
  }

  #sendBytes(bytes) {
    for (let at = 0; at < bytes.length; at += INPUT_CHUNK) {
      if (!this.#isOpen()) return false;
      this.#socket.send(bytes.subarray(at, at + INPUT_CHUNK));
    }
    return this.#isOpen();
  }

  #sendAck() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (!this.#ready) return;
    this.#acked = this.#consumed;
    this.#tell({ type: 'ack', bytes: this.#consumed });
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #onMessage(data) {
    if (this.#over) return;
    if (data instanceof ArrayBuffer) return this.#emit('data', new Uint8Array(data));
    let message, bytes;
    try {
      message = JSON.parse(data);
      if (message?.type === 'stderr') bytes = fromBase64(message.data);
    } catch {
      return this.#emit('error', { message: 'the relay sent something that is no message' });
    }
    switch (message?.type) {
      case 'ready': return this.#onReady(message);
      case 'stderr': return this.#emit('stderr', bytes);
      case 'pong': return this.#onPong(message.id);
      case 'exit': this.#end ??= ending(message); return undefined;
      case 'notice': case 'error': return this.#emit(message.type, message);
      default: return undefined; // of a later version
    }
  }

  #onReady(message) {
    this.#ready = message;
    // It may have changed since the address was made; the relay drops repeats.
    if (this.#size) this.#tell({ type: 'resize', rows: this.#size.rows, cols: this.#size.cols });
    const early = this.#early;
    this.#early = [];
    this.#earlyBytes = 0;
    for (const bytes of early) this.#sendBytes(bytes);
    if (this.#earlyEof) this.eof();
    this.#emit('ready', message);
  }

  #onPong(id) {
    const since = this.#pings.get(id);
    this.#pings.delete(id);
    if (since !== undefined) this.#emit('pong', { milliseconds: performance.now() - since });
  }

  #onClose(code, reason) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#ackTimer);
    this.#early = [];
    this.#earlyBytes = 0;
    this.#end ??= {
      kind: this.#ready ? 'connection lost' : 'no connection',
      exitCode: null,
      message: reason || (this.#ready ? `The connection to the relay broke (code ${code}).`
        : 'The relay cannot be reached, or it refused: a name it does not accept, or no login.'),
      retry: true,
    };
    this.#emit('exit', { ...this.#end, code });
  }
}

// What a page goes by, whatever a relay left out.
function ending({ kind, exitCode, message, retry }) {
  return {
    kind: String(kind ?? 'exit'),
    exitCode: Number.isInteger(exitCode) ? exitCode : null,
    message: String(message ?? ''),
    retry: retry === true,
  };
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

function base64url(text) {
  const binary = Array.from(encoder.encode(text), (byte) => String.fromCharCode(byte)).join('');
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}
