/**
 * Keeps the screens of taskcontrol in admin true while they are looked at: what the server
 * rendered is rendered again by the server, in place, when something changed.
 */

const live = /** @type {any} */ (globalThis).taskcontrol;

/** Milliseconds between two renderings of a page. */
const AGAIN = 700;
/** Milliseconds between two looks for new rows. */
const LOOK = 4000;
/** Milliseconds before what did not come is asked for again. */
const RETRY = 5000;
/** Milliseconds for which something may be behind before the page says so. */
const LATE = 5000;

/** Since when what of this page is behind. @type {Map<unknown, number>} */
const behind = new Map();

/** Note whether `what` came. @param {unknown} what @param {boolean} came */
function note(what, came) {
  if (came) behind.delete(what);
  else if (!behind.has(what)) behind.set(what, Date.now());
}

/**
 * @param {string} url
 * @param {string} [regions] of the page that are wanted; else all of it
 */
async function load(url, regions = "") {
  const headers = { "X-Requested-With": "taskcontrol", "X-Taskcontrol-Regions": regions };
  const answer = await fetch(url, { credentials: "same-origin", headers });
  // Logged out, or gone: the page stays as it is, and says so.
  if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
  return answer;
}

/**
 * Return a function that runs `work` soon, never twice at once and never more often than `gap`;
 * what failed is tried again until it works.
 */
function calmly(/** @type {() => Promise<void>} */ work, gap = AGAIN) {
  let wanted = false;
  let busy = false;
  const run = async () => {
    if (busy) return void (wanted = true);
    busy = true;
    wanted = false;
    const came = await work().then(() => true, () => false);
    note(work, came);
    setTimeout(() => {
      busy = false;
      if (wanted || !came) run();
    }, came ? gap : RETRY);
  };
  return run;
}

/**
 * Whether somebody types, has a question open, marks a text or is pressing something inside
 * `region`: then it is left alone.
 */
function isUsed(/** @type {Element} */ region) {
  const focused = document.activeElement;
  const marked = getSelection();
  if (marked && !marked.isCollapsed && region.contains(marked.anchorNode)) return true;
  if (region.querySelector(":active")) return true;
  if (focused && region.contains(focused) && focused.matches("input:not([type=hidden]), textarea, select")) return true;
  return Boolean(region.querySelector("details.tc-ask[open]"));
}

/** Return what is shown; each rendering masks the token of a form anew. */
const contentOf = (/** @type {Element} */ region) => region.innerHTML.replace(/("csrfmiddlewaretoken" value=)"\w+"/g, "$1");

/** Replace the content of `region`, and keep open what was open, and the focus. */
function replace(/** @type {Element} */ region, /** @type {Element} */ fresh) {
  if (contentOf(region) === contentOf(fresh)) return;
  const open = [...region.querySelectorAll("details")].map((one) => one.open);
  const places = [...region.querySelectorAll("a, button, summary")];
  const focused = places.indexOf(/** @type {Element} */ (document.activeElement));
  region.replaceChildren(...fresh.childNodes);
  region.querySelectorAll("details").forEach((one, index) => (one.open = open[index] ?? one.open));
  if (focused >= 0) /** @type {HTMLElement | undefined} */ ([...region.querySelectorAll("a, button, summary")][focused])?.focus();
}

/**
 * Regions of a page that are rendered anew: `data-tc-live` names them, `data-tc-task` or
 * `data-tc-batch` say at whose news, `data-tc-own` at those of the person's own tasks,
 * `data-tc-every` after how many seconds anyhow.
 */
function keepRegions() {
  const regions = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-tc-live]")]);
  if (!regions.length) return;
  const renderer = (/** @type {() => HTMLElement[]} */ choose) => calmly(async () => {
    const some = choose();
    const names = some.map((one) => one.dataset.tcLive ?? "").join(",");
    const page = new DOMParser().parseFromString(await (await load(location.href, names)).text(), "text/html");
    const freshOf = (/** @type {HTMLElement} */ region) =>
      /** @type {HTMLElement | null} */ (page.querySelector(`[data-tc-live="${region.dataset.tcLive}"]`));
    if (!some.some(freshOf)) throw new Error("Another page came.");
    for (const region of some) {
      const fresh = freshOf(region);
      if (!fresh || isUsed(region)) continue;
      replace(region, fresh);
      // What has ended need not be asked for again, what was retried must.
      region.dataset.tcEvery = fresh.dataset.tcEvery ?? "";
    }
  });
  const render = renderer(() => regions);
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-tc-own] [data-tc-task]")]);
  const watched = [...regions, ...rows];
  const keys = (/** @type {"tcTask" | "tcBatch"} */ name) => watched.map((one) => one.dataset[name] ?? "").filter(Boolean);
  const own = regions.some((one) => one.dataset.tcOwn !== undefined);
  const wish = { tasks: keys("tcTask"), batches: keys("tcBatch"), own };
  // What was rendered is not rendered again for the same news.
  const revs = new Set(watched.map((one) => `${one.dataset.tcTask} ${one.dataset.tcRev}`));
  if (wish.tasks.length || wish.batches.length || own) {
    live.subscribe(wish, (/** @type {any} */ { state }) => revs.has(`${state.name} ${state.rev}`) || render());
  }
  const paceOf = (/** @type {HTMLElement} */ one) => Number(one.dataset.tcEvery) || 0;
  const renderers = new Map();
  let second = 0;
  setInterval(() => {
    second += 1;
    if (document.hidden) return;
    // Regions of one pace are rendered together, and those of another not.
    for (const pace of new Set(regions.map(paceOf))) {
      if (!pace || second % pace) continue;
      if (!renderers.has(pace)) renderers.set(pace, renderer(() => regions.filter((one) => paceOf(one) === pace)));
      renderers.get(pace)();
    }
  }, 1000);
}

