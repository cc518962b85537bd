// Elements for all our widgets.

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number | boolean>} [properties] attributes; `class` is the class
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/**
 * Return a button. It is switched off by `enable`, which keeps the focus.
 * @param {string} text
 * @param {string} label its action, for a tooltip and a screen reader
 * @param {(event: MouseEvent) => void} press
 */
export function button(text, label, press) {
  const element = make("button", { type: "button", "aria-label": label, title: label }, text);
  element.addEventListener("click", (event) => {
    if (element.getAttribute("aria-disabled") !== "true") press(event);
  });
  return element;
}

/**
 * Switch a control on or off. `disabled` would drop the focus, and the next key would go to the notebook.
 * @param {Element} control
 * @param {boolean} wanted
 */
export function enable(control, wanted) {
  control.setAttribute("aria-disabled", String(!wanted));
}

/**
 * @param {string} label
 * @param {...Node} parts
 */
export function group(label, ...parts) {
  return make("div", { class: "brm-group", role: "group", "aria-label": label }, ...parts);
}

/**
 * Call `ready` once `element` is in the page: a widget renders before it is attached.
 * @param {HTMLElement} element
 * @param {() => void} ready
 * @param {number} [patience] frames to wait
 */
export function whenAttached(element, ready, patience = 600) {
  if (element.isConnected) ready();
  else if (patience > 0) requestAnimationFrame(() => whenAttached(element, ready, patience - 1));
}
