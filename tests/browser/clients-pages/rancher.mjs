// Does on the wire what Rancher's container shell does (rancher/dashboard, ContainerShell.vue and
// socket.js): base64 in text messages, each by itself, the next command where something was said on the
// channel for errors, a size when it is connected and whenever the window has another one.

import { FitAddon } from '@xterm/addon-fit';
import { show } from './terminal.mjs';

const POD = '/k8s/clusters/demo/api/v1/namespaces/demo/pods/shell';
const SHELL = 'TERM=xterm-256color; export TERM; [ -x /bin/bash ] && ([ -x /usr/bin/script ] && '
  + '/usr/bin/script -q -c "/bin/bash" /dev/null || exec /bin/bash) || exec /bin/sh';
const commands = [['/bin/sh', '-c', SHELL], ['cmd']];

const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
const decode = (text) => new TextDecoder().decode(Uint8Array.from(atob(text), (it) => it.charCodeAt(0)));

const term = show({ fontSize: 12 });
const fitting = new FitAddon();
const backlog = [];
let socket, number = 0, error = '', open = false;
term.loadAddon(fitting);
term.onData((text) => write(`0${encode(text)}`));

function write(message) {
  if (open) socket.send(message);
  else backlog.push(message);
}

function fit() {
  fitting.fit();
  const { rows, cols } = fitting.proposeDimensions();
  if (open) socket.send(`4${encode(JSON.stringify({ Width: Math.floor(cols), Height: Math.floor(rows) }))}`);
}

function connect() {
  const query = new URLSearchParams({ container: window.container ?? 'main', stdout: 1, stdin: 1, stderr: 1, tty: 1 });
  for (const word of commands.shift()) query.append('command', word);
  query.append('sockId', number += 1);
  error = '';
  socket = new WebSocket(`ws://${location.host}${POD}/exec?${query}`, 'base64.channel.k8s.io');
  socket.onopen = () => {
    open = true;
    fit();
    for (const message of backlog.splice(0)) socket.send(message);
  };
  socket.onmessage = ({ data }) => {
    const [channel, text] = [data.slice(0, 1), decode(data.slice(1))];
    error = '';
    if (channel === '1') term.write(text);
    else if (channel === '3') error = text;
  };
  socket.onclose = ({ code }) => {
    open = false;
    window.ends = [...(window.ends ?? []), code];
    if (!error) return;
    if (commands.length) {
      term.reset();
      connect();
    } else {
      term.write(`${error}\n\r`);
    }
  };
}

addEventListener('resize', fit);
connect();
