// What the pages have in common: a terminal, and its text for the test.

import { Terminal } from '@xterm/xterm';

export function show(options) {
  const term = new Terminal(options);
  term.open(document.getElementById('terminal'));
  window.term = term;
  window.screenText = () => {
    const { active } = term.buffer;
    let text = '';
    for (let at = 0; at < active.length; at += 1) {
      const line = active.getLine(at);
      text += (line.isWrapped ? '' : '\n') + line.translateToString(true);
    }
    return text;
  };
  term.focus();
  return term;
}
