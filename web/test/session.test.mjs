import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import WebSocket from 'ws';
import { Session } from '../podwire.js';
import { READY, next, relay } from './relay.mjs';

const DEMO = { namespace: 'demo', pod: 'shell' };
const session = (address, options) => new Session(address, DEMO, { WebSocket, ...options });

test('an address has the names that are given, and nothing else', () => {
  const at = (relay, target) => Session.address(relay, target).href;
  assert.equal(at('https://r.example', DEMO), 'wss://r.example/exec?namespace=demo&pod=shell');
  assert.equal(at('http://r.example:1/a/b', { ...DEMO, container: 'a&b', tty: false, command: ['sh', '-c', 'x y'] }),
    'ws://r.example:1/a/b/exec?namespace=demo&pod=shell&container=a%26b&command=sh&command=-c&command=x+y&tty=false');
  assert.equal(at('wss://r.example/', new URLSearchParams('ns=a&podName=b&ns=c')), 'wss://r.example/exec?ns=a&podName=b&ns=c');
  assert.equal(at('https://r.example/', { ...DEMO, token: 'secret' }), 'wss://r.example/exec?namespace=demo&pod=shell');
});

test('a handshake has the size, the dialect, and the token nowhere but in a subprotocol', async (t) => {
  let asked;
  const address = await relay(t, (socket, request) => { asked = request; socket.tell(READY); });
  const opened = session(address, { token: 'ö/secret?' }).open({ cols: 100, rows: 30 });
  assert.deepEqual((await next(opened, 'ready')).pod, 'shell');
  assert.equal(asked.url, '/base/exec?namespace=demo&pod=shell&cols=100&rows=30');
  const [dialect, bearer] = asked.headers['sec-websocket-protocol'].split(',').map((name) => name.trim());
  assert.equal(dialect, 'podwire.v1');
  assert.equal(bearer, `base64url.bearer.authorization.k8s.io.${Buffer.from('ö/secret?').toString('base64url')}`);
  assert.doesNotMatch(JSON.stringify(opened), /secret/);
  assert.throws(() => opened.open(), /once/);
});

test('what is typed early arrives once, after the size, and in order', async (t) => {
  const told = [];
  const address = await relay(t, (socket) => {
    socket.on('message', (data, isBinary) => {
      told.push(isBinary ? String(data) : JSON.parse(data).type);
      if (String(data) === 'late') socket.close(1000);
    });
    setImmediate(() => socket.tell({ ...READY, tty: false }));
  });
  const opened = session(address).open();
  opened.resize({ cols: 81, rows: 25 });
  assert.equal(opened.input('early '), true);
  const bytes = new TextEncoder().encode('bytes');
  assert.equal(opened.input(bytes), true);
  bytes.fill(0);
  assert.equal(opened.input('x'.repeat(256 * 1024)), false, 'more than is kept');
  assert.equal(opened.buffered, 11);
  await next(opened, 'ready');
  opened.resize({ cols: 81, rows: 25 });
  assert.equal(opened.input('late'), true);
  await next(opened, 'exit');
  assert.deepEqual(told, ['resize', 'early ', 'bytes', 'late']);
  assert.equal(opened.input('too late'), false);
});

test('8 MiB of input arrive whole, in frames that a relay takes', async (t) => {
  const hash = createHash('sha256');
  let length = 0;
  const address = await relay(t, (socket) => {
    socket.tell(READY);
    socket.on('message', (data) => {
      assert.ok(data.length <= 64 * 1024);
      hash.update(data);
      length += data.length;
      if (length >= 8 * 1024 * 1024) socket.close(1000);
    });
  });
  const opened = session(address).open();
  await next(opened, 'ready');
  const bytes = new Uint8Array(8 * 1024 * 1024).map((_, at) => (at * 7919) >> 3);
  assert.equal(opened.input(bytes), true);
  await next(opened, 'exit');
  assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
});

