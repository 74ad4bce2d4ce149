// Makes web/dist, the files that the relay embeds, out of the page's own files and the packages in
// node_modules (`npm ci` first; this script fetches nothing).
//
//   node web/vendor.mjs           rewrites web/dist
//   node web/vendor.mjs --check   makes it again in a temporary folder and compares
//
// Everything is stored as brotli, which browsers take over https and on loopback. Over plain http, and
// behind gateways that know no better, they take gzip, so what the terminal cannot do without is stored
// so, too. The page itself is also stored as it is, for `curl`.

import { createHash } from 'node:crypto';
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from 'node:zlib';
import { build as bundle, version as bundler } from 'esbuild';

const WEB = fileURLToPath(new URL('.', import.meta.url));
const DIST = join(WEB, 'dist');
// Those of which there is something in what is shipped.
const PACKAGES = ['@xterm/xterm', '@xterm/addon-fit', '@xterm/addon-web-links', '@xterm/addon-unicode11',
  '@xterm/addon-search', '@xterm/addon-webgl'];
const ASSETS = [
  { file: 'xterm.mjs', package: '@xterm/xterm', path: 'lib/xterm.mjs', first: true },
  { file: 'podwire-page.js', from: 'page/main.js', first: true },
  { file: 'podwire-page.css', from: 'page/page.css', first: true },
  { file: 'addon-search.mjs', package: '@xterm/addon-search', path: 'lib/addon-search.mjs' },
  // Without it the terminal draws as well, so it is not stored twice.
  { file: 'addon-webgl.mjs', package: '@xterm/addon-webgl', path: 'lib/addon-webgl.mjs', gzip: false },
];
// What a browser without anything in its cache loads until the terminal is there, as brotli.
const FIRST_MAX = 100_000;

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const inPackage = (name, path) => join(WEB, 'node_modules', name, path);
const packageVersion = (name) => JSON.parse(readFileSync(inPackage(name, 'package.json'), 'utf8')).version;

function gzip(raw) {
  const packed = gzipSync(raw, { level: 9 });
  packed.fill(0, 4, 8); // no time
  packed[9] = 255; // no operating system
  return packed;
}

function brotli(raw) {
  return brotliCompressSync(raw, { params: {
    [constants.BROTLI_PARAM_QUALITY]: 11,
    [constants.BROTLI_PARAM_LGWIN]: 22,
    [constants.BROTLI_PARAM_SIZE_HINT]: raw.length,
  } });
}

const unpack = (file, stored) =>
  file.endsWith('.gz') ? gunzipSync(stored) : file.endsWith('.br') ? brotliDecompressSync(stored) : stored;

