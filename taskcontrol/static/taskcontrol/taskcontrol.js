/**
 * Live tasks in the browser: progress bars, and every change of status as it happens.
 *
 * One ES module without imports and without a build. It asks one stream for everything that
 * the page watches (or polls where the server does not stream) and believes only what the
 * server read from its rows: a page that opens late, loses its connection or misses news
 * shows the truth within a second.
 *
 * @module taskcontrol
 */

/**
 * What the server tells of a task.
 * @typedef {object} TaskState
 * @property {string} name The key of the task.
 * @property {string} job_name Its label.
 * @property {string} status Pending, Paused, Queued, Started, Finished, Failed or Canceled.
 * @property {boolean} ended Whether it will not go on by itself: a retry may be due after a failure.
 * @property {boolean} stopping Whether the body of an ended task is still to go.
 * @property {any} message What the task said last: a text or `{progress: {count, total, description}}`.
 * @property {string | null} error The last line of its error.
 * @property {string | null} batch_id
 * @property {number | null} batch_done Members of its batch that ended, of a task that has one.
 * @property {number | null} batch_total
 * @property {number} rev Grows with every change.
 * @property {number} attempt
 * @property {string} created_at
 * @property {string | null} queued_at
 * @property {string | null} started_at
 * @property {string | null} ended_at
 * @property {string | null} retry_at
 * @property {string} at When this was read, by the server's clock.
 * @property {{count?: number, total?: number, description?: string, eta_s?: number | null} | null} progress
 */

/**
 * What the server tells of a batch, with the member that brought the news.
 * @typedef {object} BatchState
 * @property {string} batch_id
 * @property {number} batch_done Members that ended.
 * @property {number} batch_total
 * @property {number} failed
 * @property {number} canceled
 * @property {boolean} ended
 * @property {Record<string, number>} statuses
 * @property {string} title
 * @property {string | null} [name] The member.
 * @property {string | null} [job_name]
 * @property {string | null} [status]
 * @property {any} [message]
 * @property {string | null} [error]
 */

/**
 * @typedef {object} Wish
 * @property {(string | number)[]} [tasks] Keys of tasks.
 * @property {string[]} [batches] Ids of batches; they need not exist yet.
 * @property {boolean} [own] All tasks of the person who is logged in.
 * @property {string[]} [tokens] What opens tasks and batches to a page without a login.
 */

/** @typedef {{kind: "task" | "own", state: TaskState} | {kind: "batch", state: BatchState}} News */
/** @typedef {{wish: Required<Wish>, tell: (news: News) => void}} Subscription */

/** @typedef {object} BarOptions
 * @property {string} [title]
 * @property {(event: any) => void} [onEvent] Called with every event, also of a failed task.
 * @property {boolean} [hideOnCompletion] Whether the bar goes away at the end; true.
 * @property {Element} [element] Where the bar is put; by default into a tray in the corner.
 * @property {string} [token] See `Wish.tokens`.
 * @property {AbortSignal} [signal] Ends the watch.
 */

const POLL_FROM = 1000;
const POLL_TO = 5000;
const POLL_HIDDEN = 15000;
/** Milliseconds before a page that polls tries to stream again. */
const POLL_AT_LEAST = 30000;
/** Streams of all tabs of one browser: over HTTP/1.1 it opens six connections to a server. */
const SEATS = 3;
/** Milliseconds without any word, pings too, after which a stream is taken for dead. */
const SILENCE = 40000;
/** Milliseconds for which a full bar is seen before it goes. */
const LINGER = 500;
/** Tasks that the server answers at once. */
const MOST_ASKED = 200;

const LABELS = {
  "Task {name}": "Task {name}",
  "Processing…": "Processing…",
  "Starting…": "Starting…",
  "{count} (expected {total})": "{count} (expected {total})",
  "{label}: {status}": "{label}: {status}",
  "{name} failed": "{name} failed",
  "{count} failed": "{count} failed",
  "about {time} left": "about {time} left",
  Close: "Close",
  Pending: "Pending",
  Paused: "Paused",
  Queued: "Queued",
  Started: "Started",
  Finished: "Finished",
  Failed: "Failed",
  Canceled: "Canceled",
};

