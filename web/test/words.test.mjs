// The page's sentences, for every way in which a session ends.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { endWords, mayRetry, place, plain, remedy } from '../page/words.js';

/** The table of endings as the relay's own notes have it: kind and whether a retry makes sense. */
const TABLE = readFileSync(new URL('../../proto-notes/session.md', import.meta.url), 'utf8').split('\n## Endings\n')[1]
  .split('\n').filter((line) => /^\| [a-z]/.test(line)).map((line) => line.split('|').map((cell) => cell.trim()))
  .filter((cells) => ['yes', 'no'].includes(cells[4])).map(([, kind, , , retry]) => ({ kind, retry: retry === 'yes' }));

test('every ending says what it is, why, and what to do next', () => {
  assert.ok(TABLE.length >= 20, `${TABLE.length}`);
  for (const { kind, retry } of TABLE) {
    const end = { kind, exitCode: kind === 'exit' ? 3 : null, message: kind === 'exit' ? 'exit code 3' : 'because of that', retry };
    const words = endWords(end);
    if (kind === 'exit') assert.equal(words, 'Ended: exit code 3.');
    else assert.ok(words.startsWith(`Ended (${kind}). Because of that.`), words);
    // A kind for which Enter does nothing has another way out; where there is no shell it is in the sentence.
    if (!mayRetry(end) && kind !== 'no_shell') assert.ok(words.length > `Ended (${kind}). Because of that. `.length, words);
  }
});

test('where the relay says what to type, nothing is added', () => {
  const words = endWords({ kind: 'forbidden', message: 'you may not; an admin types: kubectl create rolebinding x' });
  assert.equal(words, 'Ended (forbidden). You may not; an admin types: kubectl create rolebinding x.');
  const message = 'no shell found; try: kubectl debug -it shell';
  assert.equal(endWords({ kind: 'no_shell', message }), 'Ended (no_shell). No shell found; try: kubectl debug -it shell');
  assert.deepEqual(remedy({ kind: 'no_shell', message }), ['; try: kubectl debug -it shell', 'kubectl debug -it shell', 'Try']);
  const grant = 'not allowed (create is missing; to grant it: kubectl create role a && kubectl create rolebinding b)';
  assert.equal(remedy({ kind: 'forbidden', message: grant })[1], 'kubectl create role a && kubectl create rolebinding b');
  assert.deepEqual(remedy({ kind: 'failed', message }), ['', '', '']);
});

test('an exit code is said once, and none is made up', () => {
  const exit = (exitCode, message) => endWords({ kind: 'exit', exitCode, message });
  assert.equal(exit(0, 'exit code 0'), 'Ended: exit code 0.');
  assert.equal(exit(1, 'it broke'), 'Ended: exit code 1. It broke.');
  assert.equal(exit(null, 'it is over'), 'Ended: it is over.');
  assert.equal(exit(null, ''), 'Ended.');
});

test('nothing of a sentence can act on the page or the terminal', () => {
  assert.equal(plain('a\x1b[2Jb\u202ec\nd\u2066e\x9bf'), 'a [2Jb c d e f');
  assert.doesNotMatch(endWords({ kind: 'failed', message: 'x\x1b]0;y\x07' }), /[\x00-\x1f]/);
});

test('a place is named as far as it is known', () => {
  assert.equal(place({ namespace: 'a', pod: 'b', container: 'c', cluster: 'd' }), 'a/b/c on d');
  assert.equal(place({ namespace: 'a', pod: 'b', container: null }), 'a/b');
});
