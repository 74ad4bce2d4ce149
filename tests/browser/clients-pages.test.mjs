// Pages that were written for somebody else, pointed at the relay: xterm's addon-attach, Rancher's
// container shell and ttyd's page. The relay's own origin has them, as a gateway would put them there;
// the test answers for the pages, and only what they ask for goes to the relay.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { clientsPage } from './clients-pages/build.mjs';
import { browser, enter, paste, program, shot, sockets, start, until } from './support.mjs';

const MIB = 1024 * 1024;
const SHELL = 'namespace=demo&pod=shell&container=main';
const PROMPT = /[#$] *\n*$/;
let folder, chromium;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'podwire-clients-'));
  chromium = await browser();
});

after(async () => {
  await chromium?.close();
  if (folder) rmSync(folder, { recursive: true });
});

/** A pretend cluster and a relay of the test's own. What was begun last ends first. */
async function begin(t, flags, ...more) {
  const ends = [];
  t.after(async () => { while (ends.length) await ends.pop()(); });
  const kubeconfig = join(folder, `${flags.length}-${more.length}-${Date.now()}`);
  const cluster = await start(program('PODWIRE_TEST_FAKE_CLUSTER', 'fake-cluster'),
    ['--listen', '127.0.0.1:0', '--kubeconfig-out', kubeconfig, ...more]);
  ends.push(() => cluster.stop());
  const relay = await start(program('PODWIRE_TEST_BIN', 'podwire'),
    ['serve', '--kubeconfig', kubeconfig, '--listen', '127.0.0.1:0', '--admin-listen', 'off', '--log-level', 'debug',
      '--drain-delay', '0s', ...flags]);
  ends.push(() => relay.stop());
  const tokens = Object.fromEntries(JSON.parse(readFileSync(kubeconfig, 'utf8')).users.map(({ name, user }) => [name, user.token]));
  return { cluster, relay, tokens, origin: new URL(relay.address).origin, ends };
}

/** Opens one of the pages at this path of the relay's origin. */
async function visit({ origin, ends }, name, path, { cookies = [], init } = {}) {
  const context = await chromium.newContext({
    viewport: { width: 900, height: 560 },
    // A page that the test answers for has no address, and Chromium asks before it may reach loopback.
    permissions: ['local-network-access'],
  });
  ends.push(() => context.close());
  await context.addCookies(cookies.map((cookie) => ({ ...cookie, url: origin })));
  const page = await context.newPage();
  if (init) await page.addInitScript(init);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  const { script, style } = await clientsPage(name);
  const files = {
    [new URL(path, origin).pathname]: ['text/html; charset=utf-8', `<!doctype html><link rel="stylesheet" href="/page.css">
      <body style="margin: 0"><div id="terminal" style="height: 100vh"></div><script type="module" src="/page.js"></script></body>`],
    '/page.js': ['text/javascript; charset=utf-8', script],
    '/page.css': ['text/css; charset=utf-8', style],
  };
  await page.route((url) => url.pathname in files, (route) => {
    const [contentType, body] = files[new URL(route.request().url()).pathname];
    return route.fulfill({ contentType, body });
  });
  const opened = sockets(page);
  await page.goto(origin + path);
  await page.waitForFunction(() => window.screenText);
  const text = () => page.evaluate(() => window.screenText());
  return { page, errors, sockets: opened, text };
}

/** Asks the shell for its size until it is the terminal's. */
async function saysSize(page, text) {
  const { rows, cols } = await page.evaluate(() => ({ rows: window.term.rows, cols: window.term.cols }));
  await enter(page, `until [ "$(stty size)" = "${rows} ${cols}" ]; do sleep 0.05; done; stty size | tr ' ' x`);
  await until(text, new RegExp(`\\n${rows}x${cols}\\n`));
}

/** Gives the page a smaller window, and waits until its terminal has fewer columns. */
async function shrink(page) {
  const columns = () => page.evaluate(() => window.term.cols);
  const before = await columns();
  await page.setViewportSize({ width: 700, height: 420 });
  await until(columns, (now) => now < before);
}

/** What a number comes to when it has not grown for a second; 0 before. */
function settled(look) {
  let [last, since] = [0, Date.now()];
  return async () => {
    const now = await look();
    if (now !== last) [last, since] = [now, Date.now()];
    return Date.now() - since > 1000 ? last : 0;
  };
}

const sha256 = (text) => createHash('sha256').update(text).digest('hex');

