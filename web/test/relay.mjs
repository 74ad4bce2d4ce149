// A relay of a few lines, which says and keeps what a test wants; and waiting without a clock.

import { once } from 'node:events';
import { WebSocketServer } from 'ws';

export const READY = {
  type: 'ready', session: '00000000-0000-0000-0000-000000000000', protocol: 'v5.channel.k8s.io', cluster: 'demo',
  namespace: 'demo', pod: 'shell', container: 'main', tty: true,
};

/** Starts one; `onSession(socket, request)` gets each session, after the subprotocol is agreed on. */
export async function relay(t, onSession) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: (names) => names.has('podwire.v1') && 'podwire.v1' });
  t.after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  server.on('connection', (socket, request) => {
    socket.on('error', () => {});
    socket.tell = (message) => socket.send(JSON.stringify(message));
    onSession(socket, request);
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}/base/`;
}

/** The detail of the next event of this type. */
export const next = (session, type) => new Promise((resolve) => {
  session.addEventListener(type, ({ detail }) => resolve(detail), { once: true });
});

/** Resolves when `socket` has been told a message that `accepts` likes; text is parsed. */
export const heard = (socket, accepts) => new Promise((resolve) => {
  socket.on('message', function listen(data, isBinary) {
    const message = isBinary ? data : JSON.parse(data);
    if (!accepts(message, isBinary)) return;
    socket.off('message', listen);
    resolve(message);
  });
});
