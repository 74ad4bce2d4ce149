// The tools beside the terminal, against the demo: what a person does with a terminal other than typing,
// and what a program in it may do to the page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  complaints, connected, demoAndChromium, enter, paste, screen, shot, sockets, status, until,
} from './support.mjs';

const VIEW = { width: 960, height: 540 };
const the = demoAndChromium();

async function visit(t, options = {}, more = '') {
  const context = await the.chromium.newContext({ viewport: VIEW, permissions: ['clipboard-read', 'clipboard-write'], ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  const seen = { complaints: complaints(page), sockets: sockets(page) };
  await page.goto(the.demo.address + more);
  await connected(page);
  return { context, page, ...seen };
}

const clipboard = (page) => () => page.evaluate(() => navigator.clipboard.readText());
const lastLine = (page) => async () => (await screen(page)()).trimEnd().split('\n').at(-1);
const menu = async (page, name) => {
  await page.getByRole('button', { name: 'Menu' }).click();
  if (name) await page.getByRole('button', { name }).click();
};

test('a key is on the screen within a blink', async (t) => {
  const { page } = await visit(t);
  const times = [];
  let typed = '';
  for (const key of 'abcdefghijklmnopqrst') {
    typed += key;
    const begun = performance.now();
    await page.keyboard.type(key);
    await until(lastLine(page), (line) => line.endsWith(typed));
    times.push(performance.now() - begun);
  }
  times.sort((a, b) => a - b);
  assert.ok(times[10] < 100, `the median of ${times.map(Math.round)} ms`);
});

test('characters of every length are typed, shown and arrive', async (t) => {
  const { page, complaints } = await visit(t);
  const text = 'é你好👍🏽👩‍💻ñ';
  await page.keyboard.insertText(`printf %s '${text}' | od -An -tx1 -v | tr -d ' \\n'; echo " "${text}`);
  await page.keyboard.press('Enter');
  const hex = Buffer.from(text).toString('hex');
  await until(screen(page), new RegExp(`\\n${hex} é你好👍🏽👩.?💻ñ\\n`));
  const widths = await page.evaluate(() => ['é', '你', '👍'].map((char) => {
    const { active } = window.podwire.term.buffer;
    for (let at = 0; at < active.length; at += 1) {
      for (let cell = 0; cell < active.getLine(at).length; cell += 1) {
        const found = active.getLine(at).getCell(cell);
        if (found.getChars().startsWith(char)) return found.getWidth();
      }
    }
    return 0;
  }));
  assert.deepEqual(widths, [1, 2, 2]);
  assert.deepEqual(complaints, []);
});

test('with a graphics card it draws by that, and without it when that goes away', async (t) => {
  const context = await the.chromium.newContext({ viewport: VIEW });
  t.after(() => context.close());
  const page = await context.newPage();
  const loaded = [];
  page.on('request', (request) => { if (/addon-webgl/.test(request.url())) loaded.push(request.url()); });
  await page.goto(the.demo.address);
  await connected(page);
  await enter(page, 'echo w"ithout"');
  await until(screen(page), /\nwithout\n/);
  assert.deepEqual(loaded, [], 'a processor that plays a card is slower');
  page.on('dialog', (dialog) => dialog.accept());
  await page.addInitScript(() => {
    const { getParameter } = WebGL2RenderingContext.prototype;
    WebGL2RenderingContext.prototype.getParameter = function (name) {
      return name === 0x9246 || name === this.RENDERER ? 'A card' : getParameter.call(this, name);
    };
  });
  await page.reload();
  await connected(page);
  await until(() => page.getAttribute('body', 'data-drawn'), (drawn) => drawn === 'webgl');
  await enter(page, 'echo w"ith 你好"');
  await until(screen(page), /\nwith 你好\n/);
  await shot(page, 'tools-webgl');
  await page.evaluate(() => {
    for (const canvas of document.querySelectorAll('#terminal canvas')) canvas.getContext('webgl2')?.getExtension('WEBGL_lose_context').loseContext();
  });
  await until(() => page.locator('#terminal .xterm-rows > div').count(), (rows) => rows > 0);
  await enter(page, 'echo ag"ain"');
  await until(() => page.textContent('#terminal .xterm-rows'), /again/);
});

test('several lines are pasted after a question, one line without', async (t) => {
  const { page, complaints } = await visit(t);
  const question = page.getByRole('dialog', { name: 'Paste 3 lines?' });
  await paste(page, 'echo o"ne"\necho t"wo"\n\n');
  await question.waitFor();
  assert.equal(await page.textContent('#question-preview'), 'echo o"ne"\necho t"wo"\n\n');
  await shot(page, 'tools-paste-question');
  await page.keyboard.press('Escape');
  await question.waitFor({ state: 'hidden' });
  await paste(page, 'echo s"ingle"\n');
  await until(lastLine(page), /echo s"ingle"|single/);
  await page.keyboard.press('Control+c');
  assert.doesNotMatch(await screen(page)(), /\none\n|\ntwo\n/);

  await paste(page, 'echo o"ne"\necho t"wo"\n\n');
  await page.getByRole('button', { name: 'Paste', exact: true }).last().click();
  await until(screen(page), /echo o"ne"\n[^]*echo t"wo"/);
  await page.keyboard.press('Enter'); // bracketed, they wait for it
  await until(screen(page), /\none\n[^]*two\n/);

  // What would end a bracketed paste from within arrives as something to be seen.
  await paste(page, 'x\x1b[201~y');
  await until(lastLine(page), /x␛\[201~y$/);
  await page.keyboard.press('Control+c');

  await menu(page);
  await page.getByLabel('Ask before pasting lines').uncheck();
  await page.keyboard.press('Escape');
  await page.focus('.xterm-helper-textarea');
  await paste(page, 'echo th"ree"\necho fo"ur"\n');
  await until(screen(page), /echo fo"ur"/);
  await page.keyboard.press('Enter');
  await until(screen(page), /\nthree\n[^]*four\n/);
  assert.deepEqual(complaints, []);
});

test('one line that ends is asked about where it would run at once', async (t) => {
  const { page, complaints } = await visit(t, {}, '&shell=sh');
  const question = page.getByRole('dialog', { name: 'Paste a whole line?' });
  for (const end of ['\n', '\r\n', '\r']) {
    await paste(page, `echo n"ot asked"${end}`);
    await question.waitFor();
    await page.keyboard.press('Escape');
    await question.waitFor({ state: 'hidden' });
  }
  await paste(page, 'echo with"out an end"');
  await until(lastLine(page), /without an end|echo with"out an end"$/);
  assert.doesNotMatch(await screen(page)(), /not asked|n"ot/);
  await page.keyboard.press('Enter');
  await until(screen(page), /\nwithout an end\n/);

  await paste(page, 'echo ask"ed"\n');
  await question.waitFor();
  await shot(page, 'tools-paste-line');
  await page.getByRole('button', { name: 'Paste', exact: true }).last().click();
  await until(screen(page), /\nasked\n/);
  assert.deepEqual(complaints, []);
});

test('control characters in a paste arrive as something to be seen, all but tabs and ends of lines', async (t) => {
  const { page, sockets, complaints } = await visit(t);
  const before = sockets[0].sent.length;
  await paste(page, 'a\x00\x03\x04\x07\x08\x0b\x0c\x0e\x15\x16\x1b[201~\x1f\x7f\x80\x9bz\u00a0é');
  await until(lastLine(page), /z\u00a0é$/);
  await page.keyboard.press('Control+c');
  await paste(page, 'cat <<E\x04\r\n\tb\nE');
  await page.getByRole('dialog', { name: 'Paste 3 lines?' }).waitFor();
  assert.equal(await page.textContent('#question-preview'), 'cat <<E␄\r\n\tb\nE');
  await page.getByRole('button', { name: 'Paste', exact: true }).last().click();
  const sent = () => Buffer.concat(sockets[0].sent.slice(before).filter((it) => typeof it !== 'string')).toString();
  await until(sent, (text) => text.endsWith('E\x1b[201~'));
  assert.equal(sent(), '\x1b[200~a␀␃␄␇␈␋␌␎␕␖␛[201~␟␡\ufffd\ufffdz\u00a0é\x1b[201~\x03\x1b[200~cat <<E␄\r\tb\rE\x1b[201~');
  assert.deepEqual(complaints, []);
});

test('what is selected is copied, and the clipboard pasted', async (t) => {
  const { page, complaints } = await visit(t);
  await enter(page, 'clear; echo 世界-to-copy');
  await until(screen(page), /^\n世界-to-copy\n/);
  await page.evaluate(() => window.podwire.term.select(0, 0, 12));
  await page.keyboard.press('Control+Shift+c');
  await until(clipboard(page), /^世界-to-copy$/);
  await page.evaluate(() => navigator.clipboard.writeText('echo fr"om the menu"'));
  await menu(page, 'Paste');
  await until(lastLine(page), /the menu"$/);
  await page.keyboard.press('Enter');
  await until(screen(page), /\nfrom the menu\n/);
  assert.deepEqual(complaints, []);
});

test('the search finds what has been scrolled away', async (t) => {
  const { page, complaints } = await visit(t);
  await enter(page, 'for i in $(seq 300); do echo "line $i of many"; done');
  await until(screen(page), /line 300 of many/);
  await page.keyboard.press('Control+Shift+f');
  await page.getByRole('searchbox').pressSequentially('line 77 of');
  await until(() => page.textContent('#search-count'), /^1 of 1$/);
  const selected = () => page.evaluate(() => window.podwire.term.getSelectionPosition()?.start.y);
  const viewport = () => page.evaluate(() => window.podwire.term.buffer.active.viewportY);
  assert.ok(await selected() >= await viewport() && await selected() < await viewport() + 30);
  await shot(page, 'tools-search');
  await page.getByRole('searchbox').fill('not there at all');
  await until(() => page.textContent('#search-count'), /^nothing$/);
  await page.keyboard.press('Escape');
  await page.keyboard.press('x');
  await until(lastLine(page), /x$/);
  assert.deepEqual(complaints, []);
});

test('a transcript is saved whole, with its long lines', async (t) => {
  const { page } = await visit(t);
  await enter(page, 'for i in $(seq 200); do echo "line $i"; done; printf "%0300d\\n" 7');
  await until(screen(page), /0{299}7/);
  const saved = page.waitForEvent('download');
  await menu(page, 'Save transcript');
  const file = await saved;
  assert.match(file.suggestedFilename(), /^podwire-demo-shell-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\.txt$/);
  const text = readFileSync(await file.path(), 'utf8');
  assert.match(text, /\nline 1\nline 2\n/);
  assert.match(text, /\nline 200\n0{299}7\n/);
});

test('settings hold in this browser, and nothing else is stored', async (t) => {
  const { context, page } = await visit(t, { colorScheme: 'light' });
  const look = () => page.evaluate(() => [
    window.podwire.term.options.fontSize, getComputedStyle(document.body).backgroundColor, window.podwire.term.options.screenReaderMode,
  ]);
  const rows = () => page.evaluate(() => window.podwire.term.rows);
  const before = await rows();
  await menu(page);
  await page.getByRole('button', { name: 'Larger' }).click();
  await page.getByRole('button', { name: 'Larger' }).click();
  await page.getByLabel('Colours').selectOption('dark');
  await page.getByLabel('Screen reader mode').check();
  await page.getByLabel('Programs may set the clipboard').check();
  assert.deepEqual(await look(), [16, 'rgb(13, 17, 23)', true]);
  await until(rows, (now) => now < before);
  await shot(page, 'tools-settings');
  await page.keyboard.press('Escape');
  page.on('dialog', (dialog) => dialog.accept()); // the shell lives, so leaving is asked about
  await page.reload();
  await connected(page);
  assert.deepEqual(await look(), [16, 'rgb(13, 17, 23)', true]);
  await page.getByRole('button', { name: 'Menu' }).click();
  assert.equal(await page.getByLabel('Programs may set the clipboard').isChecked(), false);
  const stored = await page.evaluate(() => [{ ...localStorage }, { ...sessionStorage }, document.cookie]);
  assert.deepEqual(stored, [{ 'podwire.settings': '{"fontSize":16,"theme":"dark","reader":true}' }, {}, '']);
  assert.deepEqual(await context.cookies(), []);
});

test('the colours follow the system while it changes', async (t) => {
  const { page } = await visit(t, { colorScheme: 'light' });
  const background = () => page.evaluate(() => window.podwire.term.options.theme.background);
  assert.equal(await background(), '#ffffff');
  await page.emulateMedia({ colorScheme: 'dark' });
  await until(background, /#0d1117/);
});

test('a program may neither read the clipboard nor, unless that is allowed, set it', async (t) => {
  const { page, sockets } = await visit(t);
  await page.evaluate(() => navigator.clipboard.writeText('a secret'));
  const osc52 = (what) => enter(page, `printf '\\033]52;c;${what}\\007'; echo do"ne"`);
  await osc52('aGFja2Vk'); // hacked
  await until(screen(page), /\ndone\n/);
  assert.equal(await clipboard(page)(), 'a secret');
  await menu(page);
  await page.getByLabel('Programs may set the clipboard').check();
  await page.keyboard.press('Escape');
  await page.focus('.xterm-helper-textarea');
  await osc52('5L2g5aW9'); // 你好
  await until(clipboard(page), /^你好$/);
  const before = sockets[0].sent.length;
  await osc52('?');
  await until(screen(page), /(\ndone\n[^]*){3}/);
  const sent = sockets[0].sent.slice(before).map(String).join('');
  assert.doesNotMatch(sent, /\x1b|5L2g5aW9|你好/);
});

test('a title of a program comes after the pod, without what could disguise it', async (t) => {
  const { page } = await visit(t);
  await enter(page, `printf '\\033]0;Your bank\\342\\200\\256 evil\\007'; read x`);
  await until(() => page.title(), /^shell – Your bank +evil – Podwire$/);
});

test('links open without a way back, and named ones after a question', async (t) => {
  const { context, page } = await visit(t);
  await context.route('https://*.example/**', (route) => route.fulfill({ contentType: 'text/html', body: '<title>there</title>' }));
  await enter(page, `clear; printf 'https://plain.example/x\\n\\033]8;;https://hidden.example/y\\033\\\\safe words\\033]8;;\\033\\\\\\n'`);
  await until(screen(page), /plain\.example\/x\nsafe words/);
  const at = (column, row) => page.evaluate(([column, row]) => {
    const box = document.querySelector('.xterm-screen').getBoundingClientRect();
    const { cols, rows } = window.podwire.term;
    return { x: box.x + (column + 0.5) * box.width / cols, y: box.y + (row + 0.5) * box.height / rows };
  }, [column, row]);
  const click = async ({ x, y }) => { await page.mouse.move(x - 3, y); await page.mouse.move(x, y); await page.mouse.down(); await page.mouse.up(); };
  const [plain] = await Promise.all([context.waitForEvent('page'), at(3, 0).then(click)]);
  await plain.waitForLoadState();
  assert.equal(plain.url(), 'https://plain.example/x');
  assert.equal(await plain.evaluate(() => window.opener), null);
  assert.equal(await plain.evaluate(() => document.referrer), '');
  await plain.close();

  await click(await at(3, 1));
  const question = page.getByRole('dialog', { name: 'Open this link?' });
  await question.waitFor();
  assert.equal(await page.textContent('#question-preview'), 'https://hidden.example/y');
  await shot(page, 'tools-link-question');
  const [named] = await Promise.all([context.waitForEvent('page'), page.getByRole('button', { name: 'Open', exact: true }).click()]);
  await named.waitForLoadState();
  assert.equal(await named.evaluate(() => window.opener), null);
});

test('another container or shell opens in place, or in another tab', async (t) => {
  const { context, page, sockets } = await visit(t);
  const pod = {
    metadata: { name: 'shell', namespace: 'demo', annotations: { 'kubectl.kubernetes.io/default-container': 'main' } },
    spec: { containers: [{ name: 'main' }, { name: 'side' }], initContainers: [{ name: 'first' }] },
    status: { phase: 'Running', containerStatuses: [{ name: 'main', ready: true }, { name: 'side', ready: false }] },
  };
  await context.route('**/api/v1/namespaces/demo/pods/shell', (route) => route.fulfill({ json: pod }));
  await page.getByRole('button', { name: 'Container and shell' }).click();
  const list = page.getByLabel('In container').and(page.locator('select'));
  await list.waitFor();
  assert.deepEqual(await list.locator('option').allTextContents(), ['main (default)', 'side (not ready)', 'first (init)']);
  assert.equal(await list.inputValue(), 'main');
  await list.selectOption('side');
  await page.getByLabel('Start').selectOption('sh');
  await shot(page, 'tools-picker');
  await page.getByRole('button', { name: 'Open here' }).click();
  await until(status(page), /^Connected to demo\/shell\/side$/);
  assert.match(page.url(), /\?namespace=demo&pod=shell&container=side&shell=sh$/);
  assert.equal(sockets.length, 2);
  await until(() => sockets[0].closed, (closed) => closed);
  await enter(page, 'echo "[$0]"');
  await until(screen(page), /\[-?(\/bin\/)?sh\]/);

  await context.unroute('**/api/v1/namespaces/demo/pods/shell');
  await context.route('**/api/v1/namespaces/demo/pods/shell', (route) => route.fulfill({ status: 403, json: {} }));
  await page.getByRole('button', { name: 'Container and shell' }).click();
  const name = page.getByLabel('In container').and(page.locator('input'));
  assert.equal(await name.inputValue(), 'side');
  await name.fill('main');
  const [tab] = await Promise.all([context.waitForEvent('page'), page.getByRole('button', { name: 'In a new tab' }).click()]);
  await until(status(tab), /^Connected to demo\/shell\/main$/);
  assert.match(await status(page)(), /^Connected to demo\/shell\/side$/);
});

test('what the pod consists of is told to the dialog that asked, unless a name is being typed', async (t) => {
  const { context, page } = await visit(t);
  const pod = (...names) => ({
    spec: { containers: names.map((name) => ({ name })), ephemeralContainers: [{ name: 'debugger' }] },
    status: { phase: 'Running', containerStatuses: names.map((name) => ({ name, ready: true })) },
  });
  const reads = [];
  await context.route('**/api/v1/namespaces/demo/pods/shell', (route) => { reads.push(route); });
  const ask = async () => {
    const before = reads.length;
    await page.getByRole('button', { name: 'Container and shell' }).click();
    return until(() => reads[before], (route) => route);
  };
  const tell = async (route, ...names) => {
    const told = page.waitForResponse(route.request().url());
    await route.fulfill({ json: pod(...names) });
    await (await told).finished();
    await page.evaluate(() => fetch('').then((answer) => answer.text())); // by now it has been read
  };
  const list = page.getByLabel('In container').and(page.locator('select'));
  const name = page.getByLabel('In container').and(page.locator('input'));
  const first = await ask();
  await page.keyboard.press('Escape');
  const second = await ask();
  await tell(first, 'of-long-ago');
  assert.deepEqual([await list.isVisible(), await name.isVisible()], [false, true]);
  await name.focus();
  await tell(second, 'main', 'side');
  await list.waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'new-container');
  assert.deepEqual(await list.locator('option').allTextContents(), ['main', 'side', 'debugger (ephemeral)']);
  await shot(page, 'tools-picker-ephemeral');
  await page.keyboard.press('Escape');

  const third = await ask();
  await name.fill('si');
  await tell(third, 'main', 'side');
  assert.deepEqual([await list.isVisible(), await name.inputValue()], [false, 'si']);
});

test('with the keyboard alone one gets out of the terminal, through the tools, and back', async (t) => {
  const { page } = await visit(t);
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label'));
  assert.equal(await focused(), 'Terminal input');
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Terminal input', 'Tab is the terminal\'s');
  await page.keyboard.press('Control+Shift+F6');
  assert.equal(await focused(), 'Menu');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(), 'Search');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'Terminal input');
  await page.keyboard.press('Control+Shift+F6');
  await page.keyboard.press('Enter');
  await page.locator('#menu').waitFor();
  assert.match(await page.textContent('#leave'), /Ctrl\+Shift\+F6/);
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'Menu');
});
