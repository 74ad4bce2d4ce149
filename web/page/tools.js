// The tools beside the terminal: menu, search, copy and paste, transcript, full screen, settings.

import { ask } from './dialogs.js';
import { FONT_MAX, FONT_MIN, set, settings } from './settings.js';
import { drawFaster, setFontSize, transcript } from './terminal.js';
import { plain } from './words.js';

const byId = (id) => document.getElementById(id);
// Where it takes long to look at every line for all matches, only the next one is shown.
const HIGHLIGHTS_MAX = 1000;
const isMac = /^(Mac|iP)/.test(navigator.platform);

/** Joins the tools to the terminal. `name()` is what a transcript is called, `openNew` opens another shell. */
export function addTools({ term, fit, paint }, { name, openNew }) {
  byId('tools').hidden = false;
  const search = addSearch(term);
  const menu = byId('menu');
  const command = (id, run) => byId(id).addEventListener('click', () => {
    menu.hidePopover();
    term.focus();
    run();
  });
  const copy = () => copyText(term.getSelection());
  command('do-copy', copy);
  command('do-paste', () => pasteFromClipboard(term));
  command('do-search', search.open);
  command('do-save', () => save(`${name()}.txt`, transcript(term)));
  command('do-full', () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
  command('do-new', openNew);
  byId('do-full').hidden = !document.fullscreenEnabled;
  byId('new-open').addEventListener('click', openNew);
  byId('search-open').addEventListener('click', search.open);
  menu.addEventListener('toggle', ({ newState }) => {
    byId('menu-open').setAttribute('aria-expanded', newState === 'open');
    if (newState === 'open') {
      byId('do-copy').disabled = !term.hasSelection();
      byId('do-full').textContent = document.fullscreenElement ? 'Leave full screen' : 'Full screen';
    }
  });
  addSettings(term, fit, paint);
  addKeys(term, { copy, search: search.open });
  addPaste(term);
  drawFaster(term);
}

function addSettings(term, fit, paint) {
  const size = (step) => {
    const next = Math.min(Math.max(settings.fontSize + step, FONT_MIN), FONT_MAX);
    setFontSize(term, fit, next);
    byId('font-size').textContent = next;
    byId('font-less').disabled = next === FONT_MIN;
    byId('font-more').disabled = next === FONT_MAX;
  };
  size(0);
  byId('font-less').addEventListener('click', () => size(-1));
  byId('font-more').addEventListener('click', () => size(1));
  const theme = byId('theme');
  theme.value = settings.theme;
  theme.addEventListener('change', () => { set('theme', theme.value); paint(); });
  const toggle = (id, name, apply = () => {}) => {
    byId(id).checked = settings[name];
    apply();
    byId(id).addEventListener('change', ({ target }) => { set(name, target.checked); apply(); });
  };
  toggle('reader', 'reader', () => { term.options.screenReaderMode = settings.reader; });
  toggle('ask-paste', 'askPaste');
  toggle('osc52', 'osc52');
  toggle('keys-shown', 'keys', () => { byId('keys').hidden = !settings.keys; });
}

// Tab belongs to the terminal, so there is another way out of it; Escape comes back from the tools.
function addKeys(term, { copy, search }) {
  const combos = {
    F6: () => byId('menu-open').focus(),
    KeyC: () => copy(),
    KeyF: () => search(),
  };
  term.attachCustomKeyEventHandler((event) => {
    if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true;
    const run = Object.hasOwn(combos, event.code) && combos[event.code];
    if (event.code === 'KeyV') return false; // the browser pastes, and says so
    if (!run) return true;
    event.preventDefault();
    if (event.type === 'keydown') run();
    return false;
  });
  byId('tools').addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !byId('menu').matches(':popover-open')) term.focus();
  });
  if (isMac) {
    for (const kbd of document.querySelectorAll('.commands kbd')) kbd.hidden = true; // Cmd does it there
  }
}

/** Puts text on the clipboard; answers whether it is there. */
export async function copyText(text) {
  if (!text) return false;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyOld(text);
  }
}