const config = {
  /** @type {"stream" | "poll"} */
  transport: "stream",
  stream: "",
  state: "",
  /** Address of `POST …/<key>/<cancel or retry>`, with 0 for the key and "act" for the verb. */
  act: "",
  csrf: "",
  /** @type {Record<string, string>} */
  labels: LABELS,
};

/**
 * Set addresses, transport and labels; `{% taskcontrol_js %}` does it on its own.
 * @param {Partial<typeof config>} given
 */
export function configure(given) {
  Object.assign(config, given, { labels: { ...config.labels, ...given.labels } });
}

const block = document.getElementById("taskcontrol-config");
if (block?.textContent) configure(JSON.parse(block.textContent));

/**
 * @param {string} text
 * @param {Record<string, unknown>} [values]
 */
function say(text, values = {}) {
  const label = config.labels[text] ?? text;
  return label.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/* The feed: one connection for everything that the page watches. */

/** @type {Set<Subscription>} */
const subscriptions = new Set();
/** @type {Map<string, TaskState>} */
const tasks = new Map();
/** @type {Map<string, BatchState>} */
const batches = new Map();
/** Since when own tasks are asked for; null while they are not. @type {number | null} */
let ownSince = null;
/** Whether the own tasks were told once: what comes later and is unknown is new. */
let ownKnown = false;
/** @type {EventSource | null} */
let source = null;
let asked = "";
let heardAt = 0;
let wait = POLL_FROM;
let tag = "";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let pollTimer;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let openTimer;
let pollUntil = 0;
/** Counts openings and closings, so that what waited for a seat knows whether it is late. */
let turn = 0;
/** @type {(() => void) | null} */
let leave = null;

/** Return what the page wants as a query, in an order that does not depend on who asked. */
function query() {
  const all = { tasks: new Set(), batches: new Set(), tokens: new Set(), own: false };
  for (const { wish } of subscriptions) {
    wish.tasks.forEach((key) => all.tasks.add(String(key)));
    wish.batches.forEach((key) => all.batches.add(key));
    wish.tokens.forEach((key) => all.tokens.add(key));
    all.own ||= wish.own;
  }
  const asking = new URLSearchParams();
  if (all.tasks.size) asking.set("tasks", [...all.tasks].sort().join(","));
  [...all.batches].sort().forEach((key) => asking.append("batches", key));
  if (all.own) asking.set("own", "1");
  if (all.tokens.size) asking.set("tokens", [...all.tokens].sort().join(","));
  return asking.toString();
}

/** Open, reopen or close the connection, once for all that happens in this moment. */
function refresh() {
  clearTimeout(openTimer);
  openTimer = setTimeout(() => {
    const wanted = query();
    forget();
    if (wanted !== asked || !(source || pollTimer)) open(wanted);
  }, 10);
}

/** Forget what nobody asks for any more: it is not kept true. */
function forget() {
  const wishes = [...subscriptions].map(({ wish }) => wish);
  const named = new Set(wishes.flatMap((wish) => wish.tasks.map((key) => `task:${key}`)));
  const own = wishes.some((wish) => wish.own);
  for (const key of tasks.keys()) if (!(key.startsWith("own:") ? own : named.has(key))) tasks.delete(key);
  for (const key of batches.keys()) if (!wishes.some((wish) => wish.batches.includes(key))) batches.delete(key);
  if (!own) [ownSince, ownKnown] = [null, false];
}

/** @param {string} wanted */
async function open(wanted) {
  close();
  asked = wanted;
  const mine = ++turn;
  if (!wanted) return;
  if (!config.state) throw new Error("taskcontrol: put {% taskcontrol_js %} into this page, or call configure().");
  // A hidden tab holds no connection: a browser opens few of them to one server.
  const may = config.transport === "stream" && config.stream && !document.hidden && performance.now() >= pollUntil;
  const seat = may ? await takeSeat() : null;
  if (mine !== turn) return seat?.();
  if (seat) listen(seat);
  else {
    if (may) pollUntil = performance.now() + POLL_AT_LEAST;
    poll();
  }
}

function close() {
  turn++;
  source?.close();
  source = null;
  leave?.();
  leave = null;
  clearTimeout(pollTimer);
  pollTimer = undefined;
  wait = POLL_FROM;
  tag = "";
}

/**
 * Take one of the few seats that all tabs of this browser have, and return how to leave it;
 * null when all are taken. The browser frees the seat of a tab that is closed.
 * @returns {Promise<(() => void) | null>}
 */
async function takeSeat() {
  if (!navigator.locks) return () => undefined;
  for (let number = 1; number <= SEATS; number++) {
    /** @type {(() => void) | null} */
    const seat = await new Promise((resolve) => {
      const hold = (/** @type {Lock | null} */ lock) => (lock ? new Promise((free) => resolve(() => free(null))) : resolve(null));
      navigator.locks.request(`taskcontrol-${number}`, { ifAvailable: true }, hold).catch(() => resolve(null));
    });
    if (seat) return seat;
  }
  return null;
}

/** @param {() => void} seat */
function listen(seat) {
  leave = seat;
  const stream = new EventSource(`${config.stream}?${asked}`, { withCredentials: true });
  source = stream;
  heardAt = performance.now();
  /** @param {string} event @param {(told: any) => void} take */
  const hear = (event, take) =>
    stream.addEventListener(event, (/** @type {MessageEvent} */ message) => {
      heardAt = performance.now();
      show("live");
      take(JSON.parse(message.data || "null"));
    });
  hear("snapshot", takeSnapshot);
  hear("task", (told) => takeTask("task", told));
  hear("own", (told) => takeTask("own", told));
  hear("batch", takeBatch);
  hear("ping", () => undefined);
  stream.onerror = () => {
    show("away");
    if (stream.readyState !== EventSource.CLOSED || source !== stream) return;
    // The server does not stream, or not to this page: ask again later, poll until then.
    pollUntil = performance.now() + POLL_AT_LEAST;
    open(asked);
  };
}

async function poll() {
  const mine = asked;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  const timer = setTimeout(() => undefined, 0);
  pollTimer = timer;
  let refused = false;
  try {
    const headers = tag ? { "If-None-Match": tag } : undefined;
    const answer = await fetch(`${config.state}?${mine}`, { credentials: "same-origin", cache: "no-store", headers });
    if (mine !== asked || pollTimer !== timer) return;
    if (answer.status === 304) wait = Math.min(wait * 1.5, POLL_TO);
    else if (answer.ok) {
      tag = answer.headers.get("ETag") ?? "";
      wait = POLL_FROM;
      takeSnapshot(await answer.json());
    } else {
      refused = answer.status === 403;
      throw new Error(`${answer.status}`);
    }
    show("poll");
  } catch {
    // Who has nothing to see, without a login, may log in elsewhere, but hardly now.
    wait = refused ? POLL_HIDDEN : Math.min(wait * 1.5, POLL_TO);
    show("away");
  }
  if (mine !== asked || pollTimer !== timer) return;
  const again = config.transport === "stream" && !document.hidden && performance.now() >= pollUntil;
  pollTimer = setTimeout(again ? () => open(asked) : poll, document.hidden ? POLL_HIDDEN : wait);
}

/** Tell the page how it hears: `<html data-taskcontrol="live | poll | away">`. @param {string} how */
function show(how) {
  document.documentElement.dataset.taskcontrol = how;
}

document.addEventListener("visibilitychange", () => {
  if (asked) open(asked);
});
setInterval(() => {
  if (source && performance.now() - heardAt > SILENCE) open(asked);
}, 5000);

/** @param {{tasks: TaskState[], own: TaskState[], batches: BatchState[]}} told */
function takeSnapshot(told) {
  told.tasks.forEach((state) => takeTask("task", state));
  told.own.forEach((state) => takeTask("own", state));
  told.batches.forEach((state) => {
    // A new connection begins with what this page has heard already: who ended last.
    const before = batches.get(state.batch_id);
    const heard = before && numbersOf(before) === numbersOf(state) && ENDS.includes(state.status ?? "");
    if (!heard) takeBatch(state);
  });
  if (ownSince === null) return;
  ownKnown = true;
  askForOwn(new Set(told.own.map((state) => state.name)));
}

/**
 * Forget own tasks that ended so long ago that a snapshot, which tells the newest, does not name
 * them; and ask for those that had not.
 * @param {Set<string>} told
 */
async function askForOwn(told) {
  const others = [...tasks].filter(([key, state]) => key.startsWith("own:") && !told.has(state.name));
  others.filter(([, state]) => state.ended).forEach(([key]) => tasks.delete(key));
  const open = others.filter(([, state]) => !state.ended).map(([, state]) => state.name);
  if (!open.length) return;
  const answer = await getState({ tasks: open.slice(-MOST_ASKED) }).catch(() => null);
  answer?.tasks.forEach((state) => takeTask("own", state));
}

/** @param {"task" | "own"} kind @param {TaskState} state */
function takeTask(kind, state) {
  const key = `${kind}:${state.name}`;
  const before = tasks.get(key);
  if (before && before.rev >= state.rev) return;
  tasks.set(key, state);
  if (kind === "own" && !before && !ownKnown && !isNew(state)) return;
  for (const event of kind === "own" && !before ? wholeRoad(state) : road(before, state)) {
    for (const one of [...subscriptions]) {
      const wanted = kind === "own" ? one.wish.own : one.wish.tasks.map(String).includes(state.name);
      if (wanted) tell(one, { kind, state: event });
    }
  }
}

/** Whether a task was enqueued after own tasks were asked for. @param {TaskState} state */
function isNew(state) {
  // Both are spans: the clock of the server need not be that of the browser.
  const age = Date.parse(state.at) - Date.parse(state.created_at);
  return ownSince !== null && age <= performance.now() - ownSince;
}

/** @param {BatchState} state */
function numbersOf({ batch_done, batch_total, failed, canceled, statuses, ended }) {
  return JSON.stringify([batch_done, batch_total, failed, canceled, statuses, ended]);
}

/** @param {BatchState} state */
function takeBatch(state) {
  if (JSON.stringify(batches.get(state.batch_id)) === JSON.stringify(state)) return;
  batches.set(state.batch_id, state);
  for (const one of [...subscriptions]) {
    if (one.wish.batches.includes(state.batch_id)) tell(one, { kind: "batch", state });
  }
}

/** @param {Subscription} one @param {News} news */
function tell(one, news) {
  try {
    one.tell(news);
  } catch (error) {
    // One listener that fails keeps no other from its news.
    reportError(error);
  }
}

const ROAD = ["Pending", "Queued", "Started"];

/**
 * Return the events between two states: each status that was passed, then the present one.
 * @param {TaskState | undefined} before
 * @param {TaskState} now
 * @returns {TaskState[]}
 */
export function road(before, now) {
  if (!before) return [now];
  // An attempt is counted when it is queued; another status of the same one leads on or out.
  if (now.attempt > before.attempt) return walk(before.status === "Pending" ? 1 : 0, now);
  return walk(["Queued", "Started"].includes(before.status) ? ROAD.indexOf(before.status) + 1 : ROAD.length, now);
}

/** Return the events of a task that was not there before. @param {TaskState} now */
function wholeRoad(now) {
  return walk(0, now);
}

/**
 * Return the events of one attempt from a place of its road to where it is now.
 * @param {number} from
 * @param {TaskState} now
 * @returns {TaskState[]}
 */
function walk(from, now) {
  const left = now.status === "Paused" ? 0 : ROAD.length;
  const passed = ROAD.slice(from, ROAD.includes(now.status) ? ROAD.indexOf(now.status) : left);
  const happened = passed.filter((status) => status === "Pending" || (now.queued_at && (status === "Queued" || hasStarted(now))));
  const early = { message: null, error: null, progress: null, ended: false, stopping: false, ended_at: null, retry_at: null };
  return [...happened.map((status) => ({ ...now, ...early, status })), now];
}

/** Whether this attempt began; an earlier one may have. @param {TaskState} state */
function hasStarted({ queued_at, started_at }) {
  return started_at !== null && queued_at !== null && Date.parse(started_at) >= Date.parse(queued_at);
}

/**
 * Return a wish without gaps; what no key can be is refused here, where the page sees who asks.
 * @param {Wish} wish
 * @returns {Required<Wish>}
 */
function checked(wish) {
  const whole = { tasks: [], batches: [], own: false, tokens: [], ...wish };
  for (const key of whole.tasks) {
    if (!/^\d{1,18}$/.test(String(key))) throw new Error(`taskcontrol: ${key} is not the name of a task.`);
  }
  for (const key of whole.batches) {
    if (typeof key !== "string" || !key) throw new Error(`taskcontrol: ${key} is not the id of a batch.`);
  }
  const all = [whole, ...[...subscriptions].map((one) => one.wish)];
  const things = new Set(all.flatMap((one) => [...one.tasks.map(String), ...one.batches.map((key) => `batch ${key}`)]));
  if (things.size > MOST_ASKED) throw new Error(`taskcontrol: a page may watch ${MOST_ASKED} tasks and batches at once.`);
  return whole;
}

/**
 * Watch tasks and batches: `tell` gets each news as `{kind, state}`, the present state first.
 * @param {Wish} wish
 * @param {(news: News) => void} tellOne
 * @returns {() => void} Ends the watch.
 */
export function subscribe(wish, tellOne) {
  const whole = checked(wish);
  const one = { wish: whole, tell: tellOne };
  subscriptions.add(one);
  if (whole.own) ownSince ??= performance.now();
  queueMicrotask(() => {
    // What another part of the page knows already is told at once.
    if (!subscriptions.has(one)) return;
    for (const key of whole.tasks) {
      const state = tasks.get(`task:${key}`);
      if (state) tell(one, { kind: "task", state });
    }
    for (const key of whole.batches) {
      const state = batches.get(key);
      if (state) tell(one, { kind: "batch", state });
    }
  });
  refresh();
  return () => {
    subscriptions.delete(one);
    refresh();
  };
}

/**
 * Hear of every change of status of one's own tasks: `on("async_task_status", fn)`.
 * @param {string} event
 * @param {(event: TaskState) => void} fn
 * @returns {() => void} Ends it.
 */
export function on(event, fn) {
  if (event !== "async_task_status") throw new Error(`taskcontrol: there is no event ${event}, only async_task_status.`);
  return subscribe({ own: true }, (news) => {
    if (news.kind === "own") fn(news.state);
  });
}

/* Asking and acting */

/**
 * Return the present state of what is asked for.
 * @param {Wish} wish
 * @returns {Promise<{tasks: TaskState[], own: TaskState[], batches: BatchState[], missing: string[]}>}
 */
export async function getState(wish) {
  const asking = new URLSearchParams();
  if (wish.tasks?.length) asking.set("tasks", wish.tasks.join(","));
  wish.batches?.forEach((key) => asking.append("batches", key));
  if (wish.own) asking.set("own", "1");
  if (wish.tokens?.length) asking.set("tokens", wish.tokens.join(","));
  const answer = await fetch(`${config.state}?${asking}`, { credentials: "same-origin", cache: "no-store" });
  return await answered(answer);
}

/**
 * Cancel a task; true unless it had ended.
 * @param {string | number} name
 * @param {{reason?: string}} [options]
 * @returns {Promise<boolean>}
 */
export async function cancel(name, { reason = "" } = {}) {
  const { canceled } = await act(name, "cancel", { reason });
  await lookAgain(name);
  return canceled;
}

/**
 * Run an ended task again; with `now` before all others.
 * @param {string | number} name
 * @param {{now?: boolean}} [options]
 */
export async function retry(name, { now = false } = {}) {
  await act(name, "retry", { now });
  await lookAgain(name);
}

/**
 * Learn what became of a task before anybody is told what was known of it.
 * @param {string | number} name
 */
async function lookAgain(name) {
  if (!tasks.has(`task:${name}`)) return;
  const answer = await getState({ tasks: [name] }).catch(() => null);
  answer?.tasks.forEach((state) => takeTask("task", state));
}

/** @param {string | number} name @param {string} verb @param {object} given */
async function act(name, verb, given) {
  const url = config.act.replace("/0/act", `/${encodeURIComponent(name)}/${verb}`);
  const headers = { "Content-Type": "application/json", "X-CSRFToken": config.csrf };
  const options = { method: "POST", credentials: /** @type {const} */ ("same-origin"), headers, body: JSON.stringify(given) };
  return await answered(await fetch(url, options));
}

/** @param {Response} answer */
async function answered(answer) {
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error ?? `taskcontrol: the server answered ${answer.status}.`);
  return told;
}

