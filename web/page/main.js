// The terminal page: reads what to open from its own address, opens a Session for it, and says in words what
// is going on. It keeps no token but in its memory, and puts none into an address.

import { PodwireAddon } from '../podwire-addon.js';
import { Session } from '../podwire.js';
import { askShell, askToken } from './dialogs.js';
import { addKeyRow, followKeyboard, scrollByTouch } from './keys.js';
import { read, why } from './relay.js';
import { openTerminal, writeEnd } from './terminal.js';
import { addTools, copyText } from './tools.js';
import { endWords, mayRetry, place, plain, remedy, sentence } from './words.js';

// What the page hands on to `exec`, spelled as it came: the relay judges values and doubles. All else, such
// as an old address's token, is neither used nor kept.
const CHOSEN = ['cluster', 'namespace', 'ns', 'pod', 'name', 'podName', 'container', 'containerName', 'shell'];
const HANDED_ON = [...CHOSEN, 'command', 'stdin', 'stdout', 'tty'];
const PING_MS = 10_000;
const DEAD_MS = 60_000; // without an answer: when a relay gives up, too
const SETTLED_MS = 500; // before that a page that is being drawn measures itself

const byId = (id) => document.getElementById(id);
const given = [...new URLSearchParams(location.search)];
const only = (...names) => new URLSearchParams(given.filter(([name]) => names.includes(name)));
let page = only(...HANDED_ON);
let ticket = only('ticket'); // for the first session alone: it is good for no other
let token = '';
if ([...page].length < given.length) history.replaceState(null, '', `?${page}`);

/** What the address asks for, whatever it calls it. */
function asked() {
  const first = (...names) => names.map((name) => page.get(name)).find(Boolean) ?? '';
  return {
    cluster: first('cluster'), namespace: first('namespace', 'ns'), pod: first('pod', 'name', 'podName'),
    container: first('container', 'containerName'), shell: first('shell'),
  };
}

/** The parameters with others for what is asked for. */
function choosing(choice) {
  const others = new URLSearchParams(page);
  for (const name of CHOSEN) others.delete(name);
  for (const [name, value] of Object.entries(choice)) {
    if (value.trim()) others.set(name, value.trim());
  }
  return others;
}

function show(state, words) {
  document.body.dataset.state = state;
  if (byId('status').textContent !== words) byId('status').textContent = words;
}

// What the tab is called: first the pod, then what a program calls itself, so that no program can pass
// for another page. The mark is for whoever types nothing and looks at another tab.
const title = { pod: '', program: '', mark: false };
function entitle(change) {
  Object.assign(title, change);
  const parts = [title.pod, title.program, 'Podwire'].filter(Boolean).join(' – ');
  document.title = (title.mark ? '(!) ' : '') + parts;
}

// Something that the user should see while the session goes on; nothing takes it away.
function notice(words = '') {
  if (!words && !byId('notice').textContent) return;
  byId('notice').textContent = plain(sentence(words));
  document.body.toggleAttribute('data-notice', words !== '');
  entitle({ mark: words !== '' });
}

// ---- The form, when the address names no pod ----

function choose() {
  const form = byId('choose');
  const known = asked();
  for (const [name, value] of Object.entries(known)) form.elements[name].value = value;
  form.elements.shell.selectedIndex = Math.max(form.elements.shell.selectedIndex, 0);
  form.onsubmit = (event) => {
    event.preventDefault();
    page = choosing(Object.fromEntries(new FormData(form)));
    history.pushState(null, '', `?${page}`);
    form.hidden = true;
    openHere();
  };
  entitle({ pod: '', program: '', mark: false });
  show('form', 'Podwire');
  form.hidden = false;
  form.elements[known.namespace ? 'pod' : 'namespace'].focus();
}

// ---- The session ----

let screen = null; // the terminal, once there is one
let session = null; // the newest session
let addon = null; // what joins the two
let again = null; // opens it once more, where that makes sense

function openHere() {
  if (!screen) makeScreen();
  byId('terminal').hidden = byId('tools').hidden = false;
  screen.fit.fit();
  connect();
  screen.term.focus();
}

function makeScreen() {
  screen = openTerminal(byId('terminal'), (program) => entitle({ program }));
  const { term } = screen;
  const isCtrl = addKeyRow(term);
  screen.typed = (data) => {
    const told = byId('notice').dataset.kind;
    if (told === 'idle_warning') notice(); // typing is what it asked for; others come true anyway
    return isCtrl(data);
  };
  term.onData((data) => { if (data === '\r' && again) again(); });
  addTools(screen, { name: transcriptName, openNew });
  followKeyboard();
  scrollByTouch(term);
  window.podwire = { term }; // for tests and the curious
  byId('again').addEventListener('click', () => { (again ?? leave)(); term.focus(); });
  byId('copy').addEventListener('click', copyRemedy);
  setInterval(askBack, PING_MS);
  document.addEventListener('visibilitychange', askBack);
  addEventListener('beforeunload', (event) => { if (isLive()) event.preventDefault(); });
}

let asking = 0; // since when an answer is waited for

// How long a way to the relay and back takes; a connection that is dead without a word shows it so.
function askBack() {
  if (document.hidden || !isLive()) return;
  if (asking) {
    const waited = performance.now() - asking;
    byId('trip').textContent = `no answer for ${Math.round(waited / 1000)} s`;
    // Enter is left out: it is what one types to see whether there is an answer.
    byId('again').hidden = waited < DEAD_MS;
  } else asking = performance.now();
  session.ping();
}

