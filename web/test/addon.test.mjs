// @xterm/headless is the oracle: the same bytes written to it at once must give the same screen.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import xterm from '@xterm/headless';
import WebSocket from 'ws';
import { PodwireAddon } from '../podwire-addon.js';
import { Session } from '../podwire.js';
import { READY, heard, next, relay } from './relay.mjs';

const DEMO = { namespace: 'demo', pod: 'shell' };
const terminal = () => new xterm.Terminal({ cols: 60, rows: 20, scrollback: 2000, allowProposedApi: true });
const drawn = (term) => new Promise((resolve) => term.write('', resolve));

function text(term) {
  const { active } = term.buffer;
  return Array.from({ length: active.length }, (_, at) => active.getLine(at).translateToString(true).trimEnd()).join('\n').trimEnd();
}

function join(address, options) {
  const term = terminal();
  const session = new Session(address, DEMO, { WebSocket });
  term.loadAddon(new PodwireAddon(session, options));
  return { term, session };
}

async function expected(bytes) {
  const term = terminal();
  term.write(bytes);
  await drawn(term);
  return text(term);
}

// No character that joins two others: at the beginning of a write xterm.js loses it, whoever calls it.
const SAMPLE = 'héllo 世界 👩💻 \x1b[1;31mé\x1b[0m \x1b]0;títle\x07 \xff 终\r\nend ';

test('text cut at every offset is the same on the screen', async (t) => {
  const bytes = Buffer.from(SAMPLE);
  const oracle = await expected(bytes);
  let at = 0;
  const address = await relay(t, (socket) => {
    socket.tell(READY);
    socket.send(bytes.subarray(0, at));
    socket.send(bytes.subarray(at));
    socket.tell({ type: 'exit', kind: 'exit', exitCode: 0, message: 'exit code 0', retry: false });
    socket.close(1000);
  });
  for (at = 0; at <= bytes.length; at += 1) {
    const { term, session } = join(address);
    await next(session.open(), 'exit');
    await drawn(term);
    assert.equal(text(term), oracle, `cut at ${at}`);
  }
});

test('bytes that are no text, one at a time, are the same as at once', async (t) => {
  const values = Array.from({ length: 6000 }, (_, at) => ((at * 7919) >> 4) & 0xff);
  const bytes = Buffer.from(values.filter((byte) => ![0x1b, 0x7f, 0x9b].includes(byte))); // no sequences, no delete
  const address = await relay(t, (socket) => {
    socket.tell(READY);
    for (const byte of bytes) socket.send(Buffer.of(byte));
    socket.close(1000);
  });
  const { term, session } = join(address);
  await next(session.open(), 'exit');
  await drawn(term);
  assert.equal(text(term), await expected(bytes));
});

test('a flood of 16 MiB waits for the terminal, never more than the window ahead of it', async (t) => {
  const WINDOW = 512 * 1024, FRAME = 32 * 1024, FRAMES = 512;
  let [sent, acked, most] = [0, null, 0];
  const address = await relay(t, (socket) => {
    const frame = Buffer.alloc(FRAME, 'a flood\r\n');
    const flow = () => {
      while (sent < FRAMES * FRAME && sent - acked <= WINDOW) {
        socket.send(frame);
        sent += FRAME;
        most = Math.max(most, sent - acked);
      }
    };
    socket.on('message', (data) => {
      acked = JSON.parse(data).bytes ?? acked;
      flow();
      if (acked === FRAMES * FRAME) socket.close(1000);
    });
    socket.tell(READY);
  });
  const { term, session } = join(address);
  await next(session.open(), 'exit');
  assert.equal(acked, FRAMES * FRAME);
  assert.ok(most <= WINDOW + FRAME, `${most}`);
  await drawn(term);
});

test('keys, binary keys and sizes reach the session, changed as asked', async (t) => {
  let resolve;
  const opened = new Promise((done) => { resolve = done; });
  const address = await relay(t, (socket) => resolve(socket));
  const { term, session } = join(address, { typed: (data) => data.toUpperCase() });
  session.open();
  const socket = await opened;
  const typed = heard(socket, (message, isBinary) => isBinary && String(message) === 'ÉARLY');
  term.input('éarly');
  socket.tell(READY);
  await typed;
  const resized = heard(socket, ({ type, cols }) => type === 'resize' && cols === 99);
  term.resize(99, 21);
  assert.deepEqual(await resized, { type: 'resize', rows: 21, cols: 99 });
});

test('without a TTY a line can be typed and mended, and Ctrl-D ends the input', async (t) => {
  const lines = [];
  const address = await relay(t, (socket) => {
    socket.tell({ ...READY, tty: false });
    socket.on('message', (data, isBinary) => {
      if (isBinary) lines.push(String(data));
      else if (JSON.parse(data).type === 'eof') {
        lines.push('eof');
        socket.send(Buffer.from('one\ntwo\n'));
        socket.tell({ type: 'stderr', data: Buffer.from('你').subarray(0, 1).toString('base64') });
        socket.tell({ type: 'stderr', data: Buffer.from('你').subarray(1).toString('base64') });
        socket.close(1000);
      }
    });
  });
  const { term, session } = join(address);
  await next(session.open(), 'ready');
  for (const key of ['h', 'é', 'x', '\x7f', '\x1b[A', '\r', 'r', 'est', '\x04']) term.input(key);
  await next(session, 'exit');
  await drawn(term);
  assert.deepEqual(lines, ['hé\n', 'rest', 'eof']);
  assert.equal(text(term), 'hé\nrestone\ntwo\n你');
  assert.equal(term.options.convertEol, false, 'as it was before');
});

test('the next session of a terminal gets its keys alone', async (t) => {
  const sockets = [];
  const address = await relay(t, (socket) => { sockets.push(socket); socket.tell(READY); });
  const { term, session } = join(address);
  await next(session.open(), 'ready');
  sockets[0].close(1000);
  await next(session, 'exit');
  const second = new Session(address, DEMO, { WebSocket });
  term.loadAddon(new PodwireAddon(second));
  await next(second.open(), 'ready');
  const typed = heard(sockets[1], (_, isBinary) => isBinary);
  term.input('x');
  assert.equal(String(await typed), 'x');
});
