// How the page gets to where it is looked at, and what it is allowed: a relay that wants a token, a base
// path, a gateway that strips one, policies, and how much is loaded.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, request as ask } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  browser, complaints, connected, enter, messages, program, screen, shot, sockets, start, status, until,
} from './support.mjs';

const VIEW = { width: 960, height: 540 };
const SHELL = 'namespace=demo&pod=shell&container=main';
let folder, chromium, cluster, kubeconfig, tokens;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'podwire-access-'));
  kubeconfig = join(folder, 'kubeconfig');
  cluster = await start(program('PODWIRE_TEST_FAKE_CLUSTER', 'fake-cluster'),
    ['--listen', '127.0.0.1:0', '--kubeconfig-out', kubeconfig]);
  tokens = [...readFileSync(kubeconfig, 'utf8').matchAll(/"?token"?:\s*"?([^\s",}]+)/g)].map(([, token]) => token);
  chromium = await browser();
});

after(async () => {
  await chromium?.close();
  await cluster?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

async function relayWith(t, ...flags) {
  const named = flags.includes('--kubeconfig') ? [] : ['--kubeconfig', kubeconfig];
  const relay = await start(program('PODWIRE_TEST_BIN', 'podwire'),
    ['serve', ...named, '--listen', '127.0.0.1:0', '--admin-listen', 'off', '--drain-delay', '0s', ...flags]);
  t.after(() => relay.stop());
  return relay;
}

async function visit(t, address, options = {}) {
  const context = await chromium.newContext({ viewport: VIEW, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  const seen = { complaints: complaints(page), sockets: sockets(page) };
  seen.response = await page.goto(address);
  return { context, page, ...seen };
}

/** One request without a browser: status, headers, bytes as they came. */
const get = (address, headers = {}) => new Promise((resolve, reject) => {
  ask(address, { headers }, (answer) => {
    const parts = [];
    answer.on('data', (part) => parts.push(part));
    answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
  }).on('error', reject).end();
});

/** A relay under `passthrough` tells whoever brings no token; one that cannot tell is helped. */
async function tellUnauthorized(page) {
  await page.route('**/api/v1/namespaces/**', async (route) => {
    const answer = await route.fetch().catch(() => null); // the test has ended
    if (!answer) return route.abort().catch(() => {});
    if (answer.status() !== 404) return route.fulfill({ response: answer });
    return route.fulfill({ status: 401, json: { message: 'a bearer token is needed' } });
  });
}

test('a token is asked for, kept in memory alone, and not needed again for the next shell', async (t) => {
  const relay = await relayWith(t, '--auth', 'passthrough');
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  const opened = sockets(page);
  await tellUnauthorized(page);
  await page.goto(`${relay.address}?${SHELL}`);
  const login = page.getByRole('dialog', { name: 'A token is needed' });
  await login.waitFor();
  await until(status(page), /^Ended \(unauthorized\)\. This relay needs a bearer token\. Give it a token/);
  await shot(page, 'access-token');

  await page.getByLabel('Bearer token').fill('not-one-that-is-known');
  await page.getByRole('button', { name: 'Connect' }).last().click();
  await until(status(page), /^Ended \(unauthorized\)\./);
  await login.waitFor();
  assert.equal(await page.getByLabel('Bearer token').inputValue(), '');
  await page.keyboard.press('Escape');
  await until(() => page.isVisible('#again'), (visible) => visible);
  await page.getByRole('button', { name: 'Reconnect' }).click();
  await login.waitFor();

  await page.getByLabel('Bearer token').fill(` Bearer ${tokens[0]}\n`);
  await page.getByRole('button', { name: 'Connect' }).last().click();
  await connected(page);
  await enter(page, 'exit');
  await until(status(page), /^Ended: exit code 0\./);
  await page.keyboard.press('Enter');
  await connected(page);
  await page.getByRole('button', { name: 'Container and shell' }).click();
  await page.getByRole('button', { name: 'Open here' }).click();
  await until(status(page), /^Connected/);

  const everywhere = await page.evaluate(() => [document.documentElement.outerHTML, location.href, document.cookie,
    JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), JSON.stringify(history.state),
    ...Array.from(document.querySelectorAll('input, textarea'), (field) => field.value)].join('\n'));
  assert.ok(!everywhere.includes(tokens[0]), 'the token is to be seen');
  assert.ok(opened.every(({ url }) => !url.includes(tokens[0])));
  assert.ok(!relay.log().includes(tokens[0]));
});

test('whoever may not is told what is missing, and asked for no other token', async (t) => {
  const relay = await relayWith(t, '--auth', 'passthrough');
  const { page } = await visit(t, `${relay.address}?${SHELL}`, { extraHTTPHeaders: { authorization: `Bearer ${tokens.at(-1)}` } });
  await until(status(page), /^Ended \(forbidden\)\. /);
  assert.match(await page.getByLabel('To grant it').inputValue(), /^kubectl create role .*pods\/exec && kubectl create rolebinding .*--user=nobody$/);
  assert.equal(await page.getByRole('dialog').count(), 0);
  assert.equal(await page.isVisible('#again'), false);
  await shot(page, 'access-forbidden');
});

test('too many sessions, names that are none, and a cluster that is gone are told in words', async (t) => {
  const alone = join(folder, 'alone');
  const gone = await start(program('PODWIRE_TEST_FAKE_CLUSTER', 'fake-cluster'), ['--listen', '127.0.0.1:0', '--kubeconfig-out', alone]);
  t.after(() => gone.stop());
  const relay = await relayWith(t, '--auth', 'own', '--max-sessions', '1', '--kubeconfig', alone);
  const { page: first } = await visit(t, `${relay.address}?${SHELL}`);
  await connected(first);
  const { page } = await visit(t, `${relay.address}?${SHELL}`);
  await until(status(page), /^Ended \(limit\)\. .* try again later\. Press Enter to reconnect\.$/);
  await shot(page, 'access-limit');
  await page.goto(`${relay.address}?namespace=No_Name&pod=shell`);
  await until(status(page), /^Ended \(bad_request\)\. .* Look at the names in the address\.$/);
  await enter(first, 'exit');
  await until(status(first), /^Ended: exit code 0\./);
  await gone.stop();
  await page.goto(`${relay.address}?${SHELL}`);
  await until(status(page), /^Ended \(cluster_unreachable\)\. .* Press Enter to reconnect\.$/);
  await shot(page, 'access-unreachable');
});

for (const [scheme, name] of [['light', ''], ['dark', '-dark']]) {
  test(`a connection that nobody answers is told, and Enter tries again, ${scheme}`, async (t) => {
    const relay = await relayWith(t, '--auth', 'own');
    const { page } = await visit(t, `${relay.address}?${SHELL}`, { colorScheme: scheme });
    await connected(page);
    relay.kill('SIGKILL');
    await until(status(page), /^Ended \(connection lost\)\. .*Press Enter to reconnect\.$/);
    await page.keyboard.press('Enter');
    await until(status(page), /^Ended \(no connection\)\. The relay cannot be reached\. Press Enter to reconnect\.$/);
    await shot(page, `access-no-relay${name}`);
  });
}

test('a connecting page says so, and what is typed meanwhile is not lost', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  let go;
  const gone = new Promise((resolve) => { go = resolve; });
  await page.routeWebSocket(/\/exec\?/, async (socket) => { await gone; socket.connectToServer(); });
  await page.goto(`${relay.address}?${SHELL}&shell=bash`);
  await until(status(page), /^Connecting to demo\/shell\/main…$/);
  await page.keyboard.type('echo ear"ly"\n');
  await shot(page, 'access-connecting');
  go();
  await until(screen(page), /\nearly\n/);
});

test('who is recorded sees that all the time', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.routeWebSocket(/\/exec\?/, (socket) => {
    const cluster = socket.connectToServer();
    cluster.onMessage((message) => {
      socket.send(message);
      if (String(message).startsWith('{"type":"ready"')) {
        socket.send(JSON.stringify({ type: 'notice', kind: 'recording', message: 'this session is recorded' }));
      }
    });
  });
  await page.goto(`${relay.address}?${SHELL}`);
  await connected(page);
  await until(() => page.textContent('#recorded'), /^Recorded$/);
  assert.equal(await page.getAttribute('#recorded', 'title'), 'this session is recorded');
  assert.match(await status(page)(), /^Connected/);
  await enter(page, 'clear');
  await page.getByRole('button', { name: 'Menu' }).click();
  await page.keyboard.press('Escape');
  assert.equal(await page.isVisible('#recorded'), true);
  await shot(page, 'access-recorded');
  await page.focus('.xterm-helper-textarea');
  await enter(page, 'exit');
  await until(() => page.textContent('#recorded'), /^$/);
});

test('the time to the relay and back is shown', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const { page, sockets } = await visit(t, `${relay.address}?${SHELL}`);
  await until(() => page.textContent('#trip'), /^\d+ ms$/);
  assert.equal(messages(sockets[0].received, 'pong').length, 1);
});

