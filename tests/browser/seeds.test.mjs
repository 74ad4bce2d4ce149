// The front ends of the two articles that Podwire started from, against `podwire serve` with TLS and the
// pretend cluster. Their pages come from the relay's own origin, as one of them asks for
// `window.location.host`; the test answers for the page, and only the WebSocket goes to the relay.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { articlePage } from './article-vue/build.mjs';
import { browser, messages, program, shot, sockets, start, until } from './support.mjs';

const ROUTE = '/kubemgr/api/v1/ws/{cluster}/{namespace}/{pod}/{container}/{shell}/ssh';
let folder, cluster, relay, chromium, origin, context, contextName;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'podwire-seeds-'));
  const [kubeconfig, certificate, key] = ['kubeconfig', 'tls.crt', 'tls.key'].map((name) => join(folder, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost',
    '-keyout', key, '-out', certificate], { stdio: 'pipe' });
  cluster = await start(program('PODWIRE_TEST_FAKE_CLUSTER', 'fake-cluster'),
    ['--listen', '127.0.0.1:0', '--kubeconfig-out', kubeconfig]);
  contextName = /current-context["']?:\s*["']?([^\s"',}]+)/.exec(readFileSync(kubeconfig, 'utf8'))[1];
  relay = await start(program('PODWIRE_TEST_BIN', 'podwire'),
    ['serve', '--kubeconfig', kubeconfig, '--auth', 'own', '--listen', '127.0.0.1:0', '--admin-listen', 'off',
      '--tls-cert', certificate, '--tls-key', key, '--route', ROUTE]);
  origin = `https://${new URL(relay.address).host}`;
  chromium = await browser();
  context = await chromium.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1000, height: 640 },
    // A page that the test answers for has no address, and Chromium asks before such a page may reach
    // loopback. One that really comes from the relay's origin is not asked.
    permissions: ['local-network-access'],
  });
});

after(async () => {
  await chromium?.close();
  await relay?.stop();
  await cluster?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

/** A page at the relay's origin under /console, which the test serves from `files`. */
async function visit(path, files) {
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.route(`${origin}/console/**`, (route) => {
    const name = new URL(route.request().url()).pathname.split('/').at(-1);
    const [contentType, body] = files[name] ?? files['index.html'];
    return route.fulfill({ contentType, body });
  });
  const seen = sockets(page);
  await page.goto(`${origin}/console/${path}`);
  return { page, errors, sockets: seen };
}

test('the Vue page of the first article works unchanged', async () => {
  const { script, style } = await articlePage();
  const { page, errors, sockets } = await visit(`${contextName}/terminal?namespace=demo&podname=shell&container=main`, {
    'index.html': ['text/html; charset=utf-8', `<!doctype html><link rel="stylesheet" href="/console/page.css">
      <body><div id="app"></div><script type="module" src="/console/page.js"></script></body>`],
    'page.js': ['text/javascript; charset=utf-8', script],
    'page.css': ['text/css; charset=utf-8', style],
  });
  const rows = () => page.evaluate(() => [...document.querySelectorAll('.xterm-rows > div')]
    .map((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd()).join('\n'));
  const enter = async (command) => {
    await page.keyboard.type(command);
    await page.keyboard.press('Enter');
  };
  const lastSize = (socket) => messages(socket.sent, 'resize').at(-1);

  // The prompt, and one second later the size.
  await until(rows, /[#$] *\n*$/);
  await until(() => lastSize(sockets[0]), Boolean);
  assert.equal(new URL(sockets[0].url).pathname, `/kubemgr/api/v1/ws/${contextName}/demo/shell/main/b/ssh`);
  await page.locator('.xterm').click();

  // What is typed is echoed, Chinese text is whole, bash is bash.
  await enter('echo 你好，世界 "[${BASH_VERSION%%.*}]"');
  await until(rows, /echo 你好，世界 "/);
  await until(rows, /\n你好，世界 \[[0-9]+\]\n/);
  // Long enough that what the cluster sends is cut within characters many times.
  await enter('clear; printf "世界%.0s" $(seq 30000); echo; echo wh"ole"');
  await until(rows, /(^|\n)whole\n/);
  assert.equal(sockets[0].received.join('').match(/(世界)+\r?\n/g).at(-1).replace(/\r?\n/, '').length, 60000);
  assert.ok(sockets[0].received.every((payload) => typeof payload === 'string'), 'text frames only');
  assert.ok(!sockets[0].received.join('').includes('\ufffd'), 'no broken character');

  // The size that the page sent is the shell's; so is the next one.
  const saysSize = async () => {
    const { rows: high, cols: wide } = lastSize(sockets[0]);
    await enter(`clear; until [ "$(stty size)" = "${high} ${wide}" ]; do sleep 0.05; done; stty size | tr ' ' x`);
    await until(rows, new RegExp(`(^|\\n)${high}x${wide}\\n`));
    return [high, wide];
  };
  const [, wideBefore] = await saysSize();
  await page.setViewportSize({ width: 700, height: 500 });
  await until(() => lastSize(sockets[0]).cols, (cols) => cols < wideBefore);
  await saysSize();
  await shot(page, 'article-vue');

  // The page's choice of a shell opens another session, in sh.
  await page.getByLabel('Bash').selectOption('sh');
  await until(() => sockets.length, (count) => count === 2);
  assert.match(sockets[1].url, /\/main\/s\/ssh\?/);
  await until(rows, /[#$] *\n*$/);
  await page.locator('.xterm').click();
  await enter('echo "[${BASH_VERSION%%.*}]" plain');
  await until(rows, /\n\[\] plain\n/);

  // The ending can be read.
  await enter('exit 3');
  await until(rows, /exit code 3/);
  await until(() => sockets[1].closed, Boolean);
  await shot(page, 'article-vue-ended');
  assert.deepEqual(errors, []);
  await page.close();
});

test('the messages of the second article work: text in, text out', async () => {
  const { page, errors } = await visit('plain', {
    'index.html': ['text/html; charset=utf-8', `<!doctype html><body><script>
      // xtermMessage of the article: type, input, rows, cols; the answers are text messages.
      window.text = '';
      window.kinds = new Set();
      window.end = null;
      const socket = new WebSocket('wss://' + location.host + '/exec?namespace=demo&pod=shell&container=main');
      socket.onmessage = ({ data }) => { kinds.add(typeof data); text += data; };
      socket.onclose = ({ code, reason }) => { end = code + ' ' + reason; };
      window.type = (input) => socket.send(JSON.stringify({ type: 'input', input, rows: 0, cols: 0 }));
      window.resize = (rows, cols) => socket.send(JSON.stringify({ type: 'resize', input: '', rows, cols }));
    </script></body>`],
  });
  const text = () => page.evaluate(() => window.text);
  const type = (input) => page.evaluate((input) => window.type(input), input);

  await until(text, /[#$] /);
  await type('echo 你好"，"世界\r');
  await until(text, /echo 你好"，"世界/);
  await until(text, /[\r\n]你好，世界\r\n/);
  await page.evaluate(() => window.resize(33, 111));
  await type('until [ "$(stty size)" = "33 111" ]; do sleep 0.05; done; stty size | tr " " x\r');
  await until(text, /[\r\n]33x111\r\n/);
  await type('exit 3\r');
  await until(text, /exit code 3/);
  assert.match(await until(() => page.evaluate(() => window.end), Boolean), /^1000 /);
  assert.deepEqual(await page.evaluate(() => [...window.kinds]), ['string']);
  assert.deepEqual(errors, []);
  await page.close();
});