/** The list of tasks: rows are patched in place, never added, removed or reordered. */
function keepRows() {
  const list = /** @type {HTMLElement | null} */ (document.querySelector("[data-tc-rows]"));
  if (!list) return;
  const cells = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#result_list [data-tc-task]")]);
  const shown = cells();
  const revs = new Map(shown.map((one) => [one.dataset.tcTask, one.dataset.tcRev]));
  /** @type {Set<string>} */
  const changed = new Set();
  const url = list.dataset.tcRows;

  const patch = calmly(async () => {
    const ids = [...changed];
    changed.clear();
    const asking = new URLSearchParams({ ids: ids.join(",") });
    const told = await load(`${url}?${asking}`).then((answer) => answer.json()).catch((error) => {
      ids.forEach((key) => changed.add(key));
      throw error;
    });
    const table = new DOMParser().parseFromString(told.rows, "text/html");
    for (const cell of cells()) {
      const fresh = table.querySelector(`[data-tc-task="${cell.dataset.tcTask}"]`)?.closest("tr");
      const row = cell.closest("tr");
      if (!fresh || !row || !ids.includes(cell.dataset.tcTask ?? "")) continue;
      // The box that selects the row is the person's, and stays.
      const mine = [...row.children].filter((one) => !one.matches(".action-checkbox"));
      const theirs = [...fresh.children].filter((one) => !one.matches(".action-checkbox"));
      mine.forEach((one, index) => {
        if (theirs[index] && !one.contains(document.activeElement)) one.replaceChildren(...theirs[index].childNodes);
      });
    }
  });
  if (shown.length) {
    live.subscribe({ tasks: shown.map((one) => one.dataset.tcTask) }, (/** @type {any} */ { state }) => {
      if (revs.get(state.name) === String(state.rev)) return;
      revs.set(state.name, String(state.rev));
      changed.add(state.name);
      patch();
    });
  }

  const newer = /** @type {HTMLAnchorElement | null} */ (list.querySelector("[data-tc-newer]"));
  if (!newer) return;
  newer.href = location.href;
  setInterval(async () => {
    if (document.hidden) return;
    const asking = new URLSearchParams(location.search);
    asking.set("newer", list.dataset.tcTop ?? "0");
    const told = await load(`${url}?${asking}`).then((answer) => answer.json()).catch(() => null);
    note(newer, Boolean(told));
    if (!told) return;
    newer.hidden = !told.newer;
    newer.textContent = told.text;
  }, LOOK);
}

/** Says since when the page is not up to date, as long as it is not: also to `<html>`, for styles. */
function tellBehind() {
  if (!document.querySelector("[data-tc-live], [data-tc-rows]")) return;
  const root = document.documentElement;
  const words = JSON.parse(document.getElementById("taskcontrol-config")?.textContent || "{}").labels ?? {};
  const say = (/** @type {string} */ text) => words[text] ?? text;
  const sign = document.createElement("p");
  sign.className = "taskcontrol-behind";
  sign.setAttribute("role", "status");
  (document.querySelector("main") ?? document.body).append(sign);
  setInterval(() => {
    // A stream that ends in order is away for a moment too.
    note(live, root.dataset.taskcontrol !== "away");
    const since = Math.min(...behind.values());
    const late = Date.now() - since >= LATE;
    if (late === sign.hasChildNodes()) return;
    root.toggleAttribute("data-taskcontrol-behind", late);
    sign.replaceChildren();
    if (!late) return;
    const time = new Date(since).toLocaleTimeString(root.lang || undefined, { hour: "2-digit", minute: "2-digit" });
    const again = document.createElement("a");
    again.href = location.href;
    again.textContent = say("Reload");
    sign.append(say("Not up to date since {time}.").replace("{time}", time), " ", again);
  }, 1000);
}

if (live) {
  keepRegions();
  keepRows();
  tellBehind();
}