/* The bars */

const STEPS = /** @type {Record<string, number>} */ ({
  Pending: 10,
  Paused: 10,
  Queued: 40,
  Started: 70,
  Finished: 100,
  Failed: 100,
  Canceled: 100,
});

const ENDS = ["Finished", "Failed", "Canceled"];

let numberOfBars = 0;

/** One progress bar: a title, what happens now, and how far it is. */
class Bar {
  /** @param {string} title @param {Element | undefined} place */
  constructor(title, place) {
    const id = `taskcontrol-bar-${++numberOfBars}`;
    this.box = make("div", "taskcontrol-bar");
    this.title = make("div", "taskcontrol-bar-title", title);
    this.title.id = id;
    this.bar = document.createElement("progress");
    this.bar.setAttribute("aria-labelledby", id);
    this.text = make("div", "taskcontrol-bar-text");
    /** Read aloud when the status changes and at each quarter, not at every step. */
    this.voice = make("div", "taskcontrol-voice");
    this.voice.setAttribute("role", "status");
    this.spoken = "";
    this.over = false;
    this.box.append(this.title, this.bar, this.text, this.voice);
    const where = place ?? tray();
    // The next phase of the same work takes the place of the one before.
    if (!place) [...bars].find((one) => one.over && one.title.textContent === title && where.contains(one.box))?.remove();
    where.append(this.box);
    bars.add(this);
  }

