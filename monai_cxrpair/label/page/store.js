/* What this browser keeps: the reader's settings, and answers that are not sent yet. */

const PREFIX = "cxrpair.";
const memory = new Map(); // where the browser keeps nothing: then only until the page is closed

export const DEFAULTS = {
  reader: "",
  strategy: "mixed",
  layout: "side", // or "one": one large, the others small beside it
  showPrediction: false, // seen before the answer it sways the reader
  pause: false, // stay at the study after an answer
};

/** The text that is kept under a name, or null. */
export function recall(name) {
  try {
    return window.localStorage.getItem(PREFIX + name) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

/** Keep a text; false where it is kept only until the page is closed. */
export function keep(name, text) {
  try {
    window.localStorage.setItem(PREFIX + name, text);
    memory.delete(name);
    return true;
  } catch {
    memory.set(name, text);
    return false;
  }
}

/** Forget what is kept under a name. */
export function forget(name) {
  memory.delete(name);
  try {
    window.localStorage.removeItem(PREFIX + name);
  } catch {
    // nothing is kept
  }
}

/** The names under which something is kept that begin so. */
export function names(start) {
  const found = new Set([...memory.keys()].filter((name) => name.startsWith(start)));
  try {
    for (const key of Object.keys(window.localStorage)) {
      if (key.startsWith(PREFIX + start)) found.add(key.slice(PREFIX.length));
    }
  } catch {
    // nothing is kept
  }
  return [...found].sort();
}

/** The settings, with the defaults where nothing was chosen or what is kept cannot be read. */
export function readSettings() {
  try {
    const kept = JSON.parse(recall("settings")) ?? {};
    const known = Object.keys(DEFAULTS).filter((name) => typeof kept[name] === typeof DEFAULTS[name]);
    return { ...DEFAULTS, ...Object.fromEntries(known.map((name) => [name, kept[name]])) };
  } catch {
    return { ...DEFAULTS };
  }
}