test('a connection that is dead without a word is seen to be', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.clock.install();
  let isDead = false;
  await page.routeWebSocket(/\/exec\?/, (socket) => {
    const onward = socket.connectToServer();
    socket.onMessage((message) => { if (!isDead) onward.send(message); });
  });
  await page.goto(`${relay.address}?${SHELL}`);
  await until(status(page), /^Connected/);
  isDead = true;
  await page.clock.runFor(25_000);
  await until(() => page.textContent('#trip'), /^no answer for \d+ s$/);
  isDead = false;
  await page.clock.runFor(10_000);
  await until(() => page.textContent('#trip'), /^\d+ ms$/);
});

test('after a minute without an answer another session is offered, and taken back if one comes', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.clock.install();
  let [isDead, opened] = [false, 0];
  const waiting = []; // as in a connection that breaks: nothing is lost until it is given up
  await page.routeWebSocket(/\/exec\?/, (socket) => {
    opened += 1;
    const onward = socket.connectToServer();
    socket.onMessage((message) => { if (isDead) waiting.push(() => onward.send(message)); else onward.send(message); });
  });
  await page.goto(`${relay.address}?${SHELL}`);
  await connected(page);
  const offered = () => page.isVisible('#again');
  const trip = () => page.textContent('#trip');
  isDead = true;
  await page.clock.runFor(40_000);
  await until(trip, /^no answer for \d+ s$/);
  assert.equal(await offered(), false);
  await page.clock.runFor(40_000);
  await until(offered, (is) => is);
  await page.keyboard.press('Enter');
  isDead = false;
  for (const send of waiting.splice(0)) send();
  await until(trip, /^\d+ ms$/);
  assert.deepEqual([await offered(), opened, await status(page)()], [false, 1, 'Connected to demo/shell/main']);

  await enter(page, "printf '\\033[?1049h\\033[?1000hfu''ll'; read x");
  await until(screen(page), /full/);
  isDead = true;
  await page.clock.runFor(90_000);
  await until(offered, (is) => is);
  await shot(page, 'access-no-answer');
  isDead = false;
  await page.getByRole('button', { name: 'Reconnect' }).click();
  await until(screen(page), /\nLeft without an answer\.\n/);
  await connected(page);
  assert.deepEqual([opened, await offered()], [2, false]);
  assert.equal(await page.evaluate(() => window.podwire.term.modes.mouseTrackingMode), 'none');
  await enter(page, 'exit 3');
  await until(status(page), /^Ended: exit code 3\./);
  assert.equal(await offered(), true);
});

