/* The radiographs of a study, side by side or one large with the others small beside it. */

import * as server from "./server.js";
import { Viewport } from "./viewport.js";

const FULL = 0; // the server's word for: as it is

/** "shown" when all are there, or refused; `painted` then counts those that can be seen. */
export class Radiographs extends EventTarget {
  #views = [];
  #study = null;
  active = 0;
  painted = 0;

  constructor(place) {
    super();
    this.place = place;
  }

  /** Show a study's radiographs as they come. */
  async show(study, info) {
    this.clear();
    this.#study = study;
    this.#views = info.radiographs.map((each) => this.#build(each, info.radiographs.length));
    this.place.replaceChildren(...this.#views.map((view) => view.figure));
    this.place.dataset.count = info.radiographs.length;
    this.select(0);
    const pictures = await study.pictures;
    await Promise.all(this.#views.map((view, position) => this.#fill(study, view, pictures[position])));
    if (this.#study === study) this.dispatchEvent(new Event("shown"));
  }

  clear() {
    for (const view of this.#views) view.viewport.close();
    this.#views = [];
    this.#study = null;
    this.painted = 0;
    this.place.replaceChildren();
  }

  get count() {
    return this.#views.length;
  }

  /** The viewport that keys act on; undefined where there is none. */
  get viewport() {
    return this.#views[this.active]?.viewport;
  }

  /** All viewports. */
  get viewports() {
    return this.#views.map((view) => view.viewport);
  }

  select(position) {
    if (!this.#views.length) return;
    this.active = (position + this.#views.length) % this.#views.length;
    this.#views.forEach((view, at) => {
      view.figure.classList.toggle("active", at === this.active);
      view.canvas.setAttribute("aria-current", String(at === this.active));
    });
  }

  arrange(layout) {
    this.place.dataset.layout = layout;
  }

  /** Say what the classifier says of each, or nothing. */
  tell(info) {
    this.#views.forEach((view, position) => {
      const said = info?.radiographs[position].probability ?? null;
      view.said.textContent = said === null ? "" : ` · score ${said.toFixed(2)}`;
    });
  }

  /** Lay the heat maps over the radiographs, or take them away; throws what the server says against it. */
  async heat(on) {
    const study = this.#study;
    for (const view of this.#views) view.viewport.overlay(null);
    if (!on) {
      for (const view of this.#views) view.heated.hidden = true;
      return;
    }
    await Promise.all(
      this.#views
        .filter((view) => view.readable)
        .map(async (view) => {
          view.map ??= server.heatMap(study.id, view.k).catch((error) => {
            view.map = null;
            throw error;
          });
          const map = await view.map;
          if (this.#study !== study || !this.heatWanted()) return;
          view.viewport.overlay(map);
          view.heated.hidden = false;
        }),
    );
  }

  /** Replaced by the page: whether heat maps are still wanted when they arrive. */
  heatWanted() {
    return true;
  }

  #build({ k, laterality, view_position: position }, count) {
    const [figure, canvas, caption] = ["figure", "canvas", "figcaption"].map((tag) => document.createElement(tag));
    const more = position?.toLowerCase() === laterality ? "" : position; // some devices write LATERAL for any view
    const words = [laterality === "unknown" ? "view unknown" : laterality, more].filter(Boolean).join(" ");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Radiograph ${k + 1} of ${count}, ${words}`);
    const [what, said, heated, how, state] = ["what", "said", "heated", "how", "state"].map((name) => {
      const span = document.createElement("span");
      span.className = name;
      return span;
    });
    what.textContent = words;
    heated.textContent = "heat map on";
    heated.hidden = true;
    state.textContent = "Loading…";
    const left = document.createElement("span");
    left.append(what, said);
    caption.append(left, heated, how);
    figure.append(canvas, state, caption);
    const view = { k, figure, canvas, how, said, heated, state, readable: false, map: null };
    view.viewport = new Viewport(canvas, { changed: () => this.#describe(view), sharper: () => this.#sharpen(view) });
    return view;
  }

  async #fill(study, view, picture) {
    try {
      const found = await picture;
      if (!found || this.#study !== study) return;
      view.viewport.show({ ...found });
      view.state.remove();
      view.readable = true;
      this.painted += 1;
    } catch (error) {
      view.state.textContent = `This radiograph cannot be shown: ${error.message}`;
      view.figure.classList.add("broken");
    }
  }

  async #sharpen(view) {
    const study = this.#study;
    try {
      const full = await server.picture(study.id, view.k, FULL);
      if (this.#study === study) view.viewport.show(full);
    } catch {
      // the reduced one stays; that the server is away is said elsewhere
    }
  }

  #describe({ how, viewport }) {
    const percent = (value) => `${Math.round((100 * value) / 65535)} %`;
    const words = [`W ${percent(viewport.width)}`, `L ${percent(viewport.level)}`, `×${viewport.zoom.toFixed(1)}`];
    how.textContent = [...words, ...(viewport.inverted ? ["inverted"] : [])].join("  ");
  }
}
