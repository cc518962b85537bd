// Zoom and pan of one or several images at once.

const MOST = 16;

/** @typedef {{ scale: number, x: number, y: number }} Transform `x` and `y` are parts of the pane's size */

/**
 * Return the transform after zooming by `factor` around a point of the pane (0 to 1 each); the point stays in place.
 * @param {Transform} transform
 * @param {number} factor
 * @param {number} [px]
 * @param {number} [py]
 * @returns {Transform}
 */
export function zoomed({ scale, x, y }, factor, px = 0.5, py = 0.5) {
  const to = Math.min(MOST, Math.max(1, scale * factor));
  return bounded({ scale: to, x: px - ((px - x) / scale) * to, y: py - ((py - y) / scale) * to });
}

/**
 * Return the transform moved so that the image still covers the pane.
 * @param {Transform} transform
 * @returns {Transform}
 */
export function bounded({ scale, x, y }) {
  const most = (/** @type {number} */ at) => Math.min(0, Math.max(1 - scale, at));
  return { scale, x: most(x), y: most(y) };
}

/** Zoom and pan of all elements in `root` with the class "brm-pane". */
export class Zoom {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.reset();
    root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.down(event));
  }

  reset() {
    this.set({ scale: 1, x: 0, y: 0 });
  }

  /** @param {Transform} transform */
  set(transform) {
    this.transform = transform;
    this.root.style.setProperty("--brm-scale", String(transform.scale));
    this.root.style.setProperty("--brm-x", `${100 * transform.x}%`);
    this.root.style.setProperty("--brm-y", `${100 * transform.y}%`);
    this.root.classList.toggle("brm-zoomed", transform.scale > 1);
  }

  /** @param {number} factor */
  by(factor) {
    this.set(zoomed(/** @type {Transform} */ (this.transform), factor));
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    const pane = paneOf(event);
    if (!pane || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    this.set(zoomed(/** @type {Transform} */ (this.transform), 2 ** (-event.deltaY / 200), at[0], at[1]));
  }

  /** @param {PointerEvent} event */
  down(event) {
    const pane = paneOf(event);
    const start = /** @type {Transform} */ (this.transform);
    if (!pane || event.button !== 0 || start.scale === 1) return;
    event.preventDefault();
    const box = pane.getBoundingClientRect();
    const from = [event.clientX, event.clientY];
    const move = (/** @type {PointerEvent} */ to) => {
      const x = start.x + (to.clientX - from[0]) / box.width;
      this.set(bounded({ scale: start.scale, x, y: start.y + (to.clientY - from[1]) / box.height }));
    };
    const up = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
      removeEventListener("pointercancel", up);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up);
    addEventListener("pointercancel", up);
  }
}

/** @param {Event} event */
function paneOf(event) {
  return event.target instanceof Element ? event.target.closest(".brm-pane") : null;
}
