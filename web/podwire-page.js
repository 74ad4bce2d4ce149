// The terminal page: reads what to open from its own address, speaks the podwire.v1 dialect with the
// relay beside it, and says in words what is going on. It keeps no token and stores nothing.

import { Terminal } from './xterm.mjs';
import { FitAddon } from './addon-fit.mjs';

// What the page hands on to `exec`, spelled as it came: the relay judges values and doubles.
const CHOSEN = ['cluster', 'namespace', 'ns', 'pod', 'name', 'podName', 'container', 'containerName', 'shell'];
const HANDED_ON = [...CHOSEN, 'command', 'tty'];
const INPUT_CHUNK = 64 * 1024; // well below the relay's largest message
const ACK_EVERY = 64 * 1024; // well below the relay's window
const ACK_IDLE_MS = 200;

const page = new URLSearchParams(location.search);
const first = (...names) => names.map((name) => page.get(name)).find(Boolean) ?? '';
const asked = {
  cluster: first('cluster'), namespace: first('namespace', 'ns'), pod: first('pod', 'name', 'podName'),
  container: first('container', 'containerName'), shell: first('shell'),
};

const byId = (id) => document.getElementById(id);
const place = ({ namespace, pod, container }) =>
  [namespace, pod, container].filter(Boolean).join('/') + (asked.cluster && ` on ${asked.cluster}`);

function show(state, words) {
  document.body.dataset.state = state;
  if (byId('status').textContent !== words) byId('status').textContent = words;
}

// Something that the user should see while the session goes on; nothing takes it away. The title says
// it, too: whoever types nothing may be looking at another tab.
function notice(words = '') {
  if (!words && !byId('notice').textContent) return;
  byId('notice').textContent = words && sentence(words);
  document.body.toggleAttribute('data-notice', words !== '');
  document.title = document.title.replace(/^(\(!\) )?/, words && '(!) ');
}

// A command at the end of a sentence is there to be copied, and has no full stop.
const sentence = (words) => words[0].toUpperCase() + words.slice(1) + (/; try: |[.!?]$/.test(words) ? '' : '.');

// ---- The form, when the address names no pod ----

function choose() {
  const form = byId('choose');
  for (const [name, value] of Object.entries(asked)) {
    form.elements[name].value = value;
  }
  form.elements.shell.selectedIndex = Math.max(form.elements.shell.selectedIndex, 0);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    for (const name of CHOSEN) page.delete(name);
    for (const [name, value] of new FormData(form)) {
      if (value.trim()) page.set(name, value.trim());
    }
    location.search = page;
  });
  show('form', 'Podwire');
  form.hidden = false;
  form.elements[asked.namespace ? 'pod' : 'namespace'].focus();
}

// ---- The terminal ----

// xterm.js names the colours; ours are readable on their backgrounds.
const COLOURS = ['background', 'foreground', 'cursor', 'cursorAccent', 'selectionBackground',
  'black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white',
  'brightBlack', 'brightRed', 'brightGreen', 'brightYellow', 'brightBlue', 'brightMagenta', 'brightCyan', 'brightWhite'];
const theme = (colours) => Object.fromEntries(colours.split(' ').map((colour, at) => [COLOURS[at], `#${colour}`]));
const LIGHT = theme('ffffff 1f2328 0969da ffffff b6d7ff 24292f cf222e 116329 7d4e00 0969da 8250df 1b7c83 6e7781'
  + ' 57606a a40e26 1a7f37 633c01 218bff a475f9 3192aa 8c959f');
const DARK = theme('0d1117 e6edf3 4493f8 0d1117 264f78 30363d ff7b72 3fb950 d29922 58a6ff bc8cff 39c5cf b1bac4'
  + ' 6e7681 ffa198 56d364 e3b341 79c0ff d2a8ff 56d4dd ffffff');