test('acknowledgements tell the sum, seldom while it flows and soon when it stops', async (t) => {
  const acks = [];
  const address = await relay(t, (socket) => {
    socket.tell(READY);
    socket.on('message', (data) => {
      acks.push(JSON.parse(data));
      if (acks.at(-1).bytes === 100_001) socket.close(1000);
    });
  });
  const opened = session(address).open();
  opened.ack(0); // too early to say
  await next(opened, 'ready');
  opened.ack(0);
  for (let at = 0; at < 100_001; at += 1) opened.ack(1);
  await next(opened, 'exit');
  assert.deepEqual(acks.map(({ bytes }) => bytes), [0, 65536, 100_001]);
  assert.ok(acks.every(({ type }) => type === 'ack'));
});

test('messages become events, and what nobody understands is told or left out', async (t) => {
  const address = await relay(t, (socket) => {
    socket.tell(READY);
    socket.send(Buffer.from([0, 255, 10]));
    socket.tell({ type: 'stderr', data: Buffer.from([200, 7]).toString('base64') });
    socket.tell({ type: 'notice', kind: 'drain', message: 'soon' });
    socket.tell({ type: 'error', message: 'what?' });
    socket.tell({ type: 'of a later version' });
    socket.tell({ type: 'constructor' });
    socket.send('null');
    socket.send('{');
    socket.tell({ type: 'stderr', data: '%' });
    socket.on('message', (data) => {
      const { type, id } = JSON.parse(data);
      if (type === 'ping') socket.tell({ type: 'pong', id });
    });
  });
  const opened = session(address);
  const seen = [];
  for (const type of ['ready', 'data', 'stderr', 'notice', 'error', 'pong', 'exit']) {
    opened.addEventListener(type, ({ detail }) => seen.push([type, detail]));
  }
  opened.open();
  await next(opened, 'ready');
  opened.ping();
  await next(opened, 'pong');
  const facts = seen.map(([type, detail]) => [type, detail.message ?? (detail instanceof Uint8Array ? [...detail] : undefined)]);
  assert.deepEqual(facts, [
    ['ready', undefined], ['data', [0, 255, 10]], ['stderr', [200, 7]], ['notice', 'soon'], ['error', 'what?'],
    ['error', 'the relay sent something that is no message'], ['error', 'the relay sent something that is no message'],
    ['pong', undefined],
  ]);
  assert.ok(seen.at(-1)[1].milliseconds >= 0);
});

test('there is exactly one ending, with what the relay said', async (t) => {
  const address = await relay(t, (socket) => {
    socket.tell(READY);
    socket.tell({ type: 'exit', kind: 'exit', exitCode: 3, message: 'exit code 3', retry: false });
    socket.tell({ type: 'exit', kind: 'exit', exitCode: 0, message: 'twice', retry: true });
    socket.close(1000, 'exit code 3');
  });
  const opened = session(address);
  let endings = 0;
  opened.addEventListener('exit', () => { endings += 1; });
  opened.open();
  const ending = await next(opened, 'exit');
  assert.deepEqual(ending, { kind: 'exit', exitCode: 3, message: 'exit code 3', retry: false, code: 1000 });
  assert.equal(opened.ending.exitCode, 3);
  opened.close();
  assert.equal(endings, 1);
});

test('a connection that breaks is never an exit code', async (t) => {
  const address = await relay(t, (socket) => { socket.tell(READY); setImmediate(() => socket.terminate()); });
  const lost = await next(session(address).open(), 'exit');
  assert.deepEqual([lost.kind, lost.exitCode, lost.retry], ['connection lost', null, true]);
  const none = await next(session('http://127.0.0.1:1/').open(), 'exit');
  assert.deepEqual([none.kind, none.exitCode, none.retry], ['no connection', null, true]);
});

test('closing it ends it, at once or in the middle of a handshake', async (t) => {
  let closed;
  const address = await relay(t, (socket) => {
    socket.on('close', (code, reason) => closed?.([code, String(reason)]));
    socket.tell(READY);
  });
  const opened = session(address).open();
  await next(opened, 'ready');
  const told = new Promise((resolve) => { closed = resolve; });
  opened.close('é'.repeat(100));
  assert.equal(opened.input('x'), false);
  assert.deepEqual(await told, [1000, 'é'.repeat(61)]);
  for (const early of [session(address).open(), session(address)]) {
    const exit = next(early, 'exit');
    early.close();
    assert.equal((await exit).kind, 'closed');
  }
});
