// @kubernetes/client-node, whose programs take the relay for an API server: on plain HTTP before the
// relay's own rights, and over TLS with a token.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { after, before, test } from 'node:test';
import { CoreV1Api, Exec, KubeConfig } from '@kubernetes/client-node';
import { program, start, until } from './support.mjs';

const MUCH = 4 * 1024 * 1024;
let folder, kubeconfig, cluster, own, secured, certificate, users;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'podwire-clients-'));
  let key;
  [kubeconfig, certificate, key] = ['kubeconfig', 'tls.crt', 'tls.key'].map((name) => join(folder, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost',
    '-keyout', key, '-out', certificate], { stdio: 'pipe' });
  cluster = await start(program('PODWIRE_TEST_FAKE_CLUSTER', 'fake-cluster'),
    ['--listen', '127.0.0.1:0', '--kubeconfig-out', kubeconfig]);
  users = Object.fromEntries(JSON.parse(readFileSync(kubeconfig, 'utf8')).users.map(({ name, user }) => [name, user.token]));
  own = await relay('--auth', 'own', '--clusters', 'demo,demo-nobody');
  secured = await relay('--auth', 'passthrough', '--tls-cert', certificate, '--tls-key', key);
});

after(async () => {
  await secured?.stop();
  await own?.stop();
  await cluster?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

const relay = (...flags) => start(program('PODWIRE_TEST_BIN', 'podwire'),
  ['serve', '--kubeconfig', kubeconfig, '--listen', '127.0.0.1:0', '--admin-listen', 'off', '--log-level', 'debug',
    '--drain-delay', '0s', ...flags]);

/** A configuration whose server is the relay. Plain HTTP this client calls a TLS that is not verified. */
function config({ address }, path = '', user = {}) {
  const server = address.replace(/\/$/, '') + path;
  const trust = server.startsWith('https:') ? { caFile: certificate } : { skipTLSVerify: true };
  const it = new KubeConfig();
  it.loadFromClusterAndUser({ name: 'relay', server, ...trust }, { name: 'somebody', ...user });
  return it;
}

/** What came out of a stream, as it comes. */
function collect() {
  const stream = new PassThrough();
  stream.parts = [];
  stream.on('data', (part) => stream.parts.push(part));
  stream.text = () => Buffer.concat(stream.parts).toString();
  return stream;
}

/** Runs a command to its end: both streams, status, subprotocol. */
async function run(config, command, {
  pod = 'shell', container = 'main', stdin = null, tty = false, stdout = collect(), stderr = tty ? null : collect(),
} = {}) {
  let protocol;
  const status = await new Promise((resolve, reject) => {
    new Exec(config).exec('demo', pod, container, command, stdout, stderr, stdin, tty, resolve).then((socket) => {
      ({ protocol } = socket);
      socket.addEventListener('close', ({ code }) => reject(new Error(`closed with ${code} and no status`)));
    }, reject);
  });
  // It ends both streams behind the status.
  await Promise.all([stdout, stderr].filter(Boolean).map((stream) => finished(stream)));
  return { status, protocol, out: stdout.text(), err: stderr?.text() };
}

function code({ status }) {
  if (status.status === 'Success') return 0;
  assert.equal(status.reason, 'NonZeroExitCode', JSON.stringify(status));
  return Number(status.details.causes.find(({ reason }) => reason === 'ExitCode').message);
}

test('streams stay apart and exit codes are told, from the relay itself and from a cluster of its', async () => {
  for (const path of ['', '/clusters/demo']) {
    for (const wanted of [0, 3, 137]) {
      const ended = await run(config(own, path), ['bash', '-c', `echo 世界; echo err >&2; exit ${wanted}`]);
      assert.deepEqual([ended.out, ended.err, code(ended)], ['世界\n', 'err\n', wanted]);
    }
  }
});

test('megabytes go in and come out unharmed', async () => {
  const input = randomBytes(MUCH);
  const ended = await run(config(own), ['sh', '-c', `head -c ${MUCH} | sha256sum`],
    { stdin: Readable.from([...Array(MUCH / 65536).keys()].map((at) => input.subarray(at * 65536, (at + 1) * 65536))) });
  assert.equal(ended.out, `${createHash('sha256').update(input).digest('hex')}  -\n`);
  assert.equal(code(ended), 0);
  const flood = await run(config(own), ['sh', '-c', `yes 0123456789 | head -c ${MUCH}; exit 4`]);
  assert.equal(flood.out.length, MUCH);
  assert.ok(/^(0123456789\n)+[0-9]*$/.test(flood.out));
  assert.equal(code(flood), 4);
});

test('the end of stdin is told by the newest protocol', async () => {
  const ended = await run(config(own), ['sh', '-c', 'cat; exit 6'], { stdin: Readable.from([Buffer.from('all of it')]) });
  assert.equal(ended.protocol, 'v5.channel.k8s.io');
  assert.deepEqual([ended.out, code(ended)], ['all of it', 6]);
});

test('a terminal has its size and follows it', async () => {
  const stdout = Object.assign(collect(), { rows: 31, columns: 91 });
  const stdin = new PassThrough();
  const ended = run(config(own), ['bash', '--norc'], { stdin, stdout, tty: true });
  await until(stdout.text, /# $/);
  for (const [rows, columns] of [[31, 91], [42, 120]]) {
    Object.assign(stdout, { rows, columns }).emit('resize');
    stdin.write(`until [ "$(stty size)" = '${rows} ${columns}' ]; do :; done; echo $(stty size | tr ' ' x)\n`);
    await until(stdout.text, new RegExp(`${rows}x${columns}\r\n`));
  }
  stdin.write('exit 7\n');
  assert.equal(code(await ended), 7);
});

test('a container picker reads the pod', async () => {
  const api = config(own).makeApiClient(CoreV1Api);
  const pod = await api.readNamespacedPod({ name: 'shell', namespace: 'demo' });
  assert.deepEqual(pod.spec.containers.map(({ name }) => name), ['main', 'side']);
  assert.equal(pod.status.phase, 'Running');
  await assert.rejects(api.readNamespacedPod({ name: 'ghost', namespace: 'demo' }), ({ code, body }) => {
    assert.equal(code, 404);
    assert.match(JSON.stringify(body), /pods .*ghost.* not found/);
    return true;
  });
});

test('what is refused has the status of an API server, and a missing command its words', async () => {
  const refusals = [
    [config(own), { pod: 'ghost' }, 404],
    [config(own), { container: 'nope' }, 400],
    [config(own, '/clusters/demo-nobody'), {}, 403],
    [config(own, '/clusters/none'), {}, 404],
    [config(secured), {}, 401],
    [config(secured, '', { token: 'nobody-knows-this-one' }), {}, 401],
    [config(secured, '', { token: users.nobody }), {}, 403],
  ];
  for (const [config, where, wanted] of refusals) {
    await assert.rejects(run(config, ['true'], where), ({ message }) => {
      assert.equal(message, `Unexpected server response: ${wanted}`);
      return true;
    });
  }
  const { status } = await run(config(own), ['no-such-program']);
  assert.deepEqual([status.status, status.reason, status.code], ['Failure', 'InternalError', 500]);
  assert.match(status.message, /exec: "no-such-program": executable file not found in \$PATH/);
});

test('over TLS the rights are those of the token', async () => {
  const input = randomBytes(MUCH / 8);
  const ended = await run(config(secured, '', { token: users.execer }), ['sh', '-c', `head -c ${input.length} | sha256sum; exit 3`],
    { stdin: Readable.from([input]) });
  assert.deepEqual([ended.out, code(ended)], [`${createHash('sha256').update(input).digest('hex')}  -\n`, 3]);
  for (const token of Object.values(users)) assert.ok(!secured.log().includes(token), 'a token is in the log');
});

test('who asked for no stderr hears nothing there when the relay stops', async () => {
  const alone = await relay('--auth', 'own');
  try {
    // The other one hears on its stderr that the relay stops, and so knows when both were told.
    const sessions = [collect(), null].map((stderr) => {
      const [stdin, stdout] = [new PassThrough(), collect()];
      const script = 'echo up; read x; echo "<$x>"; exit 8';
      return { stdin, stdout, stderr, ended: run(config(alone), ['sh', '-c', script], { stdin, stdout, stderr }) };
    });
    for (const { stdout } of sessions) await until(stdout.text, /up\n/);
    alone.kill('SIGTERM');
    await until(sessions[0].stderr.text, /\[podwire: /);
    for (const { stdin } of sessions) stdin.write('still there\n');
    for (const { ended, stdout } of sessions) {
      assert.equal(code(await ended), 8);
      assert.equal(stdout.text(), 'up\n<still there>\n');
    }
  } finally {
    await alone.stop();
  }
});
