// How sessions end before the eyes of a person at our own page: told beforehand where that can be,
// without a change to what is on the screen, and then in words that say what to do next.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  browser, complaints, connected, enter, messages, program, screen, shot, sockets, start, status, until,
} from './support.mjs';

const VIEW = { width: 960, height: 540 };
const SHELL = 'namespace=demo&pod=shell&container=main';
let folder, chromium;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'podwire-endings-'));
  chromium = await browser();
});

after(async () => {
  await chromium?.close();
  if (folder) rmSync(folder, { recursive: true });
});

/** A pretend cluster whose main container is of this image, and the relay with these flags before it. */
async function relayBefore(t, { image = 'bash', flags = [] } = {}) {
  const kubeconfig = join(folder, image);
  const begin = async (path, args) => {
    const begun = await start(path, args);
    t.after(() => begun.stop());
    return begun;
  };
  const serve = (listen) => begin(program('PODWIRE_TEST_BIN', 'podwire'),
    ['serve', '--kubeconfig', kubeconfig, '--auth', 'own', '--listen', listen, '--admin-listen', 'off',
      '--drain-delay', '1s', ...flags]);
  await begin(program('PODWIRE_TEST_FAKE_CLUSTER', 'fake-cluster'),
    ['--listen', '127.0.0.1:0', '--image', image, '--kubeconfig-out', kubeconfig]);
  return { serve, relay: await serve('127.0.0.1:0') };
}

async function visit(relay, parameters, options = {}) {
  const context = await chromium.newContext({ viewport: VIEW, ...options });
  const page = await context.newPage();
  const seen = { complaints: complaints(page), sockets: sockets(page) };
  await page.goto(`${relay.address}?${parameters}`);
  return { context, page, ...seen };
}

const notice = (page) => () => page.textContent('#notice');
const size = (page) => page.evaluate(() => [window.podwire.term.rows, window.podwire.term.cols]);

/** Waits for a notice, and asserts that it is to be seen and heard and has moved nothing. */
async function noticed(page, words, picture) {
  const before = [await size(page), await screen(page)()];
  await until(notice(page), words);
  assert.equal(await page.getAttribute('#notice', 'role'), 'status');
  assert.equal(await page.isVisible('#notice'), true);
  assert.match(await page.title(), /^\(!\) shell /);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.deepEqual([await size(page), await screen(page)()], before);
  await shot(page, picture);
}

async function gone(page) {
  await until(notice(page), /^$/);
  assert.equal(await page.isVisible('#status'), true);
  assert.match(await page.title(), /^shell /);
}

test('whoever types nothing is told, and stays by typing; whoever still types nothing is sent away', async (t) => {
  const { relay } = await relayBefore(t, { flags: ['--idle-timeout', '8s'] });
  const { context, page, complaints, sockets } = await visit(relay, SHELL);
  await connected(page);
  await enter(page, 'seq 1 40');
  await until(screen(page), /\n40\n/);
  await noticed(page, /^The session ends in \d+ s unless you type something\.$/, 'ending-idle-warning');
  await page.keyboard.type('a');
  await gone(page);
  assert.match(await status(page)(), /^Connected to demo\/shell\/main$/);

  await until(notice(page), /unless you type/);
  await until(status(page), /^Ended \(idle\)\. Nothing was typed for 8 s\. Press Enter to reconnect\.$/);
  await gone(page);
  await until(screen(page), /\n39\n40\n[^]*a\nEnded \(idle\)\./);
  assert.equal(messages(sockets[0].received, 'exit')[0].kind, 'idle');
  assert.equal(await page.isVisible('#again'), true);
  await shot(page, 'ending-idle');
  await page.getByRole('button', { name: 'Reconnect' }).click();
  await connected(page);
  assert.equal(sockets.length, 2);
  assert.deepEqual(complaints, []);
  await context.close();
  assert.equal(await relay.stop(), 0);
});

test('a session that has lasted long enough says so, on a small screen as well', async (t) => {
  const { relay } = await relayBefore(t, { flags: ['--max-session', '6s'] });
  const { context, page, complaints } = await visit(relay, SHELL, { viewport: { width: 360, height: 640 } });
  await connected(page);
  await until(notice(page), /^The session has reached its longest time and ends in \d+ s\.$/);
  await shot(page, 'ending-max-session-warning-small');
  // Typing does not avert it, and so does not take it away: whoever types looks at the line.
  await page.keyboard.type('a');
  await until(screen(page), /a$/m);
  await until(notice(page), /longest time/);
  await until(status(page), /^Ended \(max_session\)\. .*6 s\. Press Enter to reconnect\.$/);
  await gone(page);
  await shot(page, 'ending-max-session-small');
  assert.deepEqual(complaints, []);
  await context.close();
});

