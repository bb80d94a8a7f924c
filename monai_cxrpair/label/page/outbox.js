/* Answers on their way to the server, in order. One is forgotten only when the server has it, or the reader says so. */

import * as server from "./server.js";
import { forget, keep, names, recall } from "./store.js";

const START = "answer.";

/**
 * "changed": something was added, sent or refused. "done" (detail: the progress or null): the server dealt with one.
 *
 * An item is `{name, study, finding, answer, reader, tried, withdrawn, refused}`. `tried`: it may have reached the
 * server although no answer came back. `withdrawn`: such a one, and the reader has undone it. `refused`: why.
 */
export class Outbox extends EventTarget {
  #items = [];
  #sending = null;
  #sent = null; // settles with the request that is on its way
  #running = false;

  /** Take up what an earlier visit, or one that was cut off, left behind. */
  open() {
    for (const name of names(START)) {
      try {
        const item = JSON.parse(recall(name));
        this.#items.push({ ...item, name, tried: true });
      } catch {
        forget(name); // not written by this page
      }
    }
    this.#run();
  }

  get waiting() {
    return this.#items.filter((item) => !item.refused && !item.withdrawn);
  }

  /** Whether one was tried in vain. */
  get stuck() {
    return this.#items.some((item) => item.tried && !item.refused);
  }

  get refused() {
    return this.#items.filter((item) => item.refused);
  }

  /** Whether nothing is lost when the page is closed for good. */
  get empty() {
    return this.#items.length === 0;
  }

  holds(study) {
    return this.#items.some((item) => item.study === study && !item.refused);
  }

  add(study, finding, answer, reader) {
    // The name sorts by time; the random end keeps two windows of one browser apart.
    const name = `${START}${String(Date.now()).padStart(15, "0")}.${Math.random().toString(36).slice(2, 8)}`;
    const item = { name, study, finding, answer, reader, tried: false, withdrawn: false, refused: null };
    this.#items.push(item);
    keep(name, JSON.stringify(item));
    this.#changed();
    this.#run();
  }

  /** Take the last answer back that is not at the server: the item, or null where the server has all. */
  async takeBack() {
    const last = this.waiting.at(-1);
    if (!last) return null;
    if (last === this.#sending) {
      await this.#sent;
      return this.takeBack();
    }
    if (last.tried) {
      last.withdrawn = true; // perhaps the server has it: that is looked up before the next one is sent
      keep(last.name, JSON.stringify(last));
    } else {
      this.#drop(last);
    }
    this.#changed();
    return last;
  }

  dismiss(name) {
    const item = this.#items.find((each) => each.name === name);
    if (item) this.#drop(item);
    this.#changed();
  }

  /** Wait for the request that is on its way, whatever becomes of it. */
  async settled() {
    while (this.#sending) await this.#sent;
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    for (let attempt = 1; ; ) {
      const item = this.#items.find((each) => !each.refused);
      if (!item) break;
      this.#sending = item;
      const sent = this.#send(item);
      this.#sent = sent.catch(() => undefined);
      let failed = null;
      try {
        const progress = await sent;
        this.#drop(item);
        this.#tell("done", progress);
        attempt = 1;
      } catch (error) {
        failed = error;
        item.tried = true;
        if (!(error instanceof server.ServerError && error.passing)) {
          item.refused = error.message;
          keep(item.name, JSON.stringify(item));
          failed = null;
          this.#tell("done", null);
        }
      }
      this.#sending = null;
      this.#changed();
      if (failed) await server.rest(server.pauseBefore(attempt++));
    }
    this.#running = false;
  }

  /** Gives the progress. */
  async #send(item) {
    if (item.tried) {
      // A second line of the same answer would outlive an undo, so ask before sending again.
      const known = await server.study(item.study);
      if (known.finding !== item.finding) {
        throw new server.ServerError(422, `the server now reads ${known.finding}, the answer was on ${item.finding}`);
      }
      const there = known.answer?.reader === item.reader && known.answer.answer === item.answer;
      if (item.withdrawn && there) return (await server.undo(item.reader)).progress;
      if (item.withdrawn || there) return server.progress();
    }
    return (await server.answer(item.study, item.answer, item.reader)).progress;
  }

  #drop(item) {
    this.#items = this.#items.filter((each) => each !== item);
    forget(item.name);
  }

  #changed() {
    this.#tell("changed", null);
  }

  #tell(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}
