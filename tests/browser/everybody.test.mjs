// The page for everybody: what axe-core finds in each state, in light and dark, and the page on a phone.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import {
  complaints, connected, demoAndChromium, enter, paste, screen, shot, sockets, status, until,
} from './support.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PHONE = { viewport: { width: 390, height: 720 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
const the = demoAndChromium();

async function visit(t, parameters, options = {}) {
  const context = await the.chromium.newContext({ viewport: { width: 960, height: 540 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  const seen = { complaints: complaints(page), sockets: sockets(page) };
  const url = new URL(the.demo.address);
  if (parameters !== undefined) url.search = parameters;
  await page.goto(url.href);
  return { context, page, ...seen };
}

/** Fails with what axe-core calls serious or worse; the policy of the page lets nothing else be run. */
async function assertAccessible(page, state) {
  const found = await page.evaluate(`${AXE}; axe.run(document, { resultTypes: ['violations'] })`);
  const bad = found.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(bad.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]), [], state);
}

for (const colorScheme of ['light', 'dark']) {
  test(`nothing is in anybody's way, in ${colorScheme}`, async (t) => {
    const { page } = await visit(t, undefined, { colorScheme });
    await connected(page);
    const check = (state) => assertAccessible(page, `${colorScheme}, ${state}`);
    await check('connected');
    await page.getByRole('button', { name: 'Menu' }).click();
    await page.getByLabel('Screen reader mode').check();
    await page.getByLabel('Row of extra keys').check();
    await check('menu');
    await shot(page, `everybody-menu-${colorScheme}`);
    await page.keyboard.press('Escape');
    await page.focus('.xterm-helper-textarea');
    await enter(page, 'ls --color=always /; printf "\\033[2mdim \\033[90mgrey\\033[0m\\n"');
    await until(screen(page), /dim grey/);
    await check('screen reader mode, colours');
    await page.getByRole('button', { name: 'Search' }).click();
    await page.keyboard.type('usr');
    await until(() => page.textContent('#search-count'), /of/);
    await check('search');
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Container and shell' }).click();
    await check('another shell');
    await page.keyboard.press('Escape');
    await page.focus('.xterm-helper-textarea');
    await paste(page, 'a\nb');
    await page.getByRole('dialog', { name: /^Paste/ }).waitFor();
    await check('question');
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.focus('.xterm-helper-textarea');
    await enter(page, 'exit 3');
    await until(status(page), /exit code 3/);
    await check('ended');
    await page.goto(the.demo.address.replace('pod=shell', 'pod=nosuch'));
    await until(status(page), /not_found/);
    await check('failed');
    await page.evaluate(() => document.getElementById('login').showModal());
    await check('token');
    await page.goto(the.demo.address.replace(/\?.*/, ''));
    await page.waitForSelector('form:not([hidden])');
    await check('form');
  });
}

test('a screen reader hears the output, and what state the session is in', async (t) => {
  const { page } = await visit(t);
  await connected(page);
  await page.getByRole('button', { name: 'Menu' }).click();
  await page.getByLabel('Screen reader mode').check();
  await page.keyboard.press('Escape');
  await page.focus('.xterm-helper-textarea');
  await enter(page, 'echo sp"oken"');
  await until(() => page.textContent('.xterm-accessibility'), /spoken/);
  assert.ok(await page.locator('.xterm-accessibility [aria-live]').count() > 0);
  const region = page.getByRole('region', { name: 'Terminal' });
  assert.match(await region.getAttribute('aria-describedby'), /leave/);
  assert.equal(await page.getAttribute('#status', 'role'), 'status');
});

test('a phone has the keys that it lacks, and room above its keyboard', async (t) => {
  const { page, complaints, sockets } = await visit(t, undefined, PHONE);
  await connected(page);
  await shot(page, 'everybody-phone');
  const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide[0] <= wide[1], 'it is wider than the phone');
  const area = page.locator('.xterm-helper-textarea');
  for (const name of ['autocapitalize', 'autocorrect', 'autocomplete']) assert.equal(await area.getAttribute(name), 'off');
  assert.equal(await area.getAttribute('spellcheck'), 'false');

  const tap = (name) => page.getByRole('toolbar', { name: 'Keys' }).getByRole('button', { name, exact: true }).tap();
  await page.keyboard.type('sleep 100');
  await page.keyboard.press('Enter');
  await tap('Ctrl');
  assert.equal(await page.getByRole('button', { name: 'Ctrl' }).getAttribute('aria-pressed'), 'true');
  await page.keyboard.type('c');
  await until(screen(page), /\^C/);
  assert.equal(await page.getByRole('button', { name: 'Ctrl' }).getAttribute('aria-pressed'), 'false');
  await page.keyboard.type('echo sec"ond');
  await tap('Left');
  await page.keyboard.type('"');
  await tap('Up');
  await tap('Down');
  await tap('^C, interrupt');
  await page.keyboard.type('ech');
  await tap('Tab');
  await page.keyboard.type('ta');
  await tap('Pipe');
  await page.keyboard.type('cat');
  await page.keyboard.press('Enter');
  await until(screen(page), /\nta\n/);
  assert.equal(await page.evaluate(() => document.activeElement.className), 'xterm-helper-textarea');
  const typed = sockets[0].sent.filter((payload) => typeof payload !== 'string').map(String).join('');
  assert.match(typed, /\x03.*\x1b\[D".*\x1b\[A\x1b\[B\x03/s);

  // The keyboard takes half of what is seen.
  const rows = () => page.evaluate(() => window.podwire.term.rows);
  const before = await rows();
  await page.evaluate(() => {
    Object.defineProperty(visualViewport, 'height', { configurable: true, get: () => 360 });
    visualViewport.dispatchEvent(new Event('resize'));
  });
  await until(rows, (now) => now < before - 10);
  const { bottom } = await page.evaluate(() => document.getElementById('keys').getBoundingClientRect().toJSON());
  assert.ok(bottom <= 361, `${bottom}`);
  await shot(page, 'everybody-phone-keyboard');
  await page.evaluate(() => { delete visualViewport.height; visualViewport.dispatchEvent(new Event('resize')); });
  await until(rows, (now) => now === before);
  assert.deepEqual(complaints, []);
});

test('a finger scrolls back on a phone', async (t) => {
  const { page } = await visit(t, undefined, PHONE);
  await connected(page);
  await enter(page, 'seq 300');
  await until(screen(page), /\n300\n/);
  const top = () => page.evaluate(() => window.podwire.term.buffer.active.viewportY);
  const before = await top();
  const devtools = await page.context().newCDPSession(page);
  const touch = (type, y) => devtools.send('Input.dispatchTouchEvent', { type, touchPoints: type === 'touchEnd' ? [] : [{ x: 200, y }] });
  await touch('touchStart', 200);
  for (let y = 210; y <= 500; y += 10) await touch('touchMove', y);
  await touch('touchEnd');
  await until(top, (now) => now <= before - 10);
});

test('a phone is told in the same words how a session ended', async (t) => {
  const { page } = await visit(t, undefined, PHONE);
  await connected(page);
  await enter(page, 'exit 3');
  await until(status(page), /^Ended: exit code 3\. Press Enter to reconnect\.$/);
  await shot(page, 'everybody-phone-ended');
  await assertAccessible(page, 'phone, ended');
  await page.getByRole('button', { name: 'Reconnect' }).tap();
  await connected(page);
});

test('where motion is not wanted there is none', async (t) => {
  const { page } = await visit(t, undefined, { reducedMotion: 'reduce' });
  await connected(page);
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  assert.ok(!await page.evaluate(() => window.podwire.term.options.cursorBlink));
});
