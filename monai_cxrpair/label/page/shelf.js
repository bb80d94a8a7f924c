/* The next studies, leased to the reader and with their pictures loaded while the present one is read. */

import * as server from "./server.js";

export const LEASE = 15 * 60; // seconds that the server keeps a study for a reader
const FRESH = 10 * 60; // an older one is asked for anew, so that there is time to read it
const LARGEST = 4096; // the server sends no larger picture

/** The longer side to ask for: what the screen can show, in steps, so that the server's cache is of use. */
export function pictureSize() {
  const longest = Math.max(window.screen.width, window.screen.height, 1024) * (window.devicePixelRatio || 1);
  return Math.min(1024 * Math.ceil(longest / 1024), LARGEST);
}

/** Loads a study: `{id, leased, info, pictures: [promise]}`. A picture is tried until it comes or is refused. */
export function load(id) {
  const study = { id, leased: Date.now() / 1000, wanted: true };
  const wanted = () => study.wanted;
  study.info = server.persist(() => server.study(id), wanted);
  const size = pictureSize();
  const one = ({ k }) => server.persist(() => server.picture(id, k, size), wanted);
  study.pictures = study.info.then((info) => {
    const pictures = (info?.radiographs ?? []).map(one);
    for (const each of pictures) each.catch(() => undefined); // said where it is shown
    return pictures;
  });
  study.pictures.catch(() => undefined);
  return study;
}

export class Shelf {
  #ahead = [];
  #began = false;
  #asked = null;

  /**
   * @param settings with `reader` and `strategy`
   * @param outbox a study in it was answered, even where the server does not know that yet
   * @param progress called with the server's progress
   */
  constructor(settings, outbox, progress) {
    Object.assign(this, { settings, outbox, progress });
  }

  /** The next study, or null where nothing is left. */
  async next() {
    if (this.#asked) await this.#asked;
    const now = Date.now() / 1000;
    for (const old of this.#ahead.filter((each) => now - each.leased > FRESH)) old.wanted = false;
    this.#ahead = this.#ahead.filter((each) => each.wanted);
    if (this.#ahead.length) return this.#ahead.shift();
    await this.outbox.settled();
    const id = this.#began ? ((await this.#lease(true)) ?? (await this.#lease(false))) : await this.#lease(false);
    this.#began = true;
    return id === null ? null : load(id);
  }

  /** Lease and load one ahead. Failing is no matter: `next` asks again. */
  prefetch(current) {
    if (this.#asked || this.#ahead.length) return;
    const begun = this.settings;
    this.#asked = this.#lease(true)
      .then((id) => {
        if (id !== null && id !== current && begun === this.settings) this.#ahead.push(load(id));
      })
      .catch(() => undefined)
      .finally(() => {
        this.#asked = null;
      });
  }

  /** The reader will come back to this one. */
  putBack(study) {
    this.#ahead.unshift(study);
  }

  /** Other settings: what was chosen by the old ones goes back when its lease ends. */
  restart(settings) {
    for (const each of this.#ahead) each.wanted = false;
    this.#began = this.#began && settings.reader === this.settings.reader;
    this.#ahead = [];
    this.settings = settings;
  }

  async #lease(another) {
    const found = await server.worklist(this.settings.reader, this.settings.strategy, another);
    this.progress(found.progress);
    // Its answer waits in the outbox: to the server it is still being read.
    if (found.study !== null && this.outbox.holds(found.study)) return another ? null : this.#lease(true);
    return found.study;
  }
}
