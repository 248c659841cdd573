/**
 * Moves the bar of a task's page at every news of it, between two renderings of the page.
 */

const live = /** @type {any} */ (globalThis).taskcontrol;
const region = /** @type {HTMLElement | null} */ (document.querySelector("[data-tc-live=story][data-tc-task]"));

/** Show how far the task is; what stands in the page may have been replaced since the last time. */
function show(/** @type {any} */ progress) {
  const bar = /** @type {HTMLProgressElement | null} */ (region?.querySelector("progress[data-tc-bar]") ?? null);
  if (!bar || !progress) return;
  const { count, total, description } = progress;
  const known = typeof count === "number" && typeof total === "number" && total > 0;
  if (known) {
    bar.max = total;
    bar.value = Math.min(count, total);
  } else {
    bar.removeAttribute("value");
  }
  const numbers = region?.querySelector("[data-tc-numbers]");
  // More than was expected is told in words, which the server finds.
  if (numbers && known && count <= total) numbers.textContent = `${write(count)} / ${write(total)}`;
  const text = region?.querySelector("[data-tc-text]");
  if (text && typeof description === "string") text.textContent = description;
}

/** Write a number as the server does. */
const write = (/** @type {number} */ value) => value.toLocaleString("en-US");

if (live && region) {
  live.subscribe({ tasks: [region.dataset.tcTask] }, (/** @type {any} */ { state }) => show(state?.progress));
}

export {};