test('a page with addon-attach works by its address alone', async (t) => {
  const place = await begin(t, ['--auth', 'own']);
  const { page, errors, text } = await visit(place, 'attach', `/attach/?${SHELL}&proto=raw&cols=100&rows=30`);
  await until(text, PROMPT);
  await saysSize(page, text);
  await enter(page, 'echo 你好"，"世界 🌍');
  await until(text, /\n你好，世界 🌍\n/);
  // Long enough that output is cut within characters many times.
  await enter(page, 'clear; printf "世界%.0s" $(seq 30000); echo; echo wh"ole"');
  await until(text, /\nwhole\n/);
  assert.ok(!(await text()).includes('\ufffd'), 'a character is broken');

  const pasted = 'a line that is pasted, 中文\n'.repeat(MIB / 64);
  await enter(page, `clear; stty -echo; echo re"ady"; head -c ${Buffer.byteLength(pasted)} | sha256sum`);
  await until(text, /\nready\n/);
  await paste(page, pasted);
  await until(text, new RegExp(sha256(pasted)), { timeout: 60_000 });
  await enter(page, 'stty echo; exit 3');
  assert.equal(await until(() => page.evaluate(() => window.end), Boolean), '1000 exit code 3');
  await shot(page, 'clients-attach');
  assert.deepEqual(errors, []);

  const gone = await visit(place, 'attach', '/attach/?namespace=demo&pod=nosuch&proto=raw');
  assert.equal(await until(() => gone.page.evaluate(() => window.end), Boolean), '4404 pods "nosuch" not found');
});

test('Rancher\'s container shell works at its own address, with its cookie', async (t) => {
  const place = await begin(t, ['--auth', 'passthrough', '--token-cookie', 'R_SESS', '--base-path', '/k8s', '--clusters', 'demo']);
  const cookies = [{ name: 'R_SESS', value: place.tokens.execer }];
  const { page, errors, sockets, text } = await visit(place, 'rancher', '/dashboard/c/demo', { cookies });
  await until(text, PROMPT);
  await saysSize(page, text);
  await shrink(page);
  await saysSize(page, text);
  await enter(page, 'clear; echo 你好"，"世界 🌍; echo "[$TERM]"');
  await until(text, /\n你好，世界 🌍\n\[xterm-256color\]\n/);
  await enter(page, 'clear; for i in $(seq 2000); do echo "line $i of many"; done; echo wh"ole"');
  await until(text, /\nline 1999 of many\nline 2000 of many\nwhole\n/);
  await shot(page, 'clients-rancher');
  assert.ok(sockets[0].received.every((message) => typeof message === 'string'), 'text messages only');
  await enter(page, 'exit');
  assert.deepEqual(await until(() => page.evaluate(() => window.ends), Boolean), [1000]);
  assert.equal(sockets.length, 1);
  assert.deepEqual(errors, []);
  assert.ok(!place.relay.log().includes(place.tokens.execer), 'the token is in the log');
});

test('Rancher\'s container shell is told what is refused, and goes on to its next command', async (t) => {
  const bare = await begin(t, ['--auth', 'passthrough', '--token-cookie', 'R_SESS', '--base-path', '/k8s', '--clusters', 'demo'],
    '--image', 'nothing');
  const as = (user) => ({ cookies: [{ name: 'R_SESS', value: bare.tokens[user] }] });
  const first = await visit(bare, 'rancher', '/dashboard/c/demo', as('admin'));
  await until(first.text, /exec: "cmd": executable file not found in \$PATH/);
  assert.deepEqual(first.sockets.map(({ url }) => new URL(url).searchParams.get('command')), ['/bin/sh', 'cmd']);
  assert.deepEqual(await first.page.evaluate(() => window.ends), [1000, 1000]);

  const second = await visit(bare, 'rancher', '/dashboard/c/demo', as('nobody'));
  await until(second.text, /pods "shell" is forbidden: User "nobody" cannot/);
  assert.deepEqual(await second.page.evaluate(() => window.ends), [4403, 4403]);

  const third = await visit(bare, 'rancher', '/dashboard/c/demo', { ...as('admin'), init: () => { window.container = 'nope'; } });
  await until(third.text, /container nope is not valid for pod shell/);
});