// Without https there is no such clipboard, but there is the old way.
function copyOld(text) {
  const area = document.createElement('textarea');
  const focused = document.activeElement;
  area.value = text;
  area.className = 'away';
  document.body.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  focused?.focus();
  return copied;
}

async function pasteFromClipboard(term) {
  try {
    await paste(term, await navigator.clipboard.readText());
  } catch {
    await ask({ title: 'Paste', text: 'This browser gives the clipboard to nobody who asks. Press the keys:',
      preview: isMac ? 'Cmd+V' : 'Ctrl+Shift+V', yes: 'Close' });
    term.focus();
  }
}

// Every paste comes through here, before xterm.js sees it.
function addPaste(term) {
  byId('terminal').addEventListener('paste', (event) => {
    event.preventDefault();
    event.stopPropagation();
    paste(term, event.clipboardData?.getData('text/plain') ?? '');
  }, true);
}

// Nobody pastes a control character on purpose. One could end a bracketed paste from within, interrupt or
// complete what is typed, or run it; so all but tabs and ends of lines are there to be seen.
const visible = (text) => text.replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g, (char) =>
  String.fromCharCode(char < ' ' ? 0x2400 + char.charCodeAt(0) : char === '\x7f' ? 0x2421 : 0xfffd));

async function paste(term, given) {
  const text = visible(given);
  const lines = text.replace(/(\r\n?|\n)$/, '').split(/\r\n?|\n/).length;
  // Where the shell does not know a paste from what is typed, one line that ends runs at once, too.
  const runs = /[\r\n]/.test(text) && !term.modes.bracketedPasteMode;
  if ((lines > 1 || runs) && settings.askPaste) {
    const yes = await ask({
      title: lines > 1 ? `Paste ${lines} lines?` : 'Paste a whole line?',
      text: lines > 1 ? 'Each line may run as a command as soon as it arrives.' : 'It may run as a command as soon as it arrives.',
      preview: text,
      yes: 'Paste',
    });
    term.focus();
    if (!yes) return;
  }
  term.paste(text);
}

/** Hands a text to the browser as a file. */
function save(name, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
  link.download = plain(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// The search itself is loaded when it is first wanted.
function addSearch(term) {
  const [form, text, count] = [byId('search'), byId('search-text'), byId('search-count')];
  let addon;
  const load = async () => {
    if (addon) return;
    const { SearchAddon } = await import('./addon-search.mjs');
    addon = new SearchAddon({ highlightLimit: HIGHLIGHTS_MAX });
    addon.onDidChangeResults(({ resultIndex, resultCount }) => {
      const some = resultCount >= HIGHLIGHTS_MAX ? `${HIGHLIGHTS_MAX}+` : resultCount;
      count.textContent = text.value && (resultCount ? `${resultIndex + 1} of ${some}` : 'nothing');
    });
    term.loadAddon(addon);
  };
  const find = (back, incremental) => {
    if (!addon) return;
    const decorations = { matchOverviewRuler: '#d29922', activeMatchColorOverviewRuler: '#f0883e',
      matchBackground: '#ffd33d', activeMatchBackground: '#f0883e' };
    if (!text.value) { addon.clearDecorations(); count.textContent = ''; }
    else if (back) addon.findPrevious(text.value, { decorations });
    else addon.findNext(text.value, { decorations, incremental });
  };
  const close = () => {
    form.hidden = true;
    addon?.clearDecorations();
    term.focus();
  };
  text.addEventListener('input', () => find(false, true));
  form.addEventListener('submit', (event) => { event.preventDefault(); find(false, false); });
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
    else if (event.key === 'Enter' && event.shiftKey) { event.preventDefault(); find(true); }
  });
  byId('search-back').addEventListener('click', () => find(true));
  byId('search-close').addEventListener('click', close);
  return {
    open: async () => {
      form.hidden = false;
      text.focus();
      text.select();
      try {
        await load();
        find(false, true);
      } catch {
        count.textContent = 'could not be loaded';
      }
    },
  };
}
