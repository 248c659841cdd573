/** Keeps the table of the last batches true while it is looked at. */

const work = document.getElementById("work");
const keys = (name) => (work?.dataset[name] ?? "").split(" ").filter(Boolean);
let leave = () => undefined;
let busy = false;
let missed = false;

async function render() {
  // News that comes while the page is asked may be the last: it is asked once more.
  missed = busy;
  if (busy) return;
  busy = true;
  try {
    await load();
  } catch {
    missed = true; // the server is away: again later
  }
  setTimeout(() => {
    busy = false;
    if (missed) render();
  }, 700);
}

async function load() {
  const page = await fetch(location.href, { credentials: "same-origin" }).then((answer) => answer.text());
  const fresh = new DOMParser().parseFromString(page, "text/html").getElementById("work");
  if (!fresh) return;
  work.replaceChildren(...fresh.childNodes);
  const { tasks, batches } = fresh.dataset;
  if (tasks === work.dataset.tasks && batches === work.dataset.batches) return;
  // A batch that the coordinator made meanwhile is watched too.
  Object.assign(work.dataset, { tasks, batches });
  watch();
}

function watch() {
  leave();
  const wish = { tasks: keys("tasks"), batches: keys("batches") };
  if (wish.tasks.length || wish.batches.length) leave = globalThis.taskcontrol.subscribe(wish, render);
}

if (work && globalThis.taskcontrol) watch();
