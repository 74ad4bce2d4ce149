// The example of web/README.md in a real browser: another page of the relay's origin, which brings the
// module and xterm.js, and nothing of the terminal page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { complaints, demoAndChromium, enter, shot, until } from './support.mjs';

const read = (name) => readFileSync(new URL(`../../web/${name}`, import.meta.url), 'utf8');
const EXAMPLE = /```js\n([^]*?)```/.exec(read('README.md'))[1];
const the = demoAndChromium();

test('the example of the module works in a page of somebody\'s own', async (t) => {
  const base = the.demo.address.replace(/\?.*/, '');
  const imports = { '@xterm/xterm': `${base}assets/any/xterm.mjs`, podwire: './podwire.js', 'podwire/addon': './podwire-addon.js' };
  const files = {
    '': ['text/html', `<!doctype html><title>Mine</title><link rel="icon" href="data:,">
      <link rel="stylesheet" href="${base}assets/any/podwire-page.css"><script type="importmap">${JSON.stringify({ imports })}</script>
      <body><main><div id="terminal"></div></main><script type="module" src="example.js"></script>`],
    'example.js': ['text/javascript', `${EXAMPLE.replace('https://relay.example/', base)}; window.term = term;`],
    'podwire.js': ['text/javascript', read('podwire.js')],
    'podwire-addon.js': ['text/javascript', read('podwire-addon.js')],
  };
  const context = await the.chromium.newContext({
    viewport: { width: 960, height: 540 },
    // A page that the test answers for has no address, and Chromium asks before such a page may reach loopback.
    permissions: ['local-network-access'],
  });
  t.after(() => context.close());
  const page = await context.newPage();
  const list = complaints(page);
  await page.route(`${base}mine/**`, (route) => {
    const [contentType, body] = files[new URL(route.request().url()).pathname.split('/').at(-1)];
    return route.fulfill({ contentType, body });
  });
  await page.goto(`${base}mine/`);
  const text = () => page.evaluate(() => Array.from({ length: window.term?.buffer.active.length ?? 0 },
    (_, at) => window.term.buffer.active.getLine(at).translateToString(true)).join('\n'));
  await until(text, /[#$] *\n*$/);
  await page.click('#terminal');
  await enter(page, 'echo 你"好"; stty size; exit 7');
  await until(text, /\n你好\n24 80\n[^]*\nexit code 7\n/);
  await shot(page, 'module-example');
  assert.deepEqual(list, []);
});
