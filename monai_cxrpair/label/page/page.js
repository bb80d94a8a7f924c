/* The reading page: which study is shown, what the reader says of it, and what keys and buttons do. */

import { bindInputs } from "./inputs.js";
import { Outbox } from "./outbox.js";
import * as panel from "./panel.js";
import { Radiographs } from "./radiographs.js";
import * as server from "./server.js";
import { LEASE, load, Shelf } from "./shelf.js";
import { keep, readSettings } from "./store.js";

const TOO_QUICK = 400; // ms; a key that was meant for the study before cannot answer this one
const PATIENCE = 3; // seconds until the page says that it waits

const element = (id) => document.getElementById(id);
let settings = readSettings();
let progress = null;
let current = null; // the study on the screen: what `load` gives, and `data`, what the server says of it
let phase = "start"; // "loading", "reading", "answered" (with the setting `pause`), "done"
let shownAt = 0;
let turn = 0; // counts what the reader asked for; an older request that comes late changes nothing
let undoing = false;
let history = []; // the reader's answers in this window: {info, answer}
let told = false; // the reader sees the prediction
let heated = false;

const radiographs = new Radiographs(element("radiographs"));
radiographs.heatWanted = () => heated;
const outbox = new Outbox();
const shelf = new Shelf(settings, outbox, (found) => {
  progress = found;
  tellProgress();
});

function say(text) {
  element("notice").textContent = text;
}

function tellProgress() {
  panel.showProgress(progress, outbox.waiting.length);
  panel.showRefused(outbox.refused, (name) => outbox.dismiss(name));
}

/** The server answers; but an answer that was tried in vain is still here. */
function tellReached() {
  if (!outbox.stuck) element("away").hidden = true;
}

function setPhase(now) {
  phase = now;
  document.body.dataset.phase = now;
  for (const button of document.querySelectorAll("[data-answer]")) button.disabled = now !== "reading";
  element("show-prediction").disabled = element("heat").disabled = !["reading", "answered"].includes(now);
  element("next-text").textContent = now === "answered" ? "Next" : "Skip";
  element("empty").hidden = now !== "done";
}

/** Show or hide the prediction of the study on the screen. */
function tell(on) {
  told = on && current !== null;
  const info = told ? current.data : null;
  panel.showPrediction(info);
  radiographs.tell(info);
}

async function heat(on) {
  heated = on && current !== null;
  element("heat").setAttribute("aria-pressed", String(heated));
  const asked = turn;
  try {
    await radiographs.heat(heated);
  } catch (error) {
    if (asked !== turn) return;
    heated = false;
    element("heat").setAttribute("aria-pressed", "false");
    say(`No heat map: ${error.message}`);
  }
}

function leave() {
  turn += 1;
  current = null;
  heat(false);
  tell(false);
  radiographs.clear();
  element("invert").setAttribute("aria-pressed", "false");
  element("study-name").textContent = "\u00a0";
  setPhase("loading");
}

/** Put a study on the screen and get the next one ready. */
async function show(study) {
  leave();
  const asked = turn;
  const slow = setTimeout(() => say("Loading…"), 1000 * PATIENCE);
  try {
    study.data = await study.info;
    if (asked !== turn || !study.data) return;
    current = study;
    const finding = panel.plain(study.data.finding);
    element("finding").textContent = finding;
    element("question").textContent = `${finding}?`;
    element("study-name").textContent = `Study ${panel.short(study.id)}`;
    tell(settings.showPrediction);
    await radiographs.show(study, study.data);
    if (asked !== turn) return;
    shownAt = performance.now();
    setPhase("reading");
    if (!radiographs.painted) say("No radiograph of this study can be shown: N goes on without an answer.");
    else if (element("notice").textContent === "Loading…") say("");
    shelf.prefetch(study.id);
  } catch (error) {
    if (asked === turn) await stop("This study cannot be shown", error.message);
  } finally {
    clearTimeout(slow);
  }
}

/** Go on to the next study. */
async function advance() {
  leave();
  const asked = turn;
  const words = "The server is getting the studies ready. The first time that takes a while.";
  const slow = setTimeout(() => say(words), 1000 * PATIENCE);
  try {
    const found = await server.persist(() => shelf.next(), () => asked === turn);
    if (found === undefined) return;
    if (asked !== turn) {
      if (found) shelf.putBack(found);
      return;
    }
    if (element("notice").textContent === words) say("");
    if (found) await show(found);
    else await nothingLeft();
  } catch (error) {
    if (asked === turn) await stop("The server gives no study", error.message);
  } finally {
    clearTimeout(slow);
  }
}

