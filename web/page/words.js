// What the page says, from what the relay says.

// A command at the end of a sentence is there to be copied, and has no full stop.
export const sentence = (words) =>
  words && words[0].toUpperCase() + words.slice(1) + (/; try: |[.!?…]$/.test(words) ? '' : '.');

// One line, whoever wrote it: no control characters, and none that turn the direction of what follows.
export const plain = (words) => words.replace(/[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, ' ');

/** `namespace/pod/container on cluster`. */
export const place = ({ namespace, pod, container, cluster }) =>
  [namespace, pod, container].filter(Boolean).join('/') + (cluster ? ` on ${cluster}` : '');

// What to do where another try alone does not help.
const ADVICE = {
  unauthorized: 'Give it a token, or log in again and reload this page',
  forbidden: 'Ask whoever runs the cluster for that right',
  revoked: 'Ask whoever runs the cluster, if that was a mistake',
  not_found: 'It may have been replaced: look at the names, and choose another one',
  bad_request: 'Look at the names in the address',
  protocol_error: 'Reload this page: it may be older than the relay',
  failed: 'Another shell may start: see “Container and shell”',
  cluster_protocol: 'Whoever runs the relay finds the reason in its log',
};

/** The ending in words: "Ended: exit code 3." or "Ended (forbidden). You may not … Ask whoever …". */
export function endWords({ kind, exitCode, message }) {
  const code = Number.isInteger(exitCode) ? `exit code ${exitCode}` : '';
  const parts = (message?.includes(code) ? [message] : [code, message]).filter(Boolean);
  const [first, ...rest] = parts;
  const words = kind === 'exit' ? [first ? `Ended: ${first}` : 'Ended', ...rest] : [`Ended (${kind})`, ...parts];
  // Where the relay's own words say what to type, that is what to do.
  const advice = Object.hasOwn(ADVICE, kind) && !/try: |kubectl /.test(message) ? [ADVICE[kind]] : [];
  return plain([...words, ...advice].map(sentence).join(' '));
}

/** Whether Enter may open the session again. */
export const mayRetry = ({ kind, retry }) => retry || kind === 'exit';

const REMEDIES = {
  no_shell: [/; try: (.+)$/, 'Try'],
  forbidden: [/to grant (?:it|them): (kubectl [^()]+)\)$/, 'To grant it'],
};

/**
 * Some sentences of the relay end with a command to type elsewhere: `[end, command, label]` of those, where the
 * end is what stands in the sentence for it.
 */
export function remedy({ kind, message }) {
  const [pattern, label] = Object.hasOwn(REMEDIES, kind) ? REMEDIES[kind] : [];
  const [end, command] = pattern?.exec(message) ?? ['', ''];
  return [end, command, label ?? ''];
}
