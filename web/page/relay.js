// What the page asks the relay beside the session: what the pod consists of, and why there was no session.

const PATIENCE_MS = 10_000; // a relay that says nothing for so long says nothing at all

// A name that is none would make another address.
const NAME = /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/;

async function readPod({ cluster, namespace, pod }, token) {
  const isName = NAME.test(namespace) && NAME.test(pod) && !/^\.*$/.test(cluster || 'default');
  if (!isName) return null;
  const before = cluster ? `clusters/${encodeURIComponent(cluster)}/` : '';
  return fetch(`${before}api/v1/namespaces/${namespace}/pods/${pod}`, {
    headers: { Accept: 'application/json', ...(token && { Authorization: `Bearer ${token}` }) },
    cache: 'no-store', referrerPolicy: 'no-referrer', signal: AbortSignal.timeout(PATIENCE_MS),
  });
}

/** The pod, if whoever looks at this page may read it. */
export async function read(names, token) {
  try {
    const answer = await readPod(names, token);
    return answer?.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** Why a handshake failed, which a page is not told: from what the relay says to another question. */
export async function why(names, token) {
  try {
    const answer = await readPod(names, token);
    const message = await answer?.json().then((status) => status.message, () => '');
    if (answer?.status === 401) {
      // Of the ways to bring a token that the relay lists, a person at this page has one.
      const known = message && !/^a bearer token is needed/.test(message);
      return { kind: 'unauthorized', message: known ? message : 'this relay needs a bearer token', retry: false };
    }
    if (!answer || answer.status === 400) {
      return { kind: 'bad_request', message: message || 'a name in the address is none', retry: false };
    }
    return { message: 'The relay is there and refused: perhaps it takes no pages from this address (--public-url, --allow-origin).' };
  } catch {
    return { message: 'The relay cannot be reached.' };
  }
}
