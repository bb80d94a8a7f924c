/* The server's JSON and pictures. Addresses are relative to the page, so a proxy may put it anywhere. */

const QUICK = 20; // seconds; answers and the like
const SLOW = 120; // pictures, and the worklist, which waits for the first embedding of all radiographs
const FIRST_PAUSE = 1; // seconds until the first new try, doubled at each
const LONGEST_PAUSE = 30;

/** The server refused (`status` 4xx), failed (5xx), or did not answer (0). */
export class ServerError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status >= 500 || [401, 403, 408, 425, 429].includes(this.status);
  }
}

export const connection = new EventTarget(); // "reached", "away" (detail: why)

async function ask(path, { send, seconds = QUICK } = {}) {
  const request = { signal: AbortSignal.timeout(1000 * seconds), credentials: "same-origin" };
  if (send) {
    Object.assign(request, { method: "POST", body: JSON.stringify(send) });
    request.headers = { "Content-Type": "application/json" };
  }
  let error;
  try {
    const answer = await fetch(path, request);
    if (answer.ok) {
      // The body too: a server that dies in the middle of a picture has not answered.
      const json = (answer.headers.get("Content-Type") ?? "").includes("json");
      const body = json ? await answer.json() : await answer.arrayBuffer();
      connection.dispatchEvent(new Event("reached"));
      return { body, headers: answer.headers };
    }
    error = new ServerError(answer.status, await detail(answer));
  } catch (cause) {
    error = new ServerError(0, cause.name === "TimeoutError" ? `no answer for ${seconds} s` : "no connection");
  }
  connection.dispatchEvent(new CustomEvent(error.passing ? "away" : "reached", { detail: error.message }));
  throw error;
}

async function detail(answer) {
  try {
    const said = (await answer.json()).detail;
    if (typeof said === "string") return said;
    if (Array.isArray(said)) return said.map((each) => each.msg).join("; ");
  } catch {
    // a proxy answers in HTML
  }
  return `status ${answer.status}`;
}

const name = encodeURIComponent;

/** The study to read next: `{finding, study: id or null, progress}`. */
export async function worklist(reader, strategy, another) {
  return (await ask("api/worklist", { send: { reader, strategy, another }, seconds: SLOW })).body;
}

/** What is known of a study. */
export async function study(id) {
  return (await ask(`api/study/${name(id)}`)).body;
}

/** A radiograph: `{pixels: Uint16Array, rows, columns, reduced: whether it is larger at the server}`. */
export async function picture(id, k, size) {
  const { body, headers } = await ask(`api/study/${name(id)}/image/${k}.raw?size=${size}`, { seconds: SLOW });
  const [rows, columns] = [Number(headers.get("X-Rows")), Number(headers.get("X-Columns"))];
  if (!rows || !columns || body.byteLength !== 2 * rows * columns) {
    throw new ServerError(422, "what the server sent is not the radiograph that it announced");
  }
  return { pixels: new Uint16Array(body), rows, columns, reduced: Math.max(rows, columns) === size };
}

/** A heat map, to be drawn over the whole radiograph. */
export async function heatMap(id, k) {
  const { body } = await ask(`api/study/${name(id)}/heatmap/${k}.png`, { seconds: SLOW });
  return createImageBitmap(new Blob([body], { type: "image/png" }));
}

/** Send an answer. */
export async function answer(id, said, reader) {
  return (await ask(`api/study/${name(id)}/answer`, { send: { answer: said, reader } })).body;
}

/** Take the reader's last answer back: `{undone: answer or null, progress}`. */
export async function undo(reader) {
  return (await ask("api/undo", { send: { reader } })).body;
}

/** How far the reading is. */
export async function progress() {
  return (await ask("api/progress")).body;
}

const resting = new Set();

/** Wait, or until `wake`. */
export function rest(seconds) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      resting.delete(done);
      resolve();
    };
    const timer = setTimeout(done, 1000 * seconds);
    resting.add(done);
  });
}

/** Try everything again now that waits for the server. */
export function wake() {
  for (const done of [...resting]) done();
}

/** How long to wait before a new try. */
export function pauseBefore(attempt) {
  return Math.min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE);
}

/** Try until it succeeds, the server refuses for good, or nobody wants it any more (then: undefined). */
export async function persist(action, wanted = () => true) {
  for (let attempt = 1; wanted(); attempt += 1) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof ServerError && error.passing)) throw error;
      await rest(pauseBefore(attempt));
    }
  }
  return undefined;
}

window.addEventListener("online", wake);
