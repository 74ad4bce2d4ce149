// What a person has set, kept in this browser. Nothing else is: no token, no name, no text.

const KEY = 'podwire.settings';
const coarse = matchMedia('(pointer: coarse)');
const DEFAULTS = {
  fontSize: 14,
  theme: '', // as the system
  reader: false,
  askPaste: true,
  keys: coarse.matches,
};
export const FONT_MIN = 8;
export const FONT_MAX = 32;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // broken, or storage is not allowed here
  }
}

/** The settings now; `set` changes one. What programs may do to the clipboard is asked again in each tab. */
export const settings = { ...DEFAULTS, osc52: false };
for (const [name, value] of Object.entries(stored())) {
  if (Object.hasOwn(DEFAULTS, name) && typeof value === typeof DEFAULTS[name]) settings[name] = value;
}
settings.fontSize = Math.min(Math.max(Math.round(settings.fontSize) || 14, FONT_MIN), FONT_MAX);

export function set(name, value) {
  settings[name] = value;
  const changed = Object.keys(DEFAULTS).filter((key) => settings[key] !== DEFAULTS[key]);
  try {
    if (changed.length === 0) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(changed.map((key) => [key, settings[key]]))));
  } catch {
    // It holds for this tab, then.
  }
}
