// The package as others get it: its example, its types, its files.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import xterm from '@xterm/headless';
import WebSocket from 'ws';
import { READY, heard, relay } from './relay.mjs';

const WEB = fileURLToPath(new URL('..', import.meta.url));
const EXAMPLE = /```js\n([^]*?)```/.exec(readFileSync(join(WEB, 'README.md'), 'utf8'))[1];
const PACKAGE = JSON.parse(readFileSync(join(WEB, 'package.json'), 'utf8'));

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'podwire-package-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

test('the example works as it stands', async (t) => {
  const typed = [];
  const address = await relay(t, async (socket) => {
    socket.tell(READY);
    const enter = heard(socket, (message, isBinary) => isBinary && typed.push(String(message)) && typed.join('') === 'ls\r');
    socket.send(Buffer.from('$ '));
    await enter;
    socket.tell({ type: 'exit', kind: 'exit', exitCode: 0, message: 'exit code 0', retry: false });
    socket.close(1000);
  });
  let term;
  const drawn = new Promise((resolve) => {
    // What the example needs of a page, on a terminal without one.
    globalThis.ExampleTerminal = class extends xterm.Terminal {
      constructor() {
        super({ allowProposedApi: true });
        term = this;
        this.onWriteParsed(() => { if (/exit code 0/.test(line(1))) resolve(); });
      }

      open(element) { assert.equal(element, 'element terminal'); }
    };
  });
  const line = (at) => term.buffer.active.getLine(at)?.translateToString(true).trimEnd() ?? '';
  globalThis.WebSocket = WebSocket;
  globalThis.document = { getElementById: (id) => `element ${id}`, baseURI: 'http://localhost/' };
  const path = folder(t);
  writeFileSync(join(path, 'terminal.mjs'), 'export const Terminal = globalThis.ExampleTerminal;\n');
  const resolved = { '@xterm/xterm': pathToFileURL(join(path, 'terminal.mjs')).href };
  for (const [name, { default: file }] of Object.entries(PACKAGE.exports)) {
    resolved[name.replace('.', PACKAGE.name)] = pathToFileURL(join(WEB, file)).href;
  }
  const script = EXAMPLE.replace(/from '(.+?)'/g, (_, name) => `from '${resolved[name]}'`)
    .replace('https://relay.example/', address);
  writeFileSync(join(path, 'example.mjs'), script);
  await import(pathToFileURL(join(path, 'example.mjs')));
  await new Promise((resolve) => { const parsed = term.onWriteParsed(() => { if (/^\$/.test(line(0))) { parsed.dispose(); resolve(); } }); });
  term.input('ls\r');
  await drawn;
  assert.equal(line(0), '$');
  assert.match(line(1), /^exit code 0/);
  delete globalThis.document;
});

test('the example is as short as it promises, and the package resolves by its name', async () => {
  assert.ok(EXAMPLE.trim().split('\n').filter(Boolean).length <= 10, EXAMPLE);
  assert.equal((await import('podwire')).Session, (await import('../podwire.js')).Session);
  assert.equal((await import('podwire/addon')).PodwireAddon, (await import('../podwire-addon.js')).PodwireAddon);
});

test('the types describe the example, and every member that there is', async (t) => {
  const path = mkdtempSync(join(WEB, 'test', '.types-'));
  t.after(() => rmSync(path, { recursive: true }));
  const wrong = `// @ts-expect-error a number is no input
session.input(1);
// @ts-expect-error there is no such event
session.addEventListener('exit', ({ detail }) => detail.nothing);
`;
  writeFileSync(join(path, 'example.ts'), EXAMPLE.replace(/getElementById\('terminal'\)/, '$&!') + wrong);
  const compiler = join(WEB, 'node_modules/typescript', createRequire(import.meta.url)('typescript/package.json').bin.tsc);
  const flags = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2022,dom', '--skipLibCheck', 'false'];
  execFileSync(process.execPath, [compiler, ...flags, join(path, 'example.ts')], { encoding: 'utf8', stdio: ['ignore', 'inherit', 'inherit'], cwd: WEB });
  for (const [file, name] of [['podwire', 'Session'], ['podwire-addon', 'PodwireAddon']]) {
    const types = readFileSync(join(WEB, `${file}.d.ts`), 'utf8');
    const { prototype } = (await import(`../${file}.js`))[name];
    for (const member of Object.getOwnPropertyNames(prototype)) {
      assert.match(types, new RegExp(`^  (readonly )?${member}[(:]`, 'm'), `${name}.${member}`);
    }
  }
});

test('what is published is the module and nothing else', () => {
  const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=error'], { cwd: WEB, encoding: 'utf8' }));
  assert.deepEqual(files.map(({ path }) => path).sort(),
    ['LICENSE', 'README.md', 'package.json', 'podwire-addon.d.ts', 'podwire-addon.js', 'podwire.d.ts', 'podwire.js']);
  assert.equal(PACKAGE.dependencies, undefined);
});