  /** @param {number | null} count @param {number} total @param {string} text @param {string} status */
  draw(count, total, text, status) {
    if (count === null) this.bar.removeAttribute("value");
    else {
      this.bar.max = total > 0 ? total : 1;
      this.bar.value = total > 0 ? Math.max(0, Math.min(count, total)) : 0;
    }
    this.box.dataset.status = status;
    this.text.textContent = text;
    const quarter = count === null || total <= 0 ? "" : Math.floor((4 * Math.min(count, total)) / total) * 25 + " %";
    const words = [say(status), quarter].filter(Boolean).join(" ");
    if (words !== this.spoken) this.voice.textContent = this.spoken = words;
  }

  /** @param {string} error */
  fail(error) {
    this.voice.setAttribute("role", "alert");
    this.voice.textContent = error;
  }

  /** Stay in the tray until it is closed by hand; a place of the page's own is not ours. */
  stay() {
    if (!this.box.parentElement?.matches(".taskcontrol-tray")) return;
    const button = document.createElement("button");
    button.className = "taskcontrol-bar-close";
    button.textContent = "×";
    button.setAttribute("aria-label", say("Close"));
    button.addEventListener("click", () => this.remove());
    this.box.prepend(button);
  }

  remove() {
    this.box.remove();
    bars.delete(this);
  }
}

