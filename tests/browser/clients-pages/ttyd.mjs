// Does on the wire what ttyd's own page does (tsl0922/ttyd, html/src/components/terminal/xterm): the
// token first, then an object with the size, commands of one byte, a pause where the terminal lags
// behind, and another session by itself after any close but 1000, unless it was told not to.

import { FitAddon } from '@xterm/addon-fit';
import { show } from './terminal.mjs';

const LIMIT = 100_000;
const HIGH = 10;
const LOW = 4;

const path = location.pathname.replace(/\/+$/, '');
const bytes = (text) => new TextEncoder().encode(text);
const term = show({ fontSize: 13 });
const fitting = new FitAddon();
term.loadAddon(fitting);
fitting.fit();
window.seen = { pauses: 0, resumes: 0, received: 0, ends: [], preferences: [], overlay: '' };
const { seen } = window;
let socket, token, listeners = [];
let opened = false, reconnect = true, doReconnect = true;
let written = 0, pending = 0;

const send = (data) => { if (socket?.readyState === WebSocket.OPEN) socket.send(data); };

function write(data) {
  seen.received += data.length;
  written += data.length;
  if (written <= LIMIT) return term.write(data);
  term.write(data, () => {
    pending = Math.max(pending - 1, 0);
    if (pending < LOW) {
      seen.resumes += 1;
      send(bytes('3'));
    }
  });
  pending += 1;
  written = 0;
  if (pending > HIGH) {
    seen.pauses += 1;
    send(bytes('2'));
  }
}

function listen() {
  listeners = [
    term.onData((text) => send(bytes(`0${text}`))),
    term.onBinary((text) => send(Uint8Array.from(`0${text}`, (it) => it.charCodeAt(0)))),
    term.onResize(({ cols, rows }) => send(bytes(`1${JSON.stringify({ columns: cols, rows })}`))),
  ];
}

function onMessage({ data }) {
  const [command, rest] = [String.fromCharCode(new Uint8Array(data)[0]), data.slice(1)];
  if (command === '0') return write(new Uint8Array(rest));
  const text = new TextDecoder().decode(rest);
  if (command === '1') {
    document.title = text;
  } else if (command === '2') {
    const preferences = JSON.parse(text);
    seen.preferences.push(preferences);
    if (preferences.disableReconnect) reconnect = doReconnect = false;
  } else {
    throw new Error(`unknown command ${command}`);
  }
}

function onClose({ code }) {
  seen.ends.push(code);
  for (const listener of listeners) listener.dispose();
  if (code !== 1000 && doReconnect) {
    seen.overlay = 'Reconnecting...';
    refresh().then(connect);
    return;
  }
  const enter = term.onKey(({ domEvent }) => {
    if (domEvent.key !== 'Enter') return;
    enter.dispose();
    refresh().then(connect);
  });
  seen.overlay = 'Press ⏎ to Reconnect';
}

async function refresh() {
  const answer = await fetch(`${path}/token`);
  if (answer.ok) ({ token } = await answer.json());
}

function connect() {
  socket = new WebSocket(`ws://${location.host}${path}/ws${location.search}`, ['tty']);
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('open', () => {
    send(bytes(JSON.stringify({ AuthToken: token, columns: term.cols, rows: term.rows })));
    if (opened) term.reset();
    opened = true;
    doReconnect = reconnect;
    listen();
    term.focus();
  });
  socket.addEventListener('message', onMessage);
  socket.addEventListener('close', onClose);
  socket.addEventListener('error', () => { doReconnect = false; });
  window.socket = socket;
}

addEventListener('resize', () => fitting.fit());
refresh().then(connect);
