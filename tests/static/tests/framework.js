/**
 * What the examples of the documents use of their framework beside its tasks, and notes of
 * what a person sees: in `seen`, at each event of a bar, what the bar shows.
 */

const { csrf } = JSON.parse(document.getElementById("taskcontrol-config").textContent);
const asked = new URLSearchParams(location.search);

async function call({ method, callback }) {
  const options = { method: "POST", headers: { "X-CSRFToken": csrf } };
  const answer = await fetch(`/seeds/call/${method}${location.search}`, options);
  callback(await answer.json());
}

function __(text, values = []) {
  return text.replace(/\{(\d+)\}/g, (_, place) => values[place]);
}

function show_alert(said) {
  const alert = document.createElement("p");
  alert.className = "alert";
  alert.textContent = said.message ?? said;
  document.body.append(alert);
}

const listview = { refresh: () => (globalThis.refreshed += 1) };

Object.assign(globalThis, { call, __, show_alert, listview, batch_id: asked.get("batch_id"), heard: [], seen: [], refreshed: 0 });

document.addEventListener("taskcontrol:status", ({ target, detail }) => {
  const bar = target.querySelector("progress");
  const text = target.querySelector(".taskcontrol-bar-text").textContent;
  seen.push([detail.status, bar.value, bar.max, text]);
});