test('a relay that is stopped says so first, and the page comes back when it does', async (t) => {
  const { relay, serve } = await relayBefore(t);
  const { context, page, sockets } = await visit(relay, SHELL, { colorScheme: 'dark' });
  await connected(page);
  await enter(page, 'seq 1 40');
  await until(screen(page), /\n40\n/);
  relay.kill('SIGTERM');
  await noticed(page, /^The relay is being stopped\.$/, 'ending-drain-notice-dark');
  await until(status(page), /^Ended \(drain\)\. The relay is being stopped\. Press Enter to reconnect\.$/);
  await gone(page);
  await shot(page, 'ending-drain-dark');
  assert.equal(await relay.ended, 0, relay.log());
  const [exit] = messages(sockets[0].received, 'exit');
  assert.deepEqual([exit.kind, exit.retry], ['drain', true]);

  await serve(new URL(relay.address).host);
  await page.keyboard.press('Enter');
  await connected(page);
  assert.equal(sockets.length, 2);
  await context.close();
});

test('a shell that is killed in the middle of a full screen leaves a page that can be read', async (t) => {
  const { relay } = await relayBefore(t);
  const { context, page, complaints, sockets } = await visit(relay, SHELL);
  await connected(page);
  await enter(page, 'echo "pid=$$"; echo before');
  const [, pid] = /\npid=(\d+)\nbefore\n/.exec(await until(screen(page), /\npid=\d+\nbefore\n/));
  await enter(page, `printf '\\033[?1049h\\033[?1003h\\033[7m%s\\033[?25l\\033]0;' 'a full screen'; read x`);
  await until(screen(page), /a full screen/);
  process.kill(Number(pid), 'SIGKILL');
  await until(status(page), /^Ended: exit code 137\. Press Enter to reconnect\.$/);
  await until(screen(page), /\nbefore\n[^]*\nEnded: exit code 137\./);
  assert.equal(messages(sockets[0].received, 'exit')[0].exitCode, 137);
  await shot(page, 'ending-killed');
  await page.keyboard.press('Enter');
  await connected(page);
  await enter(page, 'exit');
  await until(status(page), /^Ended: exit code 0\. /);
  assert.deepEqual(complaints, []);
  await context.close();
});

test('where there is no shell, there is a command to copy', async (t) => {
  const { relay } = await relayBefore(t, { image: 'nothing' });
  const { context, page, complaints, sockets } = await visit(relay, SHELL);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await until(status(page), /^Ended \(no_shell\)\. No shell found\.$/);
  await until(screen(page), /try: kubectl debug/);
  const command = 'kubectl debug -it shell -n demo --image=busybox --target=main';
  assert.equal(await page.getByLabel('Try', { exact: true }).inputValue(), command);
  assert.equal(await page.isVisible('#again'), false);
  await shot(page, 'ending-no-shell');
  await page.getByRole('button', { name: 'Copy' }).click();
  await until(() => page.textContent('#copy'), /^Copied$/);
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
  assert.match(messages(sockets[0].received, 'exit')[0].message, /try: kubectl debug/);
  assert.deepEqual(complaints, []);
  await context.close();
});

test('a Windows container has its shells among the choices', async (t) => {
  const { relay } = await relayBefore(t, { image: 'windows' });
  const { context, page, complaints } = await visit(relay, 'namespace=demo');
  await page.getByLabel('Pod', { exact: true }).fill('shell');
  await page.getByLabel('Container', { exact: true }).fill('main');
  const shells = await page.getByLabel('Shell', { exact: true }).locator('option').allTextContents();
  assert.deepEqual(shells.slice(1), ['bash', 'sh', 'ash', 'powershell.exe', 'cmd.exe']);
  await page.getByLabel('Shell', { exact: true }).selectOption('cmd.exe');
  await page.getByRole('button', { name: 'Connect' }).click();
  await until(screen(page), /C:\\>/);
  await enter(page, 'exit 3');
  await until(status(page), /^Ended: exit code 3\./);
  assert.deepEqual(complaints, []);
  await context.close();
});
