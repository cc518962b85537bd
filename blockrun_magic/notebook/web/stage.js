// The stage: one large image, two with a slider, or four in a grid; below, the image's chain of edits.
import { button, enable, group, make, whenAttached } from "./dom.js";
import { ImageClient } from "./images.js";
import { openLightbox } from "./lightbox.js";
import { wirePage } from "./page.js";
import { Zoom } from "./zoom.js";

const LARGE = 1280; // pixels a side; the original comes when the user zooms in
const SMALL = 0.125; // size of the largest thumbnail, as a part of LARGE
const MOST_DROPPED = 50_000_000; // bytes

/** @typedef {{ key: string, alt: string, caption: string, width: number, height: number }} Shown */
/** @typedef {{ key: string, parent: string | null, depth: number, label: string, cost: string }} Step */

class Stage {
  /**
   * @param {import("./images.js").Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    this.model = model;
    this.images = new ImageClient(model);
    this.number = 0;
    this.view = make("div", { class: "brm-view" });
    this.caption = make("figcaption", { class: "brm-quiet" });
    this.chain = make("ol", { class: "brm-chain", "aria-label": "Chain of edits" });
    this.zoom = new Zoom(this.view);
    this.smaller = button("−", "Zoom out", () => this.zoomBy(1 / 1.5));
    this.fits = button("Fit", "Zoom to fit", () => this.zoomBy(0));
    this.larger = button("+", "Zoom in (Control and wheel)", () => this.zoomBy(1.5));
    this.full = button("Full screen", "Show the image over the whole page", () => this.openLarge());
    const tools = make(
      "div",
      { class: "brm-tools", role: "toolbar", "aria-label": "View" },
      group("Zoom", this.smaller, this.fits, this.larger),
      this.full,
    );
    this.tools = tools;
    this.figure = make("figure", { class: "brm-figure" }, this.view, tools, this.caption);
    this.host = el;
    el.classList.add("brm-stage");
    el.append(this.figure, this.chain);
    this.changed = () => this.refresh();
    for (const name of ["_shown", "_before", "_waiting"]) model.on(`change:${name}`, this.changed);
    this.chained = () => this.showChain();
    model.on("change:_chain", this.chained);
    this.refresh();
    this.showChain();
    whenAttached(el, () => {
      const root = /** @type {HTMLElement | null} */ (el.closest(".brm-panel"));
      if (root) this.unwire = wirePage(root, (file) => this.drop(file));
    });
  }

  close() {
    this.unwire?.();
    for (const name of ["_shown", "_before", "_waiting"]) this.model.off(`change:${name}`, this.changed);
    this.model.off("change:_chain", this.chained);
    this.images.close();
  }

  /** @returns {Shown[]} */
  get shown() {
    return this.model.get("_shown");
  }

  async refresh() {
    const number = ++this.number;
    const shown = this.shown;
    const urls = await Promise.all(shown.map((one) => this.images.url(one.key, LARGE)));
    if (number !== this.number) return; // another image was chosen meanwhile
    this.zoom.reset();
    this.sharp = false;
    this.view.replaceChildren(...this.layers(shown, urls));
    this.view.dataset.count = String(shown.length);
    this.caption.textContent = shown.map((one) => one.caption).join("\n");
    this.tools.hidden = !shown.length;
    this.zoomBy(0);
    this.markStep();
  }

  /** Mark the current step of the chain. */
  markStep() {
    const keys = this.shown.map((one) => one.key);
    for (const step of this.chain.querySelectorAll("button")) {
      if (keys.includes(step.dataset.key ?? "")) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
  }

  /**
   * @param {Shown[]} shown
   * @param {string[]} urls
   */
  layers(shown, urls) {
    if (!shown.length) return [make("p", { class: "brm-empty" }, this.model.get("_waiting"))];
    const panes = shown.map((one, i) => {
      if (!urls[i]) return make("div", { class: "brm-pane" }, "The original file is gone.");
      const image = make("img", { src: urls[i], alt: one.alt, draggable: "false" });
      return make("div", { class: "brm-pane" }, image);
    });
    this.view.style.setProperty("--brm-shape", `${shown[0].width} / ${shown[0].height}`);
    if (shown.length !== 2) return panes;
    const slider = make("input", { type: "range", min: 0, max: 100, value: 50, class: "brm-slider" });
    slider.setAttribute("aria-label", this.model.get("_before") ? "Before and after" : "Compare the two images");
    const slide = () => this.view.style.setProperty("--brm-split", `${slider.value}%`);
    slider.addEventListener("input", slide);
    slide();
    return [...panes, make("div", { class: "brm-split" }), slider];
  }

  /** @param {number} factor 0 to fit */
  zoomBy(factor) {
    if (factor) this.zoom.by(factor);
    else this.zoom.reset();
    const scale = this.zoom.transform?.scale ?? 1;
    enable(this.smaller, scale > 1);
    enable(this.fits, scale > 1);
    if (scale > 1) this.sharpen();
  }

  async sharpen() {
    if (this.sharp) return;
    this.sharp = true;
    const number = this.number;
    const urls = await Promise.all(this.shown.map((one) => this.images.url(one.key, 0)));
    if (number !== this.number) return;
    this.view.querySelectorAll("img").forEach((image, i) => {
      if (urls[i]) image.src = urls[i];
    });
  }

  openLarge() {
    let at = 0;
    openLightbox(this.host, async (by) => {
      at = (at + by + this.shown.length) % this.shown.length;
      const one = this.shown[at];
      return one ? { url: await this.images.url(one.key, 0), alt: one.alt, caption: one.caption } : null;
    });
  }

  async showChain() {
    /** @type {Step[]} */
    const steps = this.model.get("_chain");
    this.chain.hidden = steps.length < 2;
    const items = await Promise.all(
      steps.map(async (step) => {
        const url = await this.images.url(step.key, LARGE * SMALL);
        const open = make("button", { type: "button", title: step.label, "aria-label": `${step.label}, ${step.cost}` });
        open.append(make("img", { src: url, alt: "" }), make("span", {}, step.cost));
        open.dataset.key = step.key;
        open.addEventListener("click", () => this.model.send({ type: "choose", key: step.key }));
        return make("li", { style: `--brm-depth: ${step.depth}` }, open);
      }),
    );
    this.chain.replaceChildren(...items);
    this.markStep();
  }

  /** @param {File} file */
  async drop(file) {
    if (file.size > MOST_DROPPED) return this.model.send({ type: "drop", name: file.name, size: file.size });
    this.model.send({ type: "drop", name: file.name, size: file.size }, undefined, [await file.arrayBuffer()]);
  }
}

/** @param {{ model: import("./images.js").Model, el: HTMLElement }} context */
function render({ model, el }) {
  const stage = new Stage(model, el);
  return () => stage.close();
}

export default { render };
