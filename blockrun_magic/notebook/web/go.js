// The button that buys. A press says what the button said: the price that the user saw is the most that is signed.
import { make } from "./dom.js";

const ECHO = 600; // milliseconds: the second half of a double click

/**
 * Return a function that tells whether a press at `time` (milliseconds) is a press of its own.
 * @param {number} [echo]
 */
export function pressFilter(echo = ECHO) {
  let last = Number.NEGATIVE_INFINITY;
  return (/** @type {number} */ time) => {
    const own = time - last >= echo;
    if (own) last = time;
    return own;
  };
}

/** @param {{ model: import("./images.js").Model, el: HTMLElement }} context */
function render({ model, el }) {
  const press = make("button", { type: "button", class: "brm-go jupyter-button widget-button mod-primary" });
  const own = pressFilter();
  const refresh = () => {
    press.textContent = model.get("description");
    press.title = model.get("tooltip");
    press.setAttribute("aria-disabled", String(model.get("disabled")));
  };
  press.addEventListener("click", (event) => {
    if (press.getAttribute("aria-disabled") === "true" || !own(event.timeStamp)) return;
    const form = el.closest(".brm-form");
    const prompt = /** @type {HTMLInputElement | null | undefined} */ (
      form?.querySelector(".brm-prompt :is(textarea, input)")
    );
    const id = Math.random().toString(36).slice(2, 12);
    const words = prompt ? { prompt: prompt.value } : {};
    model.send({ type: "press", id, at: Date.now(), agreed: model.get("agreed"), ...words });
  });
  model.on("change", refresh);
  refresh();
  el.classList.add("brm-go-box");
  el.append(press);
  return () => model.off("change", refresh);
}

export default { render };