async function source(asset) {
  if (asset.from) return bundled(asset.from);
  const text = readFileSync(inPackage(asset.package, asset.path), 'utf8');
  // The map is not shipped, so a browser's developer tools would ask for it in vain.
  return Buffer.from(text.replace(/\n?\/[/*]# sourceMappingURL=.*\s*$/, '\n'));
}

// One file of our own parts and of what of the packages goes with them. The large ones stay as they were
// published.
async function bundled(from) {
  const { outputFiles: [{ contents }] } = await bundle({
    entryPoints: [join(WEB, from)],
    absWorkingDir: WEB,
    bundle: true,
    write: false,
    minify: true,
    format: 'esm',
    target: from.endsWith('.js') ? 'es2022' : 'esnext',
    charset: 'utf8',
    legalComments: 'none', // NOTICE.txt has them
    external: ASSETS.map(({ file }) => `./${file}`),
    logLevel: 'warning',
  });
  return Buffer.from(contents);
}

function notice() {
  const parts = PACKAGES.map((name) =>
    `${name} ${packageVersion(name)}\n\n${readFileSync(inPackage(name, 'LICENSE'), 'utf8').trim()}\n`);
  parts[0] += '\nParts of it come from Visual Studio Code, Copyright (c) Microsoft Corporation, under the same licence.\n';
  return `Podwire's terminal page contains these works, all under the MIT licence.\n\n${
    parts.join(`\n${'-'.repeat(72)}\n\n`)}`;
}

async function build(out) {
  const wanted = JSON.parse(readFileSync(join(WEB, 'package.json'), 'utf8')).devDependencies;
  for (const name of [...PACKAGES, 'esbuild']) {
    if (packageVersion(name) !== wanted[name]) throw new Error(`${name} ${wanted[name]} is not what is installed: run npm ci`);
  }
  const raws = [];
  for (const asset of ASSETS) raws.push({ ...asset, raw: await source(asset) });
  raws.push({ file: 'NOTICE.txt', raw: Buffer.from(notice()), brotli: false });
  const template = readFileSync(join(WEB, 'page/index.html'), 'utf8')
    .replaceAll(/^ +/gm, '').replaceAll(/<!--.*?-->\n/g, '');

  // One version for the set: any changed byte of it gives every asset a new address.
  const version = sha256(Buffer.concat([Buffer.from(template), ...raws.flatMap(({ file, raw }) =>
    [Buffer.from(`\0${file}\0${raw.length}\0`), raw])])).slice(0, 16);

  mkdirSync(out, { recursive: true });
  for (const file of readdirSync(out)) rmSync(join(out, file));
  const files = [];
  let first = 0;
  const store = (asset, file, raw, stored) => {
    writeFileSync(join(out, file), stored);
    files.push({
      file,
      package: asset.package ?? 'podwire',
      ...(asset.package && { version: packageVersion(asset.package), path: asset.path }),
      rawBytes: raw.length,
      rawSha256: sha256(raw),
      bytes: stored.length,
      sha256: sha256(stored),
    });
    if (asset.first && file.endsWith('.br')) first += stored.length;
  };
  const index = Buffer.from(template.replaceAll('{version}', version));
  store({}, 'index.html', index, index);
  for (const asset of [{ file: 'index.html', raw: index, first: true }, ...raws]) {
    if (asset.brotli !== false) store(asset, `${asset.file}.br`, asset.raw, brotli(asset.raw));
    if (asset.gzip !== false) store(asset, `${asset.file}.gz`, asset.raw, gzip(asset.raw));
  }
  if (first > FIRST_MAX) throw new Error(`${first} bytes until the terminal is there, at most ${FIRST_MAX}`);
  writeFileSync(join(out, 'VERSION'), version);
  const packer = `zlib ${process.versions.zlib}, brotli ${process.versions.brotli}, ${process.arch}`;
  const manifest = { version, packer, bundler: `esbuild ${bundler}`, first, files };
  writeFileSync(join(out, 'MANIFEST.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

// Every committed file must be what its source gives. Another packer may pack the same bytes otherwise;
// then the unpacked bytes are compared, and the packed ones with the committed manifest.
async function check() {
  const fresh = mkdtempSync(join(tmpdir(), 'podwire-web-'));
  try {
    const made = await build(fresh);
    const committed = JSON.parse(readFileSync(join(DIST, 'MANIFEST.json'), 'utf8'));
    const samePacker = made.packer === committed.packer;
    const wrong = [];
    const expect = (ok, what) => { if (!ok) wrong.push(what); };
    const names = (folder) => readdirSync(folder).sort().join(' ');
    expect(names(fresh) === names(DIST), `the files: ${names(DIST)}, expected ${names(fresh)}`);
    expect(made.version === committed.version && readFileSync(join(DIST, 'VERSION'), 'utf8') === made.version, 'the version');
    const shape = ({ file, package: from, version, path, rawBytes, rawSha256 }) =>
      JSON.stringify([file, from, version, path, rawBytes, rawSha256]);
    expect(made.files.map(shape).join() === committed.files.map(shape).join(), 'the manifest');
    for (const { file, rawSha256, sha256: packedSha256, bytes } of committed.files) {
      const stored = readFileSync(join(DIST, file));
      expect(sha256(stored) === packedSha256 && stored.length === bytes, `${file}: not as its manifest says`);
      expect(sha256(unpack(file, stored)) === rawSha256, `${file}: content`);
      if (samePacker) expect(stored.equals(readFileSync(join(fresh, file))), `${file}: packed bytes`);
    }
    if (wrong.length) {
      console.error(`web/dist is not what its sources give (run: npm ci && node vendor.mjs, in web/):\n  ${wrong.join('\n  ')}`);
      process.exitCode = 1;
    } else {
      console.log(`web/dist is up to date, version ${made.version}${samePacker ? '' : ' (packed by another one; content compared)'}`);
    }
  } finally {
    rmSync(fresh, { recursive: true });
  }
}

if (process.argv[2] === '--check') {
  await check();
} else {
  const { version, first, files } = await build(DIST);
  for (const { file, rawBytes, bytes } of files) console.log(`${String(rawBytes).padStart(7)} ${String(bytes).padStart(7)}  ${file}`);
  console.log(`web/dist version ${version}, ${files.reduce((sum, { bytes }) => sum + bytes, 0)} bytes, ${first} of them before the terminal is there`);
}
