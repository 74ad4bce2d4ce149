// The terminal: how it looks, what it understands, and what programs in it may do to this page.

import { Terminal } from './xterm.mjs';
import { FitAddon } from '@xterm/addon-fit';
import { Unicode11Addon } from '@xterm/addon-unicode11';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { ask } from './dialogs.js';
import { set, settings } from './settings.js';
import { plain } from './words.js';

const SCROLLBACK = 10_000; // lines
const TITLE_MAX = 80; // characters of a program's title: the tab has room for less
const CLIPBOARD_MAX = 1024 * 1024; // characters of base64 that a program may put on the clipboard
const FONTS = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace';

// xterm.js names the colours; ours are readable on their backgrounds.
const COLOURS = ['background', 'foreground', 'cursor', 'cursorAccent', 'selectionBackground',
  'black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white',
  'brightBlack', 'brightRed', 'brightGreen', 'brightYellow', 'brightBlue', 'brightMagenta', 'brightCyan', 'brightWhite'];
const theme = (colours) => Object.fromEntries(colours.split(' ').map((colour, at) => [COLOURS[at], `#${colour}`]));
const LIGHT = theme('ffffff 1f2328 0969da ffffff b6d7ff 24292f cf222e 116329 7d4e00 0969da 8250df 1b7c83 6e7781'
  + ' 57606a a40e26 1a7f37 633c01 218bff a475f9 3192aa 8c959f');
const DARK = theme('0d1117 e6edf3 4493f8 0d1117 264f78 30363d ff7b72 3fb950 d29922 58a6ff bc8cff 39c5cf b1bac4'
  + ' 6e7681 ffa198 56d364 e3b341 79c0ff d2a8ff 56d4dd ffffff');

const systemIsDark = matchMedia('(prefers-color-scheme: dark)');

/** Makes the terminal in `element`. `onTitle` hears what a program calls itself. */
export function openTerminal(element, onTitle) {
  const term = new Terminal({
    allowProposedApi: true, // the unicode versions are one
    fontFamily: FONTS,
    fontSize: settings.fontSize,
    lineHeight: 1.15, // At 1.0 some fonts lose their underscores to the row below.
    scrollback: SCROLLBACK,
    minimumContrastRatio: 4.5, // WCAG AA, whatever colours a program chooses
    screenReaderMode: settings.reader,
    cursorInactiveStyle: 'outline',
    linkHandler: { activate: (_, address) => openLink(address, true), allowNonHttpProtocols: false },
  });

  const fit = new FitAddon();
  term.loadAddon(fit);
  term.loadAddon(new Unicode11Addon());
  term.unicode.activeVersion = '11';
  term.loadAddon(new WebLinksAddon((_, address) => openLink(address, false)));
  element.hidden = false;
  term.open(element);
  const paint = () => paintAs(term);
  systemIsDark.addEventListener('change', paint);
  paint();
  for (const name of ['autocapitalize', 'autocorrect', 'autocomplete']) term.textarea.setAttribute(name, 'off');
  term.textarea.spellcheck = false;
  term.textarea.setAttribute('aria-describedby', 'leave');

  fit.fit();
  new ResizeObserver(() => requestAnimationFrame(() => fit.fit())).observe(element);
  term.onTitleChange((title) => onTitle(plain(title).slice(0, TITLE_MAX).trim()));
  term.parser.registerOscHandler(52, setClipboard);
  return { term, fit, paint };
}

function paintAs(term) {
  const isDark = settings.theme ? settings.theme === 'dark' : systemIsDark.matches;
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
  term.options.theme = isDark ? DARK : LIGHT;
}

// A link whose words a program chose (OSC 8) may lead elsewhere than it says, so it is shown first.
async function openLink(address, isNamed) {
  if (!/^https?:/i.test(address)) return;
  const opens = !isNamed || await ask({
    title: 'Open this link?', text: 'A program in the container made it. It leads to:', preview: plain(address), yes: 'Open',
  });
  if (opens) window.open(address, '_blank', 'noopener,noreferrer');
}

// OSC 52: a program may set the clipboard if that was allowed, and may never read it.
function setClipboard(text) {
  const [, data] = /^[a-z0-7]*;([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  if (!settings.osc52 || !data || data.length > CLIPBOARD_MAX) return true;
  try {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    navigator.clipboard?.writeText(new TextDecoder().decode(bytes)).catch(() => {});
  } catch {
    // Not base64 after all.
  }
  return true;
}

// A processor that plays a graphics card is slower than elements are.
function hasGraphicsCard() {
  const probe = document.createElement('canvas').getContext('webgl2', { failIfMajorPerformanceCaveat: true });
  if (!probe) return false;
  const unmasked = probe.getExtension('WEBGL_debug_renderer_info')?.UNMASKED_RENDERER_WEBGL;
  const card = probe.getParameter(unmasked ?? probe.RENDERER);
  probe.getExtension('WEBGL_lose_context')?.loseContext();
  return !/swiftshader|llvmpipe|software|basic render/i.test(card);
}

/** Draws with the graphics card, where there is one: loaded when there is nothing better to do. */
export function drawFaster(term) {
  // Over plain http a browser does not take the form in which this one is stored, and is served without.
  if (!isSecureContext || !hasGraphicsCard()) return;
  const load = async () => {
    try {
      const { WebglAddon } = await import('./addon-webgl.mjs');
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => webgl.dispose()); // then xterm.js draws with elements again
      term.loadAddon(webgl);
      document.body.dataset.drawn = 'webgl';
    } catch {
      // Not loaded or not working: what is there draws as well.
    }
  };
  if (window.requestIdleCallback) requestIdleCallback(load);
  else setTimeout(load, 500);
}

/** Changes how large the text is. */
export function setFontSize(term, fit, size) {
  set('fontSize', size);
  term.options.fontSize = size;
  fit.fit();
}

/** All that the terminal still has, as text. */
export function transcript(term) {
  const { normal } = term.buffer;
  let text = '';
  for (let at = 0; at < normal.length; at += 1) {
    const line = normal.getLine(at);
    text += (at === 0 || line.isWrapped ? '' : '\n') + line.translateToString(!normal.getLine(at + 1)?.isWrapped);
  }
  return `${text.trimEnd()}\n`;
}

// Lines that end between words; but what is there to be copied stays whole.
function broken(words, cols) {
  if (words.includes('; try: ')) return words;
  return words.replace(new RegExp(`(.{1,${cols}})( +|$)`, 'g'), '$1\r\n').trimEnd();
}

/**
 * Writes the last line of a session, after what a killed full-screen program leaves behind is gone: a half
 * escape sequence, the alternate screen, mouse reports; the soft reset sees to keyboard modes and colours.
 */
export function writeEnd(term, words) {
  term.write('\x18', () => {
    const screen = term.buffer.active;
    if (screen.type === 'alternate') term.write('\x1b[?1049l');
    else if (screen.cursorX > 0) term.write('\r\n');
    term.write(`\x1b[?1000;1002;1003;1006l\x1b[!p\x1b[K\x1b[90m${broken(words, term.cols)}\x1b[0m\r\n`);
  });
}
