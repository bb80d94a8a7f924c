/* Keys, mouse and buttons. */

import { wake } from "./server.js";

const PAN = 60; // CSS pixels of an arrow key
const WINDOW = 0.04; // part of all grey levels of an arrow key with Shift
const WHEEL = 100; // what one notch of a wheel reports

const element = (id) => document.getElementById(id);
let windowing = false; // W is held

/** Connect the page's actions. */
export function bindInputs(page) {
  bindKeys(page);
  bindPointer(page);
  bindButtons(page);
}

function invert({ radiographs }) {
  for (const viewport of radiographs.viewports) viewport.invert();
  element("invert").setAttribute("aria-pressed", String(radiographs.viewport?.inverted ?? false));
}

function reset({ radiographs }) {
  for (const viewport of radiographs.viewports) viewport.reset();
  element("invert").setAttribute("aria-pressed", "false");
}

function layout(page) {
  page.change({ layout: page.settings().layout === "one" ? "side" : "one" });
}

const help = () => element("help-dialog").showModal();

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function arrow({ radiographs }, event) {
  const [across, down] = ARROWS[event.key];
  if (event.shiftKey) radiographs.viewport?.window(across * WINDOW, down * WINDOW);
  else radiographs.viewport?.pan(-across * PAN, -down * PAN);
}

function bindKeys(page) {
  const answers = { 1: "present", p: "present", 2: "absent", a: "absent", 3: "uncertain", u: "uncertain" };
  const once = { n: page.next, s: page.tell, h: page.heat, r: () => reset(page), i: () => invert(page) };
  Object.assign(once, { t: () => layout(page), "?": help, backspace: page.undo });
  for (const [key, said] of Object.entries(answers)) once[key] = () => page.answer(said);
  const held = { "+": () => page.radiographs.viewport?.zoomBy(1), "-": () => page.radiographs.viewport?.zoomBy(-1) };
  held["="] = held["+"];
  once["["] = () => page.radiographs.select(page.radiographs.active - 1);
  once["]"] = () => page.radiographs.select(page.radiographs.active + 1);
  for (const key of Object.keys(ARROWS)) held[key.toLowerCase()] = (event) => arrow(page, event);

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.target.closest?.("input, select, textarea")) return;
    const key = event.key.toLowerCase();
    if (key === "w") windowing = !event.ctrlKey && !event.metaKey && !event.altKey;
    const takeBack = key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
    // A key with Ctrl or Alt is the browser's; AltGr writes [ and ] on many keyboards.
    const others = event.ctrlKey || event.metaKey || event.altKey;
    const own = !others || event.getModifierState("AltGraph");
    const action = takeBack ? page.undo : own && (once[key] ?? held[key]);
    if (!action) return;
    event.preventDefault();
    if (event.repeat && !held[key]) return; // a key that is held down answers one study, not ten
    action(event);
  });
  document.addEventListener("keyup", (event) => {
    if (event.key.toLowerCase() === "w") windowing = false;
  });
  window.addEventListener("blur", () => {
    windowing = false;
  });
}

function bindPointer({ radiographs }) {
  const { place } = radiographs;
  let drag = null;
  const at = (target) => [...place.querySelectorAll("canvas")].indexOf(target);
  place.addEventListener("contextmenu", (event) => event.preventDefault());
  place.addEventListener("pointerdown", (event) => {
    const position = at(event.target);
    if (position < 0) return;
    const small = place.dataset.layout === "one" && position !== radiographs.active;
    radiographs.select(position);
    if (small) return; // the first press makes it the large one
    event.target.setPointerCapture(event.pointerId);
    drag = { canvas: event.target, x: event.clientX, y: event.clientY, window: event.button === 2 || windowing };
    event.target.classList.add(drag.window ? "windowing" : "panning");
  });
  place.addEventListener("pointermove", (event) => {
    if (!drag || event.target !== drag.canvas) return;
    const [x, y] = [event.clientX - drag.x, event.clientY - drag.y];
    [drag.x, drag.y] = [event.clientX, event.clientY];
    const side = Math.min(drag.canvas.clientWidth, drag.canvas.clientHeight);
    if (drag.window) radiographs.viewport?.window(x / side, y / side);
    else radiographs.viewport?.pan(x, y);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    place.addEventListener(end, () => {
      drag?.canvas.classList.remove("windowing", "panning");
      drag = null;
    });
  }
  const wheel = (event) => {
    const position = at(event.target);
    if (position < 0) return;
    event.preventDefault();
    const box = event.target.getBoundingClientRect();
    const pixels = event.deltaY * [1, 40, 400][event.deltaMode]; // pixels, lines, pages
    const steps = Math.min(Math.max(-pixels / WHEEL, -3), 3);
    radiographs.viewports[position].zoomBy(steps, { x: event.clientX - box.left, y: event.clientY - box.top });
  };
  place.addEventListener("wheel", wheel, { passive: false });
  place.addEventListener("focusin", (event) => {
    // By the keyboard only: a press is dealt with above.
    if (event.target.matches(":focus-visible") && at(event.target) >= 0) radiographs.select(at(event.target));
  });
}

function bindButtons(page) {
  const actions = {
    undo: page.undo, next: page.next, again: page.again, "try-now": wake, "show-prediction": page.tell, heat: page.heat,
    reset: () => reset(page), invert: () => invert(page), layout: () => layout(page), help,
    "zoom-in": () => page.radiographs.viewport?.zoomBy(1),
    "zoom-out": () => page.radiographs.viewport?.zoomBy(-1),
    settings: () => {
      element("set-prediction").checked = page.settings().showPrediction;
      element("set-pause").checked = page.settings().pause;
      element("settings-dialog").showModal();
    },
    reader: () => {
      element("reader-field").value = page.settings().reader;
      element("reader-dialog").showModal();
    },
  };
  for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", () => action());
  for (const button of document.querySelectorAll("[data-answer]")) {
    button.addEventListener("click", () => page.answer(button.dataset.answer));
  }
  element("strategy").addEventListener("change", (event) => {
    page.change({ strategy: event.target.value });
    event.target.blur(); // the next key is an answer, not another strategy
  });
  for (const [id, name] of [["set-prediction", "showPrediction"], ["set-pause", "pause"]]) {
    element(id).addEventListener("change", (event) => page.change({ [name]: event.target.checked }));
  }
  element("reader-dialog").addEventListener("close", () => {
    const name = element("reader-field").value.trim();
    if (name) page.change({ reader: name });
    else if (!page.settings().reader) element("reader-dialog").showModal(); // an answer needs a reader
  });
}