test('a deep link has container, shell, command and the aliases of names', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const { page } = await visit(t, `${relay.address}?ns=demo&podName=shell&containerName=side&shell=sh&cluster=demo`);
  await until(status(page), /^Connected to demo\/shell\/side on demo$/);
  await page.goto(`${relay.address}?ns=demo&name=shell&container=main&command=sh&command=-c&command=echo+%27a%26b%27%3B+exit+5`);
  await until(status(page), /^Ended: exit code 5\./);
  assert.match(await screen(page)(), /\na&b\n/);
  await page.goto(`${relay.address}?ns=demo&namespace=demo&pod=shell`);
  await until(status(page), /^Ended \(/);
});

test('a ticket opens one session, and is nowhere to be seen afterwards', async (t) => {
  const relay = await relayWith(t, '--auth', 'passthrough,ticket');
  const ask = await fetch(`${relay.address}tickets?${SHELL}`, { method: 'POST', headers: { authorization: `Bearer ${tokens[0]}` } });
  const { ticket } = await ask.json();
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  const opened = sockets(page);
  await page.goto(`${relay.address}?token=of-old-times&${SHELL}&ticket=${ticket}&else=x`);
  await connected(page);
  assert.equal(page.url(), `${relay.address}?${SHELL}`);
  assert.equal(new URL(opened[0].url).searchParams.get('ticket'), ticket);
  assert.doesNotMatch(opened[0].url, /token|else/);

  await page.getByRole('button', { name: 'Container and shell' }).click();
  const [tab] = await Promise.all([context.waitForEvent('page'), page.getByRole('button', { name: 'In a new tab' }).click()]);
  await tab.getByRole('dialog', { name: 'A token is needed' }).waitFor();
  assert.equal(tab.url(), `${relay.address}?${SHELL}`);

  await enter(page, 'exit');
  await until(status(page), /^Ended: exit code 0\./);
  await page.keyboard.press('Enter');
  await page.getByRole('dialog', { name: 'A token is needed' }).waitFor();
  assert.doesNotMatch(opened[1].url, /ticket/);
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'Other container' }).click();
  assert.doesNotMatch(page.url(), /ticket|token|else/);
  // The page loads itself anew there; a context that is closed under a page that loads is never closed.
  await Promise.all([page.waitForEvent('load'), page.goBack()]);
  await page.getByRole('dialog', { name: 'A token is needed' }).waitFor();
  assert.equal(page.url(), `${relay.address}?${SHELL}`);
});