async function nothingLeft() {
  const { answered, studies, being_read: others, unreadable } = progress ?? {};
  const rest = [
    others ? `${others} ${others === 1 ? "is" : "are"} being read by other readers.` : "",
    unreadable ? `${unreadable} cannot be read.` : "",
  ];
  await stop("Nothing is left to read", [`${answered} of ${studies} studies are answered.`, ...rest].join(" ").trim());
}

async function stop(title, text) {
  leave();
  element("empty-title").textContent = title;
  element("empty-text").textContent = text;
  setPhase("done");
  say("");
}

function answer(said) {
  if (undoing || phase === "loading") return say("Not yet: the radiographs are not shown.");
  if (phase === "answered") return say("This study is answered: Backspace undoes that, N goes on.");
  if (phase !== "reading") return undefined;
  if (!radiographs.painted) return say("No radiograph is shown: there is nothing to answer.");
  if (performance.now() - shownAt < TOO_QUICK) return say("Too quick: this study has only just appeared.");
  const { id, data } = current;
  outbox.add(id, data.finding, said, settings.reader);
  history.push({ info: data, answer: said });
  panel.showLast(history.at(-1));
  say(`${panel.WORDS[said]}. Backspace undoes it.`);
  if (!settings.pause) return advance();
  setPhase("answered");
  return tell(true);
}

async function undo() {
  if (undoing || phase === "start") return;
  undoing = true;
  try {
    const back = (await outbox.takeBack()) ?? (await server.undo(settings.reader));
    if (back.progress) progress = back.progress;
    const study = "undone" in back ? back.undone?.study : back.study;
    if (!study) return say("There is no answer of yours to undo.");
    if (history.at(-1)?.info.study === study) history.pop();
    panel.showLast(history.at(-1) ?? null);
    if (current && current.id !== study && phase !== "answered") shelf.putBack(current);
    say("Undone: answer this study again.");
    show(load(study));
  } catch (error) {
    say(`Not undone: ${error.message}.`);
  } finally {
    undoing = false;
    tellProgress();
  }
}

function next() {
  if (phase === "start" || phase === "loading") return;
  if (phase === "reading") say("Skipped. It comes again later.");
  else say("");
  advance();
}

function change(settled) {
  const before = settings;
  settings = { ...settings, ...settled };
  if (!keep("settings", JSON.stringify(settings))) say("This browser keeps no settings: they hold until you leave.");
  radiographs.arrange(settings.layout);
  element("reader-name").textContent = settings.reader || "none";
  element("strategy").value = settings.strategy;
  element("layout").setAttribute("aria-pressed", String(settings.layout === "one"));
  const other = settings.reader !== before.reader;
  if (other) {
    history = [];
    panel.showLast(null);
  }
  if (other || settings.strategy !== before.strategy) shelf.restart(settings);
  else shelf.settings = settings;
  if (settings.showPrediction !== before.showPrediction && phase === "reading") tell(settings.showPrediction);
  if (other && settings.reader) advance(); // what the reader before had on the screen stays theirs
}

server.connection.addEventListener("away", ({ detail }) => {
  element("away-text").textContent = `Trouble with the server: ${detail}. Your answers are kept here and sent later.`;
  element("away").hidden = false;
});
server.connection.addEventListener("reached", tellReached);
outbox.addEventListener("changed", tellProgress);
outbox.addEventListener("done", ({ detail }) => {
  progress = detail ?? progress;
  tellReached();
});
window.addEventListener("beforeunload", (event) => {
  if (!outbox.empty) event.preventDefault();
});
setInterval(() => {
  if (phase === "reading" && Date.now() / 1000 - current.leased > LEASE) {
    say("You have had this study for 15 minutes: another reader may be given it. Should it be refused, you are told.");
  }
}, 20_000);

bindInputs({
  answer, undo, next, change, radiographs, say,
  settings: () => settings,
  again: advance,
  tell: () => ["reading", "answered"].includes(phase) && tell(!told),
  heat: () => ["reading", "answered"].includes(phase) && heat(!heated),
});
setPhase("start");
outbox.open();
change({});
if (settings.reader) advance();
else element("reader-dialog").showModal();