/** @type {Set<Bar>} */
const bars = new Set();

/** @param {string} tag @param {string} className @param {string} [text] */
function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function tray() {
  const here = document.querySelector(".taskcontrol-tray");
  if (here) return here;
  const made = make("div", "taskcontrol-tray");
  document.body.append(made);
  return made;
}

/** @param {string} title @param {string} error */
function openDialog(title, error) {
  const dialog = document.createElement("dialog");
  dialog.className = "taskcontrol-dialog";
  const heading = make("h2", "", title);
  heading.id = `taskcontrol-dialog-${++numberOfBars}`;
  dialog.setAttribute("aria-labelledby", heading.id);
  const button = document.createElement("button");
  button.textContent = say("Close");
  button.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.append(heading, make("p", "", error), button);
  document.body.append(dialog);
  dialog.showModal();
}

/**
 * How far a state says it is, each field that is missing by its status.
 * @param {any} message
 * @param {number} count @param {number} total @param {string} text
 * @returns {{count: number | null, total: number, text: string}}
 */
export function measure(message, count, total, text) {
  if (typeof message === "string" && message) return { count, total, text: message };
  const said = message?.progress;
  if (!said) return { count, total, text };
  const whole = Number.isFinite(said.total) && said.total > 0 ? said.total : total;
  // Without a count the step of the status stands, as a part of the whole.
  const far = Number.isFinite(said.count) ? said.count : (count / total) * whole;
  const unknown = !Number.isFinite(said.total) && far > total;
  let words = said.description || text;
  if (far > whole) {
    const numbers = unknown ? number(far) : say("{count} (expected {total})", { count: number(far), total: number(whole) });
    words = `${words} ${numbers}`;
  }
  return { count: unknown ? null : far, total: whole, text: words };
}

