// A terminal relay in Node, with `ws` towards the browser and the official client's Exec towards
// the cluster, as its examples have it.

import { PassThrough, Writable } from 'node:stream';
import { Exec, KubeConfig } from '@kubernetes/client-node';
import { WebSocketServer } from 'ws';

const config = new KubeConfig();
config.loadFromDefault();
const exec = new Exec(config);

// What the client takes for a terminal: a stream that has a size and tells when it changes.
class Terminal extends Writable {
  rows = 24;
  columns = 80;

  constructor(browser) {
    super();
    this.browser = browser;
  }

  _write(chunk, _encoding, done) {
    this.browser.send(chunk, done);
  }

  resize(rows, columns) {
    this.rows = rows;
    this.columns = columns;
    this.emit('resize');
  }
}

async function shell(browser, request) {
  const query = new URL(request.url, 'http://localhost').searchParams;
  const stdin = new PassThrough();
  const stdout = new Terminal(browser);
  let reason = 'lost';

  // Before the exec is open, or what is typed meanwhile is lost.
  browser.on('message', (text) => {
    const said = JSON.parse(text);
    if (said.type === 'input') stdin.write(said.input);
    else if (said.type === 'resize') stdout.resize(said.rows, said.cols);
  });
  browser.on('error', (error) => console.error(error.message));
  stdout.on('error', (error) => console.error(error.message));
  stdout.on('finish', () => browser.close(1000, reason));

  const cluster = await exec.exec(
    query.get('namespace'),
    query.get('pod'),
    query.get('container'),
    query.getAll('command'),
    stdout,
    null,
    stdin,
    true,
    (status) => {
      const code = status.details?.causes?.find((cause) => cause.reason === 'ExitCode');
      reason = status.status === 'Success' ? 'exit 0' : code ? `exit ${code.message}` : 'failed';
    },
  );
  cluster.on('close', () => stdout.end());
  browser.on('close', () => cluster.close());
  if (browser.readyState !== browser.OPEN) cluster.close();
}

const [host, port] = process.env.BENCH_LISTEN.split(':');
const server = new WebSocketServer({ host, port: Number(port), path: '/ws' });
server.on('connection', (browser, request) => {
  shell(browser, request).catch((error) => {
    console.error(error.message);
    browser.close(1011, 'the exec did not open');
  });
});