function openTerminal() {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const term = new Terminal({
    fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace',
    fontSize: 14,
    lineHeight: 1.15, // At 1.0 some fonts lose their underscores to the row below.
    scrollback: 5000,
    theme: dark.matches ? DARK : LIGHT,
  });
  dark.addEventListener('change', () => { term.options.theme = dark.matches ? DARK : LIGHT; });

  const fit = new FitAddon();
  term.loadAddon(fit);
  byId('terminal').hidden = false;
  term.open(byId('terminal'));
  fit.fit();
  new ResizeObserver(() => requestAnimationFrame(() => fit.fit())).observe(byId('terminal'));
  term.focus();
  return term;
}

// ---- The session ----

const encoder = new TextEncoder();

// Opens one session in `term`; calls `onEnd({kind, exitCode, message, retry})` exactly once. The answer
// tells whether the session lives.
function connect(term, onEnd) {
  const url = new URL('exec', document.baseURI);
  url.protocol = url.protocol.replace('http', 'ws');
  for (const [name, value] of page) {
    if (HANDED_ON.includes(name)) url.searchParams.append(name, value);
  }
  url.searchParams.set('cols', term.cols);
  url.searchParams.set('rows', term.rows);

  const socket = new WebSocket(url, 'podwire.v1');
  socket.binaryType = 'arraybuffer';
  const stderr = new TextDecoder();
  const early = []; // typed before the session was ready
  let ready = null; // the relay's first message
  let end = null; // the relay's last message
  let told = ''; // the kind of the last notice
  let line = ''; // without a TTY: what has been typed since the last Enter
  let received = 0, consumed = 0, acked = 0, ackTimer = 0;

  const tell = (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  const sendBytes = (bytes) => {
    for (let at = 0; at < bytes.length && socket.readyState === WebSocket.OPEN; at += INPUT_CHUNK) {
      socket.send(bytes.subarray(at, at + INPUT_CHUNK));
    }
  };

  // Acknowledged is what the terminal has drawn, so a flood waits in the cluster and not in this tab.
  const ack = () => {
    clearTimeout(ackTimer);
    ackTimer = 0;
    tell({ type: 'ack', bytes: acked = consumed });
  };
  const write = (data, bytes) => {
    received += bytes;
    term.write(data, () => {
      consumed += bytes;
      if (consumed - acked >= ACK_EVERY) ack();
      else if (consumed === received) ackTimer ||= setTimeout(ack, ACK_IDLE_MS);
    });
  };

  // Without a TTY nobody in the container echoes, edits or ends a line, so the page does.
  const typeLine = (data) => {
    if (data.startsWith('\x1b')) return; // arrows and the like have no meaning here
    for (const key of data.replace(/\r\n?/g, '\n')) {
      if (key === '\x7f') {
        if (line) term.write('\b \b');
        line = [...line].slice(0, -1).join('');
        continue;
      }
      if (key !== '\x04') {
        line += key;
        term.write(key);
      }
      if (key === '\n' || key === '\x04') {
        sendBytes(encoder.encode(line));
        line = '';
      }
      if (key === '\x04') tell({ type: 'eof' });
    }
  };

  const typed = (data) => {
    if (!ready) early.push(data);
    else if (ready.tty) sendBytes(encoder.encode(data));
    else typeLine(data);
    if (told === 'idle_warning') notice(); // typing is what it asked for; others come true anyway
  };

  const onMessage = {
    ready(message) {
      ready = message;
      term.options.convertEol = !ready.tty;
      ack(); // from here on the relay keeps to its window
      tell({ type: 'resize', rows: term.rows, cols: term.cols });
      document.title = `${ready.pod} – Podwire`;
      show('connected', `Connected to ${place(ready)}`);
      early.forEach(typed);
    },
    stderr({ data }) {
      const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
      write(stderr.decode(bytes, { stream: true }), bytes.length);
    },
    notice({ kind, message }) {
      told = kind;
      notice(message);
    },
    error({ message }) { console.warn('podwire:', message); },
    exit(message) { end = message; },
  };

  show('connecting', `Connecting to ${place(asked)}…`);
  const listeners = [
    term.onResize(({ rows, cols }) => tell({ type: 'resize', rows, cols })),
    term.onData(typed),
    term.onBinary((data) => sendBytes(Uint8Array.from(data, (char) => char.charCodeAt(0)))),
  ];
  socket.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) return write(new Uint8Array(data), data.byteLength);
    const message = JSON.parse(data);
    if (Object.hasOwn(onMessage, message.type)) onMessage[message.type](message);
  };
  socket.onclose = ({ code, reason }) => {
    clearTimeout(ackTimer);
    notice();
    for (const listener of listeners) listener.dispose();
    onEnd(end ?? {
      kind: ready ? 'connection lost' : 'no connection',
      exitCode: null,
      message: reason || (ready ? `The connection to the relay broke (code ${code}).`
        : 'The relay cannot be reached, or it refused: a name it does not accept, or no login.'),
      retry: true,
    });
  };
  return () => socket.readyState === WebSocket.OPEN && !end;
}