/** What a task says of itself; what it said before its end is over. @param {{status?: string | null, message?: any}} state */
function saidNow({ status, message }) {
  return status && ENDS.includes(status) ? null : message;
}

/** @param {number} value */
function number(value) {
  return new Intl.NumberFormat(document.documentElement.lang || undefined).format(value);
}

/** @param {number} seconds */
function time(seconds) {
  const [value, unit] = seconds < 90 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  const style = { style: /** @type {const} */ ("unit"), unit, unitDisplay: /** @type {const} */ ("short"), maximumFractionDigits: 0 };
  return new Intl.NumberFormat(document.documentElement.lang || undefined, style).format(value);
}

/**
 * Show how far a task is, until it has ended.
 * @param {string | number} name
 * @param {BarOptions} [options]
 * @returns {{close: () => void, finished: Promise<TaskState>}} `finished` also holds failed and canceled ones.
 */
export function showProgress(name, options = {}) {
  const { title = say("Task {name}", { name }), onEvent, hideOnCompletion = true, element, token, signal } = options;
  const wish = checked({ tasks: [name], tokens: token ? [token] : [] });
  const bar = new Bar(title, element);
  bar.draw(STEPS.Pending, 100, say("Pending"), "Pending");
  return follow(wish, signal, bar, hideOnCompletion, (news) => {
    const state = /** @type {TaskState} */ (news.state);
    const { count, total, text } = measure(saidNow(state), STEPS[state.status], 100, say(state.status));
    const left = state.progress?.eta_s;
    bar.over = state.ended;
    bar.draw(count, total, left && left >= 1 ? `${text} – ${say("about {time} left", { time: time(left) })}` : text, state.status);
    announce(bar.box, state);
    try {
      onEvent?.(state);
    } finally {
      if (state.ended && state.status === "Failed") {
        bar.fail(state.error ?? "");
        openDialog(say("{name} failed", { name: state.job_name }), state.error ?? "");
      }
    }
    return state.ended;
  });
}

