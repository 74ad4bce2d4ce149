// What the page asks for: a yes, a token, another container or shell.

const byId = (id) => document.getElementById(id);
const PREVIEW_MAX = 2000; // characters

// Shows a dialog until it is closed; answers which button did it, '' for none.
function shown(dialog) {
  if (dialog.open) return Promise.resolve('');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue), { once: true });
  });
}

/** Whether the answer is yes. */
export async function ask({ title, text, preview, yes }) {
  byId('question-title').textContent = title;
  byId('question-text').textContent = text;
  byId('question-preview').textContent = preview.length > PREVIEW_MAX ? `${preview.slice(0, PREVIEW_MAX)}…` : preview;
  byId('question-yes').textContent = yes;
  const answer = shown(byId('question'));
  byId('question-yes').focus();
  return await answer === 'yes';
}

/** A token, or '' if there is none to be had. It is not kept in the field. */
export async function askToken(why) {
  byId('login-text').textContent = why;
  const answer = await shown(byId('login'));
  const token = byId('token').value.trim().replace(/^Bearer\s+/i, '');
  byId('token').value = '';
  return answer === 'yes' ? token : '';
}

let openings = 0; // of the dialog for another shell: a slow answer to one is no answer to the next

/** Another container or shell of the pod: `{ container, shell, where }` with where it is to open, or nothing. */
export async function askShell({ where, container, shell, isLive, pod }) {
  byId('new-pod').textContent = where;
  byId('new-hint').textContent = isLive ? 'Opening it here ends the shell that is open now.' : '';
  const [list, name] = [byId('new-container'), byId('new-container-name')];
  list.hidden = true;
  name.hidden = false;
  name.value = container;
  const shells = byId('new-shell');
  shells.value = shell;
  if (shells.selectedIndex < 0) shells.selectedIndex = 0;
  const answer = shown(byId('new'));
  const opening = openings += 1;
  // Whoever may not read the pod names the container, and whoever has begun to is not interrupted.
  pod.then((found) => {
    if (!found || !byId('new').open || opening !== openings || name.value !== container) return;
    fillContainers(list, found, container);
    list.hidden = false;
    if (document.activeElement === name) list.focus();
    name.hidden = true;
  });
  const where_ = await answer;
  return where_ && { where: where_, container: (list.hidden ? name : list).value.trim(), shell: shells.value };
}

function fillContainers(list, { metadata, spec, status }, wanted) {
  const usual = metadata?.annotations?.['kubectl.kubernetes.io/default-container'];
  const options = (containers, kind) => (containers ?? []).map(({ name }) => {
    const isReady = status?.containerStatuses?.find((it) => it.name === name)?.ready ?? true;
    const facts = [name === usual && 'default', kind, !isReady && 'not ready'].filter(Boolean);
    return new Option(name + (facts.length ? ` (${facts.join(', ')})` : ''), name);
  });
  list.replaceChildren(...options(spec?.containers),
    ...options(spec?.ephemeralContainers, 'ephemeral'), ...options(spec?.initContainers, 'init'));
  list.value = wanted || usual || '';
  if (list.selectedIndex < 0) list.selectedIndex = 0;
}
