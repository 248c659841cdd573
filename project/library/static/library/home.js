/** Keeps the table of the last batches true while it is looked at. */

const work = document.getElementById("work");
const keys = (name) => (work?.dataset[name] ?? "").split(" ").filter(Boolean);
let asked = false;

async function render() {
  if (asked) return;
  asked = true;
  const page = await fetch(location.href, { credentials: "same-origin" }).then((answer) => answer.text());
  const fresh = new DOMParser().parseFromString(page, "text/html").getElementById("work");
  if (fresh) {
    work.replaceChildren(...fresh.childNodes);
    // A batch that the coordinator made meanwhile is watched too.
    if (fresh.dataset.batches !== work.dataset.batches || fresh.dataset.tasks !== work.dataset.tasks) return location.reload();
  }
  setTimeout(() => (asked = false), 700);
}

if (work && globalThis.taskcontrol && (keys("tasks").length || keys("batches").length)) {
  globalThis.taskcontrol.subscribe({ tasks: keys("tasks"), batches: keys("batches") }, render);
}