/**
 * Show how many members of a batch have ended, until all have.
 * @param {string} batchId The batch need not exist yet.
 * @param {BarOptions} [options]
 * @returns {{close: () => void, finished: Promise<BatchState>}}
 */
export function showBatchProgress(batchId, options = {}) {
  const { title = say("Processing…"), onEvent, hideOnCompletion = true, element, token, signal } = options;
  const wish = checked({ batches: [batchId], tokens: token ? [token] : [] });
  const bar = new Bar(title, element);
  bar.draw(0, 100, say("Starting…"), "Pending");
  return follow(wish, signal, bar, hideOnCompletion, (news) => {
    const state = /** @type {BatchState} */ (news.state);
    const status = state.status ?? "Pending";
    const label = state.status ? (state.job_name ? say("{label}: {status}", { label: state.job_name, status: say(status) }) : say(status)) : say("Starting…");
    // What a child says of itself is shown, and never ends the bar of the batch.
    const { text } = measure(saidNow(state), 0, 100, label);
    bar.over = state.ended;
    const failed = state.failed ? ` – ${say("{count} failed", { count: number(state.failed) })}` : "";
    const told = `${number(state.batch_done)} / ${number(state.batch_total)} ${text}${failed}`;
    bar.draw(state.batch_done, state.batch_total, told, state.ended ? (failed ? "Failed" : "Finished") : status);
    announce(bar.box, state);
    if (onEvent && state.status) onEvent(state);
    return state.ended;
  });
}

