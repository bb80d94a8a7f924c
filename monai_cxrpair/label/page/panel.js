/* The words and figures of the panel beside the radiographs. */

const element = (id) => document.getElementById(id);
export const WORDS = { present: "● Present", absent: "○ Absent", uncertain: "? Uncertain" };

/** `pleural_effusion` as a reader says it. */
export function plain(finding) {
  const words = finding.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A study's pseudonym, short enough to be read aloud. */
export function short(study) {
  return study.length > 12 ? `${study.slice(0, 10)}…` : study;
}

function decision({ positive }) {
  if (positive === null || positive === undefined) return "";
  return positive ? "▲ positive" : "▽ negative";
}

/** The prediction, `info` null: hidden. */
export function showPrediction(info) {
  element("prediction-hidden").hidden = info !== null;
  element("prediction-shown").hidden = info === null;
  element("show-prediction").setAttribute("aria-pressed", String(info !== null));
  element("show-prediction").firstChild.textContent = info === null ? "Show " : "Hide ";
  if (info === null) {
    for (const id of ["probability", "decision", "explanation"]) element(id).textContent = "";
    return;
  }
  const { probability, calibrated = null, threshold } = info;
  const shown = calibrated ?? probability;
  element("probability").textContent = shown === null ? "No prediction" : `${Math.round(100 * shown)} %`;
  element("decision").textContent = shown === null ? "" : decision(info);
  const words = [];
  if (shown === null) words.push("No radiograph of this study can be read by the classifier.");
  else if (calibrated === null) words.push("Score, not calibrated.");
  else words.push(`Calibrated probability; score ${probability.toFixed(2)}.`);
  if (threshold !== null) words.push(`Positive from score ${threshold.toFixed(2)} on.`);
  if (info.radiographs.length > 1) words.push("The study's score is the highest of its radiographs.");
  element("explanation").textContent = words.join(" ");
  // The bar is the score, which is what the threshold is compared with. Set here: the page allows no style attributes.
  element("bar").style.width = `${100 * (probability ?? 0)}%`;
  element("tick").hidden = threshold === null;
  element("tick").style.left = `${100 * (threshold ?? 0)}%`;
}

/** The reader's last answer and, now that it is given, what the classifier says. */
export function showLast(last) {
  element("last").hidden = last === null;
  if (last === null) return;
  const { answer, info } = last;
  element("last-text").textContent = `${WORDS[answer]} · study ${short(info.study)}`;
  const shown = info.calibrated ?? info.probability;
  const says = shown === null ? "no prediction" : `${Math.round(100 * shown)} % ${decision(info)}`;
  element("last-prediction").textContent = `Classifier: ${says}`;
}

/** How far the reading is; `waiting` answers are not at the server yet. */
export function showProgress(progress, waiting) {
  if (progress) {
    const { studies, answered, being_read: others, unreadable, answers } = progress;
    Object.assign(element("progress"), { max: Math.max(studies, 1), value: answered });
    const more = [others ? `${others} being read` : "", unreadable ? `${unreadable} unreadable` : ""].filter(Boolean);
    element("progress-text").textContent = [`${answered} of ${studies} answered`, ...more].join(" · ");
    const counts = ["present", "absent", "uncertain"].map((name) => `${answers[name] ?? 0} ${name}`);
    element("progress-answers").textContent = counts.join(" · ");
  }
  const one = waiting === 1 ? "1 answer is" : `${waiting} answers are`;
  element("progress-waiting").textContent = waiting ? `${one} waiting to be sent` : "";
}

/** Answers that the server did not take, until the reader has seen them. */
export function showRefused(items, dismiss) {
  const entries = items.map(({ name, study, answer, refused, withdrawn }) => {
    const [entry, text, button] = ["div", "p", "button"].map((tag) => document.createElement(tag));
    const what = withdrawn ? "Not undone" : "Not saved";
    text.textContent = `${what}: ${WORDS[answer] ?? answer} · study ${short(study)}. ${refused}`;
    Object.assign(button, { type: "button", textContent: "Understood" });
    button.addEventListener("click", () => dismiss(name));
    entry.append(text, button);
    return entry;
  });
  element("refused").replaceChildren(...entries);
}
