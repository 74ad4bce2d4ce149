// A page as in the README of xterm's addon-attach: it knows an address and nothing else of a relay.

import { AttachAddon } from '@xterm/addon-attach';
import { show } from './terminal.mjs';

const term = show({ cols: 100, rows: 30 });
const socket = new WebSocket(`ws://${location.host}/exec${location.search}`);
term.loadAddon(new AttachAddon(socket));
socket.addEventListener('close', ({ code, reason }) => { window.end = `${code} ${reason}`; });
