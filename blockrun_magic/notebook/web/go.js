// The button that buys. A press carries the price on the button, which is the most that is signed.
import { make } from "./dom.js";

const ECHO = 600; // milliseconds: the second half of a double click

/** @typedef {{ own: boolean, changed: boolean }} Judgment whether the press counts, and whether the form has changed */

/**
 * Return a function that judges a press at `time` (milliseconds) of a form with the contents `words`. The second half
 * of a double click does not count, nor does a press while the last one is still being `prepared`; a press of a form
 * that has changed since always counts.
 * @param {number} [echo]
 * @returns {(time: number, words: string, prepared?: boolean) => Judgment}
 */
export function pressFilter(echo = ECHO) {
  let last = Number.NEGATIVE_INFINITY;
  /** @type {string | undefined} */
  let before;
  return (time, words, prepared = false) => {
    const changed = words !== before;
    const own = changed || (!prepared && time - last >= echo);
    if (own) [last, before] = [time, words];
    return { own, changed };
  };
}

/**
 * Return everything that a form says, and how often the user clicked or dropped something elsewhere (files and painted
 * masks are no inputs), to be compared.
 * @param {Element | null} form
 * @param {number} acts
 */
function wordsOf(form, acts) {
  const inputs = /** @type {HTMLInputElement[]} */ ([...(form?.querySelectorAll("input, select, textarea") ?? [])]);
  return JSON.stringify([acts, ...inputs.map((input) => [input.value, input.checked])]);
}

/** @param {{ model: import("./images.js").Model, el: HTMLElement }} context */
function render({ model, el }) {
  const press = make("button", { type: "button", class: "brm-go jupyter-button widget-button mod-primary" });
  const judge = pressFilter();
  const listening = new AbortController();
  let acts = 0;
  const count = (/** @type {Event} */ event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (target?.closest(".brm-panel") && !press.contains(target)) acts += 1;
  };
  for (const kind of ["click", "drop"])
    window.addEventListener(kind, count, { capture: true, signal: listening.signal });
  const refresh = () => {
    press.textContent = model.get("description");
    press.title = model.get("tooltip");
    press.setAttribute("aria-disabled", String(model.get("disabled")));
  };
  press.addEventListener("click", (event) => {
    const form = el.closest(".brm-form");
    const { own, changed } = judge(event.timeStamp, wordsOf(form, acts), press.ariaDisabled === "true");
    if (!own) return;
    const prompt = /** @type {HTMLInputElement | null | undefined} */ (
      form?.querySelector(".brm-prompt :is(textarea, input)")
    );
    const id = Math.random().toString(36).slice(2, 12);
    const words = prompt ? { prompt: prompt.value } : {};
    model.send({ type: "press", id, at: Date.now(), changed, agreed: model.get("agreed"), ...words });
  });
  model.on("change", refresh);
  refresh();
  el.classList.add("brm-go-box");
  el.append(press);
  return () => {
    listening.abort();
    model.off("change", refresh);
  };
}

export default { render };
