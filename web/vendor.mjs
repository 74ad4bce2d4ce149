// Makes web/dist, the files that the relay embeds, out of the page's own files and the packages in
// node_modules (`npm ci` first; this script fetches nothing).
//
//   node web/vendor.mjs           rewrites web/dist
//   node web/vendor.mjs --check   makes it again in a temporary folder and compares
//
// Everything but the page itself is stored as gzip: every browser takes that, over plain http too.
// Brotli is taken only over https and on loopback, and would save 15 KB once per browser and version
// while it adds 83 KB to the program, so it does not pay. The page is stored as it is, for `curl`.

import { createHash } from 'node:crypto';
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';

const WEB = fileURLToPath(new URL('.', import.meta.url));
const DIST = join(WEB, 'dist');
const PACKAGES = ['@xterm/xterm', '@xterm/addon-fit'];
const ASSETS = [
  { file: 'xterm.mjs', package: '@xterm/xterm', path: 'lib/xterm.mjs' },
  { file: 'xterm.css', package: '@xterm/xterm', path: 'css/xterm.css' },
  { file: 'addon-fit.mjs', package: '@xterm/addon-fit', path: 'lib/addon-fit.mjs' },
  { file: 'podwire-page.js' },
  { file: 'podwire-page.css' },
];

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const inPackage = (name, path) => join(WEB, 'node_modules', name, path);
const packageVersion = (name) => JSON.parse(readFileSync(inPackage(name, 'package.json'), 'utf8')).version;

function gzip(raw) {
  const packed = gzipSync(raw, { level: 9 });
  packed.fill(0, 4, 8); // no time
  packed[9] = 255; // no operating system
  return packed;
}

function source(asset) {
  if (!asset.package) return readFileSync(join(WEB, asset.file));
  const text = readFileSync(inPackage(asset.package, asset.path), 'utf8');
  // The map is not shipped, so a browser's developer tools would ask for it in vain.
  return Buffer.from(text.replace(/\n?\/[/*]# sourceMappingURL=.*\s*$/, '\n'));
}

function notice() {
  const parts = PACKAGES.map((name) =>
    `${name} ${packageVersion(name)}\n\n${readFileSync(inPackage(name, 'LICENSE'), 'utf8').trim()}\n`);
  parts[0] += '\nParts of it come from Visual Studio Code, Copyright (c) Microsoft Corporation, under the same licence.\n';
  return `Podwire's terminal page contains these works, both under the MIT licence.\n\n${
    parts.join(`\n${'-'.repeat(72)}\n\n`)}`;
}

function build(out) {
  const wanted = JSON.parse(readFileSync(join(WEB, 'package.json'), 'utf8')).devDependencies;
  for (const name of PACKAGES) {
    if (packageVersion(name) !== wanted[name]) throw new Error(`${name} ${wanted[name]} is not what is installed: run npm ci`);
  }
  const raws = [...ASSETS.map((asset) => ({ ...asset, raw: source(asset) })),
    { file: 'NOTICE.txt', raw: Buffer.from(notice()) }];
  const template = readFileSync(join(WEB, 'index.html'), 'utf8');

  // One version for the set: any changed byte of it gives every asset a new address.
  const version = sha256(Buffer.concat([Buffer.from(template), ...raws.flatMap(({ file, raw }) =>
    [Buffer.from(`\0${file}\0${raw.length}\0`), raw])])).slice(0, 16);

  mkdirSync(out, { recursive: true });
  for (const file of readdirSync(out)) rmSync(join(out, file));
  const files = [];
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
  };
  const index = Buffer.from(template.replaceAll('{version}', version));
  store({}, 'index.html', index, index);
  for (const asset of raws) store(asset, `${asset.file}.gz`, asset.raw, gzip(asset.raw));
  writeFileSync(join(out, 'VERSION'), version);
  const manifest = { version, zlib: `${process.versions.zlib} ${process.arch}`, files };
  writeFileSync(join(out, 'MANIFEST.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

// Every committed file must be what its source gives. Another zlib may pack the same bytes otherwise;
// then the unpacked bytes are compared, and the packed ones with the committed manifest.
function check() {
  const fresh = mkdtempSync(join(tmpdir(), 'podwire-web-'));
  try {
    const made = build(fresh);
    const committed = JSON.parse(readFileSync(join(DIST, 'MANIFEST.json'), 'utf8'));
    const sameZlib = made.zlib === committed.zlib;
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
      expect(sha256(file.endsWith('.gz') ? gunzipSync(stored) : stored) === rawSha256, `${file}: content`);
      if (sameZlib) expect(stored.equals(readFileSync(join(fresh, file))), `${file}: packed bytes`);
    }
    if (wrong.length) {
      console.error(`web/dist is not what its sources give (run: npm ci && node vendor.mjs, in web/):\n  ${wrong.join('\n  ')}`);
      process.exitCode = 1;
    } else {
      console.log(`web/dist is up to date, version ${made.version}${sameZlib ? '' : ' (packed by another zlib; content compared)'}`);
    }
  } finally {
    rmSync(fresh, { recursive: true });
  }
}

if (process.argv[2] === '--check') {
  check();
} else {
  const { version, files } = build(DIST);
  for (const { file, rawBytes, bytes } of files) console.log(`${String(rawBytes).padStart(7)} ${String(bytes).padStart(7)}  ${file}`);
  console.log(`web/dist version ${version}, ${files.reduce((sum, { bytes }) => sum + bytes, 0)} bytes`);
}