test('a command can be given without input and without output', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const command = ['sh', '-c', 'cat; echo out; echo err >&2; exit 6'].map((word) => `&command=${encodeURIComponent(word)}`).join('');
  const { page, sockets } = await visit(t, `${relay.address}?${SHELL}&tty=false&stdin=false&stdout=false${command}`);
  await until(status(page), /^Ended: exit code 6\./);
  assert.match(await screen(page)(), /^\nerr\n/);
  assert.match(sockets[0].url, /&tty=false&stdin=false&stdout=false&/);
});

test('under a base path everything works, and with the slash forgotten, too', async (t) => {
  const relay = await relayWith(t, '--auth', 'own', '--base-path', '/deep/er/terminal');
  for (const slash of ['/', '']) {
    const { page, complaints } = await visit(t, `${relay.address.replace(/\/$/, slash)}?${SHELL}`);
    await connected(page);
    assert.match(page.url(), /\/deep\/er\/terminal\/\?/);
    assert.deepEqual(complaints, []);
  }
});

test('behind a gateway that strips a prefix everything works', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const port = new URL(relay.address).port;
  const gateway = createServer((request, response) => {
    const path = request.url.replace(/^\/apps\/shell/, '');
    if (path === request.url) { response.writeHead(404).end(); return; }
    const passed = ask({ port, path, method: request.method, headers: { ...request.headers, host: `127.0.0.1:${port}` } },
      (answer) => { response.writeHead(answer.statusCode, answer.headers); answer.pipe(response); });
    request.pipe(passed);
  });
  gateway.on('upgrade', (request, socket) => {
    const path = request.url.replace(/^\/apps\/shell/, '');
    const headers = { ...request.headers, host: `127.0.0.1:${port}`, origin: `http://127.0.0.1:${port}` };
    const passed = ask({ port, path, headers });
    passed.on('upgrade', (answer, onward, first) => {
      const lines = answer.rawHeaders.reduce((text, part, at) => text + part + (at % 2 ? '\r\n' : ': '), '');
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`);
      socket.write(first);
      socket.on('error', () => onward.destroy()).pipe(onward).on('error', () => socket.destroy()).pipe(socket);
    });
    passed.end();
  });
  await new Promise((resolve) => { gateway.listen(0, '127.0.0.1', resolve); });
  t.after(() => { gateway.closeAllConnections(); gateway.close(); });
  const { page, complaints } = await visit(t, `http://127.0.0.1:${gateway.address().port}/apps/shell/?${SHELL}`);
  await connected(page);
  await enter(page, 'echo thr"ough"');
  await until(screen(page), /\nthrough\n/);
  assert.deepEqual(complaints, []);
});

test('a cold cache takes 100 KB in one round of requests, and a warm one asks for the page alone', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const context = await chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  const asked = [];
  page.on('response', async (response) => {
    const at = asked.push({ url: response.url() }) - 1;
    const { responseBodySize, responseHeadersSize } = await response.request().sizes();
    Object.assign(asked[at], { bytes: responseBodySize, head: responseHeadersSize, initiator: response.request().resourceType() });
  });
  await page.goto(`${relay.address}?${SHELL}`);
  await connected(page);
  await until(() => asked.every(({ bytes }) => bytes !== undefined), (all) => all);
  const parts = asked.filter(({ url }) => url.startsWith('http'));
  assert.equal(parts.length, 4, JSON.stringify(parts));
  const sum = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  t.diagnostic(`${sum} bytes in ${parts.length} requests`);
  assert.ok(sum <= 100_000, `${sum}`);
  // Each is named by the page itself, so none waits for another.
  const html = await (await page.request.get(relay.address)).text();
  for (const { url } of parts.slice(1)) assert.ok(html.includes(url.slice(relay.address.length)), url);

  const again = await context.newPage();
  const second = [];
  again.on('response', (response) => { if (response.url().startsWith('http')) second.push([response.status(), response.url()]); });
  await again.goto(`${relay.address}?${SHELL}`);
  await connected(again);
  const timing = await again.evaluate(() => performance.getEntriesByType('resource').filter(({ transferSize }) => transferSize > 0).length);
  assert.equal(timing, 0, 'assets came over the network again');
});

test('whoever takes no brotli gets gzip, whoever takes neither the page as it is, and tags tell them apart', async (t) => {
  const relay = await relayWith(t, '--auth', 'own');
  const [path] = /assets\/[0-9a-f]+\/xterm\.mjs/.exec((await get(relay.address)).body);
  const encodings = [['gzip, deflate, br, zstd', 'br'], ['gzip, deflate', 'gzip'], ['gzip;q=1, br;q=0', 'gzip'], ['identity', undefined], ['', undefined]];
  const tags = new Set();
  for (const [accepted, encoding] of encodings) {
    const answer = await get(relay.address, { 'accept-encoding': accepted });
    assert.equal(answer.headers['content-encoding'], encoding, accepted);
    assert.equal(answer.headers.vary, 'accept-encoding');
    tags.add(answer.headers.etag);
    const same = await get(relay.address, { 'accept-encoding': accepted, 'if-none-match': answer.headers.etag });
    assert.deepEqual([same.status, same.body.length], [304, 0], accepted);
    const asset = await get(relay.address + path, { 'accept-encoding': accepted });
    assert.equal(asset.headers['content-encoding'], encoding ?? 'gzip');
    assert.equal(asset.headers['cache-control'], 'public, max-age=31536000, immutable');
    assert.equal(asset.headers['x-content-type-options'], 'nosniff');
  }
  assert.equal(tags.size, 3);
});

test('the page runs nothing but what comes with it, and only named pages may frame it', async (t) => {
  const friend = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end(`<iframe src="${relay.address}" width=800 height=400></iframe>`);
  });
  await new Promise((resolve) => { friend.listen(0, '127.0.0.1', resolve); });
  t.after(() => { friend.closeAllConnections(); friend.close(); });
  const own = `http://127.0.0.1:${friend.address().port}`;
  let relay = await relayWith(t, '--auth', 'own');
  const policy = (await get(relay.address)).headers['content-security-policy'];
  assert.equal(policy, "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    + "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'");
  const html = String((await get(relay.address)).body);
  assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style|https?:\/\/(?!www\.w3\.org)/);

  const framed = async () => {
    const { page } = await visit(t, own);
    return page.frames()[1].evaluate(() => document.title).catch(() => 'refused');
  };
  assert.notEqual(await framed(), 'Podwire');
  relay = await relayWith(t, '--auth', 'own', '--frame-ancestors', own);
  assert.equal(await framed(), 'Podwire');
});
