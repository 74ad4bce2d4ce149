// Phones and tablets: the keys that their keyboards lack, room beside the keyboard, scrolling by touch.

const CURSOR = { ArrowUp: 'A', ArrowDown: 'B', ArrowRight: 'C', ArrowLeft: 'D' };
const KEYS = [
  ['Esc', 'Esc', '\x1b'], ['Tab', 'Tab', '\t'], ['Ctrl', 'Ctrl', null],
  ['←', 'Left', 'ArrowLeft'], ['↑', 'Up', 'ArrowUp'], ['↓', 'Down', 'ArrowDown'], ['→', 'Right', 'ArrowRight'],
  ['^C', '^C, interrupt', '\x03'], ['|', 'Pipe', '|'], ['/', 'Slash', '/'], ['-', 'Hyphen', '-'], ['~', 'Tilde', '~'],
];
const byId = (id) => document.getElementById(id);

/** Fills the row of keys; answers what is to become of what is typed, for Ctrl waits for the next key. */
export function addKeyRow(term) {
  let isHeld = false;
  const ctrl = document.createElement('button');
  const hold = (held) => {
    isHeld = held;
    ctrl.setAttribute('aria-pressed', held);
  };
  for (const [label, name, sends] of KEYS) {
    const button = sends === null ? ctrl : document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    button.setAttribute('aria-label', name);
    // The keyboard stays open only while the terminal keeps the focus.
    button.addEventListener('pointerdown', (event) => event.preventDefault());
    button.addEventListener('click', () => {
      if (sends === null) hold(!isHeld);
      else term.input(sequence(term, sends), true);
      term.focus();
    });
    byId('keys').append(button);
  }
  hold(false);
  return (data) => {
    if (!isHeld || data.length !== 1) return data;
    hold(false);
    const code = data.toUpperCase().charCodeAt(0);
    return code === 0x3f ? '\x7f' : code >= 0x40 && code < 0x60 ? String.fromCharCode(code & 0x1f) : data;
  };
}

function sequence(term, sends) {
  if (!Object.hasOwn(CURSOR, sends)) return sends;
  return (term.modes.applicationCursorKeysMode ? '\x1bO' : '\x1b[') + CURSOR[sends];
}

/** Keeps the page in what the keyboard leaves of the window. */
export function followKeyboard() {
  const view = window.visualViewport;
  if (!view) return;
  const follow = () => {
    // Zoomed in by hand, the page stays as it is.
    const isZoomed = view.scale > 1.01;
    document.body.style.height = isZoomed || Math.abs(innerHeight - view.height) < 1 ? '' : `${view.height}px`;
    document.body.style.translate = isZoomed || view.offsetTop < 1 ? '' : `0 ${view.offsetTop}px`;
  };
  view.addEventListener('resize', follow);
  view.addEventListener('scroll', follow);
  follow();
}

/** A finger moves the text, which xterm.js leaves to others; in a full-screen program it is the arrows. */
export function scrollByTouch(term) {
  const element = byId('terminal');
  let last = null, rest = 0;
  element.addEventListener('touchstart', ({ touches }) => {
    last = touches.length === 1 ? touches[0].clientY : null;
    rest = 0;
  }, { passive: true });
  element.addEventListener('touchmove', ({ touches }) => {
    if (last === null || touches.length !== 1) return;
    rest += last - touches[0].clientY;
    last = touches[0].clientY;
    const row = element.clientHeight / term.rows;
    const lines = Math.trunc(rest / row);
    rest -= lines * row;
    if (lines === 0) return;
    if (term.buffer.active.type === 'normal') term.scrollLines(lines);
    else term.input(sequence(term, lines > 0 ? 'ArrowDown' : 'ArrowUp').repeat(Math.abs(lines)), true);
  }, { passive: true });
}
