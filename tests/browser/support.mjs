// What the test files need: programs that say `ready`, a Chromium, and the text of a terminal.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');

/** The program's path: what the environment says, else the release build. */
export function program(variable, built) {
  const path = process.env[variable] ?? join(TARGET, 'release', built);
  if (!existsSync(path)) throw new Error(`${path} does not exist: build it, or name it in ${variable}`);
  return path;
}

/** Starts a program and waits for its `ready ADDRESS`. */
export async function start(path, args) {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { log = (log + text).slice(-20000); });
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve(String(error)));
    child.once('exit', (code, signal) => resolve(signal ?? code));
  });
  const address = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const ready = /^ready (\S+)/.exec(line);
      if (ready) resolve(ready[1]);
    });
  });
  const late = deadline(60_000, `${path} did not say ready`);
  try {
    const first = await Promise.race([address, ended.then((how) => ({ how })), late.passed]);
    if (typeof first !== 'string') throw new Error(`${path} ended (${first.how}) before it was ready:\n${log}`);
    return {
      address: first, ended, log: () => log, kill: (signal) => child.kill(signal), stop: () => stop(child, ended),
    };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    late.cancel();
  }
}

/** Ends a program as Ctrl-C does; answers its exit code. */
async function stop(child, ended) {
  child.kill('SIGINT');
  const late = deadline(40_000, `${child.spawnfile} did not end after SIGINT`);
  try {
    return await Promise.race([ended, late.passed]);
  } finally {
    late.cancel();
    child.kill('SIGKILL');
  }
}

function deadline(milliseconds, words) {
  let timer;
  const passed = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(words)), milliseconds);
  });
  return { passed, cancel: () => clearTimeout(timer) };
}

/** A fresh Chromium; quiet, as it would otherwise look for its makers' servers. */
export function browser() {
  const executablePath = process.env.PODWIRE_TEST_CHROMIUM ?? '/usr/bin/chromium';
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
      '--disable-background-networking', '--disable-component-update'],
  });
}

/** The demo and a fresh Chromium, there as long as a file's tests run: `const the = demoAndChromium()`. */
export function demoAndChromium() {
  const the = { demo: undefined, chromium: undefined };
  before(async () => {
    the.demo = await start(program('PODWIRE_TEST_DEMO', 'examples/demo'), ['--listen', '127.0.0.1:0']);
    the.chromium = await browser();
  });
  after(async () => {
    await the.chromium?.close();
    await the.demo?.stop();
  });
  return the;
}

/** What the page complains about: broken policies, script errors, files that do not load. */
export function complaints(page) {
  const list = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) list.push(message.text()); });
  page.on('pageerror', (error) => list.push(String(error)));
  page.on('response', (response) => { if (response.status() >= 400) list.push(`${response.status()} ${response.url()}`); });
  page.on('requestfailed', (request) => list.push(`${request.failure()?.errorText} ${request.url()}`));
  return list;
}

/** Waits until `look()` gives something that `wanted` accepts; says what it saw last if it never does. */
export async function until(look, wanted, { timeout = 30_000 } = {}) {
  const accepts = typeof wanted === 'function' ? wanted : (seen) => wanted.test(seen);
  const end = Date.now() + timeout;
  for (;;) {
    const seen = await look();
    if (accepts(seen)) return seen;
    if (Date.now() > end) throw new Error(`never saw ${wanted}, but at last:\n${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Follows the page's WebSockets: address, frames both ways, close. */
export function sockets(page) {
  const list = [];
  page.on('websocket', (socket) => {
    const seen = { url: socket.url(), sent: [], received: [], closed: false };
    list.push(seen);
    socket.on('framesent', ({ payload }) => seen.sent.push(payload));
    socket.on('framereceived', ({ payload }) => seen.received.push(payload));
    socket.on('close', () => { seen.closed = true; });
  });
  return list;
}

/** The text frames among `payloads` that are JSON messages of this type. */
export function messages(payloads, type) {
  return payloads.filter((payload) => typeof payload === 'string' && payload.startsWith('{'))
    .map((payload) => JSON.parse(payload)).filter((message) => message.type === type);
}

/** What our own page says in words. */
export const status = (page) => () => page.textContent('#status');

/** The text of our own page's terminal. */
export const screen = (page) => () => page.evaluate(() => {
  const { active } = window.podwire.term.buffer;
  let text = '';
  for (let at = 0; at < active.length; at += 1) {
    const line = active.getLine(at);
    text += (line.isWrapped ? '' : '\n') + line.translateToString(true);
  }
  return text;
});

/** Waits until our own page has a prompt. */
export async function connected(page) {
  await until(status(page), /^Connected to demo\/shell/);
  await until(screen(page), /[#$] *\n*$/); // the prompt
}

/** Types a line. */
export async function enter(page, command) {
  await page.keyboard.type(command);
  await page.keyboard.press('Enter');
}

/** Pastes a text, as a browser does. */
export const paste = (page, text) => page.evaluate((text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData('text/plain', text);
  document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
}, text);

let folder;

/** Keeps a picture for people to look at, in PODWIRE_TEST_SHOTS or a temporary folder. */
export async function shot(page, name) {
  folder ??= process.env.PODWIRE_TEST_SHOTS ?? mkdtempSync(join(tmpdir(), 'podwire-shots-'));
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${name}.png`);
  await page.screenshot({ path });
  console.log(`picture: ${path}`);
}