/**
 * @template {TaskState | BatchState} S
 * @param {Wish} wish
 * @param {AbortSignal | undefined} signal
 * @param {Bar} bar
 * @param {boolean} hide
 * @param {(news: News) => boolean} take Returns whether that was the last news.
 * @returns {{close: () => void, finished: Promise<S>}}
 */
function follow(wish, signal, bar, hide, take) {
  /** @type {(state: S) => void} */
  let finish = () => undefined;
  const finished = /** @type {Promise<S>} */ (new Promise((resolve) => (finish = resolve)));
  const leave = subscribe(wish, (news) => {
    let last = false;
    try {
      last = take(news);
    } catch (error) {
      // The page's own handler failed; the bar goes on.
      reportError(error);
      last = news.state.ended;
    }
    if (!last) return;
    leave();
    if (hide) setTimeout(() => bar.remove(), LINGER);
    else bar.stay();
    finish(/** @type {S} */ (news.state));
  });
  const close = () => {
    leave();
    bar.remove();
  };
  if (signal?.aborted) close();
  signal?.addEventListener("abort", close, { once: true });
  return { close, finished };
}

/** @param {Element} where @param {TaskState | BatchState} state */
function announce(where, state) {
  where.dispatchEvent(new CustomEvent("taskcontrol:status", { bubbles: true, detail: state }));
  if (state.ended) where.dispatchEvent(new CustomEvent("taskcontrol:done", { bubbles: true, detail: state }));
}

/**
 * The call of the documents that this comes from: `show_progress(name, title, handler, hide)`.
 * @param {string | number} name
 * @param {string | ((event: TaskState) => void)} [title]
 * @param {((event: TaskState) => void) | boolean} [handler]
 * @param {boolean} [hide_on_completion]
 */
export function show_progress(name, title, handler, hide_on_completion = true) {
  return showProgress(name, ordered(title, handler, hide_on_completion));
}

/**
 * @param {string} batch_id
 * @param {string | ((event: BatchState) => void)} [title]
 * @param {((event: BatchState) => void) | boolean} [handler]
 * @param {boolean} [hide_on_completion]
 */
export function show_batch_progress(batch_id, title, handler, hide_on_completion = true) {
  return showBatchProgress(batch_id, ordered(title, handler, hide_on_completion));
}

/** @param {any} title @param {any} handler @param {boolean} hide @returns {BarOptions} */
function ordered(title, handler, hide) {
  return { title: title || undefined, onEvent: handler || undefined, hideOnCompletion: hide };
}

/** `<taskcontrol-progress task="12" title="Import">` or `batch="…"`, with `keep` and `token`. */
class ProgressElement extends HTMLElement {
  connectedCallback() {
    const options = {
      title: this.getAttribute("title") ?? undefined,
      element: this,
      hideOnCompletion: !this.hasAttribute("keep"),
      token: this.getAttribute("token") ?? undefined,
    };
    const task = this.getAttribute("task");
    const batch = this.getAttribute("batch");
    this.shown = task ? showProgress(task, options) : batch ? showBatchProgress(batch, options) : undefined;
  }

  disconnectedCallback() {
    this.shown?.close();
  }
}
if (!customElements.get("taskcontrol-progress")) customElements.define("taskcontrol-progress", ProgressElement);

const names = { show_progress, show_batch_progress, showProgress, showBatchProgress, on, subscribe, getState, cancel, retry, configure };
Object.assign(globalThis, { taskcontrol: names });