test('ttyd\'s page works, and asks for another session by Enter', async (t) => {
  const place = await begin(t, ['--auth', 'own', '--base-path', '/tty']);
  const { page, errors, sockets, text } = await visit(place, 'ttyd', `/tty/?${SHELL}`);
  const seen = () => page.evaluate(() => window.seen);
  await until(text, PROMPT);
  assert.equal(await page.title(), 'shell main (demo)');
  assert.equal(String(sockets[0].sent[0]).replace(/\d+/g, 'N'), '{"AuthToken":"","columns":N,"rows":N}');
  await saysSize(page, text);
  await shrink(page);
  await saysSize(page, text);
  await enter(page, 'clear; echo 你好"，"世界 🌍');
  await until(text, /\n你好，世界 🌍\n/);

  // While the terminal lags behind a flood the page pauses; nothing is lost.
  await page.evaluate(() => {
    const write = window.term.write.bind(window.term);
    window.late = [];
    window.term.write = (data, done) => write(data, done && (() => (window.late ? window.late.push(done) : done())));
  });
  const before = (await seen()).received;
  await enter(page, `clear; yes 0123456789abcdef | head -c ${48 * MIB}; echo; echo fl"ood is over"`);
  await until(seen, ({ pauses }) => pauses > 0);
  const most = await until(settled(async () => (await seen()).received - before), Boolean);
  assert.ok(most < 16 * MIB, `${most} bytes came in a pause`);
  await page.evaluate(() => {
    const { late } = window;
    window.late = null;
    for (const done of late) done();
  });
  await until(text, /\nflood is over\n/, { timeout: 120_000 });
  const { pauses, received } = await seen();
  t.diagnostic(`${pauses} pauses, ${Math.round(most / MIB)} MiB in one`);
  assert.ok(received - before >= 48 * MIB);
  await shot(page, 'clients-ttyd');

  await enter(page, 'exit 3');
  await until(text, /\[podwire: exit code 3\]/);
  await until(seen, ({ overlay }) => overlay === 'Press ⏎ to Reconnect');
  assert.deepEqual((await seen()).ends, [1000]);
  await page.keyboard.press('Enter');
  await until(() => sockets.length, (count) => count === 2);
  await until(text, PROMPT);
  await enter(page, 'echo ag"ain"');
  await until(text, /\nagain\n/);
  assert.deepEqual(errors, []);
});

test('while ttyd\'s page pauses nothing comes, but an interrupt goes through', async (t) => {
  const place = await begin(t, ['--auth', 'own', '--base-path', '/tty']);
  const { page, text } = await visit(place, 'ttyd', `/tty/?${SHELL}`);
  const received = () => page.evaluate(() => window.seen.received);
  const say = (message) => page.evaluate((message) => window.socket.send(new TextEncoder().encode(message)), message);
  const mark = join(folder, 'interrupted');
  await until(text, PROMPT);
  await say('2');
  await say(`0sh -c "trap 'touch ${mark}; exit' INT; yes 0123456789abcdef"\r`);
  const most = await until(settled(received), (bytes) => bytes > 0);
  assert.ok(most < 8 * MIB, `${most} bytes came in a pause`);
  await say('0\x03');
  await until(() => existsSync(mark), Boolean);
  await say('3');
  await enter(page, 'echo he"re"');
  await until(text, /\nhere\n/);
});

test('ttyd\'s page begins anew where it was cut off, and not where there is nothing to begin', async (t) => {
  const place = await begin(t, ['--auth', 'own', '--base-path', '/tty']);
  const seen = (page) => () => page.evaluate(() => window.seen);
  const none = await visit(place, 'ttyd', '/tty/?namespace=demo&pod=nosuch');
  await until(none.text, /pods "nosuch" not found/);
  await until(seen(none.page), ({ overlay }) => overlay === 'Press ⏎ to Reconnect');
  assert.deepEqual((await seen(none.page)()).ends, [4404]);

  const cut = await visit(place, 'ttyd', `/tty/?${SHELL}`);
  await until(cut.text, PROMPT);
  place.cluster.kill('SIGKILL');
  // Once by itself; then there is no cluster, and it is told not to.
  await until(seen(cut.page), ({ overlay }) => overlay === 'Press ⏎ to Reconnect');
  const { ends, preferences } = await seen(cut.page)();
  assert.deepEqual(ends, [4502, 4502]);
  assert.deepEqual(preferences, [{}, { disableReconnect: true }]);
  assert.equal(cut.sockets.length, 2);
  await until(cut.text, /\[podwire: /);
});