// From a session that seems dead to another one.
function leave() {
  writeEnd(screen.term, 'Left without an answer.');
  connect();
}

const isLive = () => Boolean(session?.ready) && !session.ending;

function connect() {
  const { term } = screen;
  const names = asked();
  again = null;
  byId('trip').textContent = '';
  byId('again').hidden = byId('other').hidden = true;
  byId('other').search = new URLSearchParams({ cluster: names.cluster, namespace: names.namespace });
  offerRemedy();
  recorded(false);
  notice();
  entitle({ pod: plain(names.pod), program: '' });
  show('connecting', `Connecting to ${plain(place(names))}…`);

  const opened = new Session('./', new URLSearchParams([...page, ...ticket]), { token });
  ticket = [];
  addon?.dispose();
  session?.close();
  session = opened;
  const on = (type, listener) =>
    opened.addEventListener(type, ({ detail }) => { if (session === opened) listener(detail); });
  on('ready', (ready) => {
    entitle({ pod: plain(ready.pod) });
    show('connected', `Connected to ${plain(place({ ...ready, cluster: names.cluster }))}`);
    asking = 0;
    setTimeout(askBack, SETTLED_MS);
  });
  on('notice', ({ kind, message }) => {
    if (kind === 'recording') return recorded(true, message);
    notice(message);
    byId('notice').dataset.kind = kind;
  });
  on('error', ({ message }) => console.warn('podwire:', message));
  on('pong', ({ milliseconds }) => {
    asking = 0;
    byId('again').hidden = true;
    byId('trip').textContent = `${Math.max(1, Math.round(milliseconds))} ms`;
  });
  on('exit', async (end) => {
    notice();
    byId('trip').textContent = '';
    const known = end.kind === 'no connection' ? { ...end, ...await why(names, token) } : end;
    if (session === opened) ended(known);
  });
  addon = new PodwireAddon(opened, { typed: screen.typed });
  term.loadAddon(addon);
  opened.open();
}

function ended(end) {
  const words = endWords(end) + (mayRetry(end) ? ' Press Enter to reconnect.' : '');
  const [tail, command, label] = remedy(end);
  offerRemedy(command, label);
  recorded(false);
  show(end.kind === 'exit' ? 'ended' : 'failed', shortened(words, tail));
  writeEnd(screen.term, words);
  byId('other').hidden = false;
  again = mayRetry(end) ? connect : null;
  byId('again').hidden = !again;
  if (end.kind === 'unauthorized') login(end);
}

// A relay that lets its callers through with their own tokens needs one.
async function login({ message }) {
  const given = await askToken(plain(sentence(message)));
  if (given) {
    token = given;
    connect();
  } else {
    // Whoever has it ready later finds the question where one looks for another try.
    again = () => login({ message });
    byId('again').hidden = false;
  }
  screen.term.focus();
}

async function openNew() {
  const { term } = screen;
  const names = asked();
  const ready = session?.ready;
  const where = place({ ...names, container: '' });
  const choice = await askShell({
    where, container: names.container || (ready?.container ?? ''), shell: names.shell, isLive: isLive(), pod: read(names, token),
  });
  if (choice) {
    const { cluster, namespace, pod } = names;
    const others = choosing({ cluster, namespace, pod, container: choice.container, shell: choice.shell });
    for (const name of ['command', 'stdin', 'stdout']) others.delete(name); // a shell was asked for
    if (choice.where === 'tab') window.open(`?${others}`, '_blank', 'noopener');
    else {
      page = others;
      history.pushState(null, '', `?${page}`);
      term.reset();
      connect();
    }
  }
  term.focus();
}

// Recorded is told for as long as it is so, beside all else.
function recorded(is, words = '') {
  byId('recorded').textContent = is ? 'Recorded' : '';
  byId('recorded').title = is ? plain(words) : '';
}

function transcriptName() {
  const { namespace, pod } = asked();
  return `podwire-${namespace}-${pod}-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, '-')}`;
}

// The sentence without the command that stands apart; the terminal has all of it.
const shortened = (words, tail) => (tail ? words.replace(tail, tail.startsWith(';') ? '.' : 'see below)') : words);

// Where a command to type elsewhere helps, it can be copied.
function offerRemedy(command = '', label = '') {
  byId('remedy').hidden = !command;
  byId('remedy').querySelector('label').textContent = label;
  byId('command').value = command;
  byId('copy').textContent = 'Copy';
}

async function copyRemedy() {
  byId('command').select();
  byId('copy').textContent = await copyText(byId('command').value) ? 'Copied' : 'Press Ctrl+C';
}

// Another pod is chosen in this page, so that a token need not be given again.
byId('other').addEventListener('click', (event) => {
  if (event.ctrlKey || event.shiftKey || event.metaKey) return;
  event.preventDefault();
  again = null;
  offerRemedy();
  byId('again').hidden = byId('other').hidden = byId('terminal').hidden = byId('tools').hidden = true;
  page = choosing({ cluster: asked().cluster, namespace: asked().namespace });
  history.pushState(null, '', `?${page}`);
  choose();
});
addEventListener('popstate', () => location.reload());

if (asked().pod) openHere();
else choose();