// Writes the last line of a session, after what a killed full-screen program leaves behind is gone: a half
// escape sequence, the alternate screen, mouse reports; the soft reset sees to keyboard modes and colours.
function writeEnd(term, words) {
  term.write('\x18', () => {
    const screen = term.buffer.active;
    if (screen.type === 'alternate') term.write('\x1b[?1049l');
    else if (screen.cursorX > 0) term.write('\r\n');
    term.write(`\x1b[?1000;1002;1003;1006l\x1b[!p\x1b[K\x1b[2m${words}\x1b[0m\r\n`);
  });
}

// The ending as one line: "Ended: exit code 3." or "Ended (forbidden). You may not …".
function endWords({ kind, exitCode, message }) {
  const code = Number.isInteger(exitCode) ? `exit code ${exitCode}` : '';
  const parts = (message?.includes(code) ? [message] : [code, message]).filter(Boolean);
  const words = kind === 'exit' ? [`Ended: ${parts.join('. ')}`] : [`Ended (${kind})`, ...parts];
  return words.map(sentence).join(' ').replace(/[\x00-\x1f\x7f-\x9f]/g, ' ');
}

// Where there is no shell, the relay's sentence ends with a command to type elsewhere. Answers that end.
function offerRemedy({ kind, message }) {
  const [end, command] = (kind === 'no_shell' && /; try: (.+)$/.exec(message)) || ['', ''];
  byId('remedy').hidden = !command;
  byId('command').value = command;
  byId('copy').textContent = 'Copy';
  return end;
}

async function copyRemedy() {
  byId('command').select();
  try {
    await navigator.clipboard.writeText(byId('command').value);
    byId('copy').textContent = 'Copied';
  } catch {
    // Without https there is no such clipboard, but what is selected can be copied by hand.
    byId('copy').textContent = document.execCommand('copy') ? 'Copied' : 'Press Ctrl+C';
  }
}

function run(term) {
  const [again, other] = [byId('again'), byId('other')];
  other.search = new URLSearchParams({ cluster: asked.cluster, namespace: asked.namespace });
  let lives;
  const start = () => {
    again.hidden = other.hidden = true;
    offerRemedy({});
    lives = connect(term, (end) => {
      const anew = end.retry || end.kind === 'exit';
      const words = endWords(end) + (anew ? ' Press Enter to reconnect.' : '');
      const remedy = offerRemedy(end);
      show(end.kind === 'exit' ? 'ended' : 'failed', remedy ? words.replace(remedy, '.') : words);
      writeEnd(term, words);
      other.hidden = false;
      if (!anew) return;
      again.hidden = false;
      const enter = term.onData((data) => { if (data === '\r') again.onclick(); });
      again.onclick = () => { enter.dispose(); start(); term.focus(); };
    });
  };
  byId('copy').onclick = copyRemedy;
  addEventListener('beforeunload', (event) => { if (lives()) event.preventDefault(); });
  start();
}

if (asked.pod) {
  const term = openTerminal();
  run(term);
  window.podwire = { term }; // for tests and the curious
} else {
  choose();
}
