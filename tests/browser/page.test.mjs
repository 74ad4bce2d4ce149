// A person's steps with our own page, against the demo: a pretend cluster with real shells, the relay
// and the page, as `cargo run --example demo` starts them.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import {
  complaints, connected, demoAndChromium, enter, messages, screen, shot, sockets, status, until,
} from './support.mjs';

const VIEW = { width: 960, height: 540 };
const the = demoAndChromium();

const size = (page) => page.evaluate(() => ({ rows: window.podwire.term.rows, cols: window.podwire.term.cols }));

/** A new page at the demo's address with other parameters, or as the demo printed it. */
async function visit(parameters, options = {}) {
  const context = await the.chromium.newContext({ viewport: VIEW, ...options });
  const page = await context.newPage();
  const seen = { complaints: complaints(page), sockets: sockets(page) };
  const url = new URL(the.demo.address);
  if (parameters !== undefined) url.search = parameters;
  const response = await page.goto(url.href);
  return { context, page, response, ...seen };
}

test('a shell: size, characters, resize, exit code, again', async () => {
  const { context, page, response, complaints, sockets } = await visit();
  assert.equal(response.status(), 200);
  const headers = response.headers();
  assert.match(headers['content-security-policy'], /default-src 'none'.*script-src 'self'.*frame-ancestors/);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['referrer-policy'], 'no-referrer');
  await connected(page);

  const before = await size(page);
  await enter(page, 'stty size; echo 你好');
  await until(screen(page), new RegExp(`\\n${before.rows} ${before.cols}\\n你好\\n`));
  const asked = new URL(sockets[0].url).searchParams;
  assert.deepEqual([asked.get('rows'), asked.get('cols')], [String(before.rows), String(before.cols)]);
  await shot(page, 'page-connected');

  await page.setViewportSize({ width: 640, height: 400 });
  await until(() => size(page), (now) => now.rows < before.rows && now.cols < before.cols);
  const now = await size(page);
  await enter(page, `until [ "$(stty size)" = "${now.rows} ${now.cols}" ]; do sleep 0.05; done; stty size | tr ' ' x`);
  await until(screen(page), new RegExp(`\\n${now.rows}x${now.cols}\\n`));
  await shot(page, 'page-resized');

  await enter(page, 'exit 3');
  await until(status(page), /exit code 3/);
  await until(screen(page), /exit code 3.*Press Enter/);
  assert.equal(await page.getAttribute('body', 'data-state'), 'ended');
  const [exit] = messages(sockets[0].received, 'exit');
  assert.equal(exit.kind, 'exit');
  assert.equal(exit.exitCode, 3);
  await shot(page, 'page-ended');

  await page.keyboard.press('Enter');
  await connected(page);
  assert.equal(sockets.length, 2);
  await enter(page, 'exit');
  await until(status(page), /exit code 0/);
  assert.deepEqual(complaints, []);
  await context.close();
});

test('a paste of 1 MiB arrives whole', async () => {
  const { context, page, complaints } = await visit();
  await connected(page);
  const alphabet = [...'abcdefghijklmnopqrstuvwxyz0123456789 你好世界éü'];
  let text = '';
  for (let at = 0; at < 700_000; at += 1) text += alphabet[(at * 7919 + (at >> 5)) % alphabet.length];
  text += 'x'.repeat(1024 * 1024 - Buffer.byteLength(text));
  const hash = createHash('sha256').update(text).digest('hex');

  // Raw, as a line that is edited takes 4 KiB at most. The marker is spelled in two parts, so that what
  // is typed is not taken for what is printed.
  await enter(page, 'stty raw -echo; printf "go%s\\r\\n" ing; head -c 1048576 | sha256sum; stty sane');
  await until(screen(page), /\ngoing\n/);
  await page.evaluate((text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData('text/plain', text);
    document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
  }, text);
  await until(screen(page), /[0-9a-f]{64} {2}-/);
  assert.match(await screen(page)(), new RegExp(hash));
  assert.deepEqual(complaints, []);
  await context.close();
});

test('a flood arrives whole and is acknowledged to the last byte', async () => {
  const { context, page, sockets } = await visit();
  await connected(page);
  await enter(page, 'seq -w 400000; echo a"ll"');
  await until(screen(page), /\n399999\n400000\nall\n/);
  const received = () => sockets[0].received.filter((payload) => typeof payload !== 'string')
    .reduce((sum, payload) => sum + payload.length, 0);
  assert.ok(received() > 400_000 * 8);
  await until(() => messages(sockets[0].sent, 'ack').at(-1)?.bytes, (bytes) => bytes === received());

  // An interrupt gets through while output floods.
  await enter(page, 'yes');
  await until(screen(page), /\ny\ny\ny\n/);
  await page.keyboard.press('Control+c');
  await enter(page, 'echo he"re"');
  await until(screen(page), /\nhere\n/);
  await context.close();
});

test('a command without a TTY: lines, end of input, stderr, exit code', async () => {
  const command = ['sh', '-c', 'cat; echo oops 你 >&2; exit 4'].map((word) => `&command=${encodeURIComponent(word)}`).join('');
  const { context, page, complaints } = await visit(`ns=demo&pod=shell&tty=false${command}`);
  await until(status(page), /^Connected/);
  await enter(page, 'hello');
  await until(screen(page), /hello\nhello\n/);
  await page.keyboard.press('Control+d');
  await until(screen(page), /hello\nhello\noops 你\n.*exit code 4/);
  await until(status(page), /exit code 4/);
  await shot(page, 'page-no-tty');
  assert.deepEqual(complaints, []);
  await context.close();
});

test('without a pod there is a form, and it connects', async () => {
  const { context, page, complaints } = await visit('', { colorScheme: 'dark' });
  await page.waitForSelector('form:not([hidden])');
  await shot(page, 'page-form-dark');
  await page.getByLabel('Namespace', { exact: true }).fill('demo');
  await page.getByLabel('Pod', { exact: true }).fill('shell');
  await page.getByLabel('Container', { exact: true }).fill('main');
  await page.getByLabel('Shell', { exact: true }).selectOption('bash');
  await page.getByRole('button', { name: 'Connect' }).click();
  await connected(page);
  assert.match(page.url(), /\?namespace=demo&pod=shell&container=main&shell=bash$/);
  await until(status(page), /^Connected to demo\/shell\/main/);
  await enter(page, 'echo "[${BASH_VERSION%%.*}]"');
  await until(screen(page), /\n\[[0-9]+\]\n/);
  await shot(page, 'page-connected-dark');
  assert.deepEqual(complaints, []);
  await context.close();
});

test('a pod that is not there is told in words, without a reconnect that cannot help', async () => {
  const { context, page } = await visit('namespace=demo&pod=nosuch');
  await until(status(page), /^Ended \(not_found\)\. .*nosuch/);
  assert.equal(await page.getAttribute('body', 'data-state'), 'failed');
  assert.equal(await page.isVisible('#again'), false);
  assert.equal(await page.isVisible('#other'), true);
  await shot(page, 'page-not-found');
  await context.close();
});

test('when the relay ends, the page says so, and the demo has ended cleanly', async () => {
  const { context, page } = await visit();
  await connected(page);
  assert.equal(await the.demo.stop(), 0, the.demo.log());
  await until(status(page), /^Ended \(.*Press Enter to reconnect\.$/);
  await page.keyboard.press('Enter');
  await until(status(page), /^Ended \(no connection\)/);
  await shot(page, 'page-no-relay');
  await context.close();
});
