// The gallery: pages of thumbnails of all images, with search, filters and keys.
import { button, enable, make } from "./dom.js";
import { ImageClient } from "./images.js";
import { openLightbox } from "./lightbox.js";

const LARGE = 1600; // pixels a side, in the lightbox
const PAUSE = 250; // milliseconds without a key before a search starts

/** @typedef {{ key: string, alt: string, caption: string, starred: boolean, code: string }} Entry */

/**
 * Return the position to which a key of the keyboard moves.
 * @param {string} key
 * @param {number} at
 * @param {number} count
 * @param {number} columns
 */
export function moved(key, at, count, columns) {
  const steps = /** @type {Record<string, number>} */ ({
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns,
    ArrowDown: columns,
    Home: -at,
    End: count - 1 - at,
  });
  if (!(key in steps)) return null;
  const to = at + steps[key];
  return to < 0 || to >= count ? at : to;
}

class Gallery {
  /**
   * @param {import("./images.js").Model} model
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    this.model = model;
    this.host = el;
    this.images = new ImageClient(model);
    /** @type {Entry[]} */
    this.entries = [];
    this.offset = 0;
    this.total = 0;
    this.at = 0;
    this.number = 0;
    this.build();
    this.visible = false;
    this.stale = true; // nothing is requested while the gallery's tab is closed
    this.changed = () => {
      this.stale = true;
      this.loadIfVisible();
    };
    this.watcher = new IntersectionObserver((seen) => {
      this.visible = seen[seen.length - 1].isIntersecting;
      this.loadIfVisible();
    });
    this.chosen = () => this.mark();
    model.on("change:_revision", this.changed);
    model.on("change:_chosen", this.chosen);
    this.watcher.observe(el);
  }

  loadIfVisible() {
    if (this.visible && this.stale) this.load();
  }

  close() {
    this.watcher.disconnect();
    this.model.off("change:_revision", this.changed);
    this.model.off("change:_chosen", this.chosen);
    this.images.close();
  }

  build() {
    const again = () => {
      this.offset = 0;
      this.load();
    };
    this.words = make("input", { type: "search", placeholder: "words of the prompt" });
    let pause = 0;
    this.words.addEventListener("input", () => {
      clearTimeout(pause);
      pause = window.setTimeout(again, PAUSE);
    });
    this.chosenModel = make("select", {}, make("option", { value: "" }, "all models"));
    this.day = make("input", { type: "date" });
    this.money = make(
      "select",
      {},
      make("option", { value: "" }, "all"),
      make("option", { value: "real" }, "real money"),
      make("option", { value: "practice" }, "practice"),
    );
    this.starred = make("input", { type: "checkbox" });
    for (const input of [this.chosenModel, this.day, this.money, this.starred]) input.addEventListener("change", again);
    this.list = make("div", {
      class: "brm-thumbs",
      role: "listbox",
      "aria-label": "Images",
      "aria-multiselectable": true,
    });
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.newer = button("← Newer", "Show newer images", () => this.turn(-1));
    this.older = button("Older →", "Show older images", () => this.turn(1));
    this.where = make("span", { role: "status" });
    const labeled = (/** @type {string} */ text, /** @type {HTMLElement} */ input) => make("label", {}, text, input);
    this.host.classList.add("brm-gallery");
    this.host.append(
      make(
        "div",
        { class: "brm-filters", role: "search" },
        labeled("Search", this.words),
        labeled("Model", this.chosenModel),
        labeled("Day", this.day),
        labeled("Money", this.money),
        labeled("★ only", this.starred),
      ),
      this.list,
      make("div", { class: "brm-pager" }, this.newer, this.where, this.older),
      make("p", { class: "brm-quiet" }, "Arrows move, Enter opens, S stars, Delete removes, Shift and click compares."),
    );
    this.host.addEventListener("keydown", (event) => event.stopPropagation());
  }

  async load(focus = false) {
    const number = ++this.number;
    this.stale = false;
    const { content, blobs } = await this.images.ask("page", {
      offset: this.offset,
      words: this.words?.value.trim(),
      model: this.chosenModel?.value,
      day: this.day?.value,
      money: this.money?.value,
      starred: this.starred?.checked,
    });
    if (number !== this.number) return;
    this.entries = content.entries;
    this.offset = content.offset;
    this.total = content.total;
    this.at = Math.min(this.at, Math.max(0, this.entries.length - 1));
    this.offerModels(content.models);
    this.show(blobs);
    if (focus) this.focus();
  }

  /** @param {string[]} models */
  offerModels(models) {
    const select = /** @type {HTMLSelectElement} */ (this.chosenModel);
    if (select.options.length === models.length + 1) return;
    const value = select.value;
    select.replaceChildren(
      make("option", { value: "" }, "all models"),
      ...models.map((name) => make("option", {}, name)),
    );
    select.value = value;
  }

  /** @param {Blob[]} blobs */
  show(blobs) {
    for (const image of this.list?.querySelectorAll("img") ?? []) URL.revokeObjectURL(image.src);
    const options = this.entries.map((entry, i) => {
      const option = make("div", { role: "option", class: "brm-thumb", tabindex: i === this.at ? 0 : -1 });
      option.title = entry.caption;
      option.setAttribute("aria-label", `${entry.starred ? "Starred: " : ""}${entry.alt}`);
      if (blobs[i]?.size) {
        option.append(
          make("img", { src: URL.createObjectURL(blobs[i].slice(0, blobs[i].size, "image/jpeg")), alt: "" }),
        );
      } else option.append("gone");
      if (entry.starred) option.append(make("span", { class: "brm-star", "aria-hidden": true }, "★"));
      option.draggable = true;
      option.addEventListener("dragstart", (event) => event.dataTransfer?.setData("text/plain", entry.code));
      option.addEventListener("click", (event) => {
        this.at = i;
        this.choose(entry, event.shiftKey || event.ctrlKey || event.metaKey);
        this.focus();
      });
      option.addEventListener("dblclick", () => this.open());
      return option;
    });
    this.list?.replaceChildren(...options);
    const last = this.offset + this.entries.length;
    const words = this.total ? `${this.offset + 1}–${last} of ${this.total.toLocaleString("en")}` : "No images yet";
    if (this.where) this.where.textContent = words;
    if (this.newer) enable(this.newer, this.offset > 0);
    if (this.older) enable(this.older, last < this.total);
    this.mark();
  }

  mark() {
    const chosen = this.model.get("_chosen");
    this.entries.forEach((entry, i) => {
      this.list?.children[i]?.setAttribute("aria-selected", String(chosen.includes(entry.key)));
    });
  }

  focus() {
    const options = /** @type {HTMLElement[]} */ ([...(this.list?.children ?? [])]);
    options.forEach((option, i) => {
      option.tabIndex = i === this.at ? 0 : -1;
    });
    options[this.at]?.focus();
  }

  /** @param {number} pages */
  turn(pages) {
    const size = this.model.get("_page_size");
    this.offset = Math.max(0, this.offset + pages * size);
    return this.load();
  }

  /**
   * @param {Entry} entry
   * @param {boolean} [add] to the chosen images, for comparison
   */
  choose(entry, add = false) {
    this.model.send({ type: "choose", key: entry.key, add });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const entry = this.entries[this.at];
    if (!entry || event.ctrlKey || event.metaKey || event.altKey) return;
    const option = /** @type {HTMLElement | undefined} */ (this.list?.children[0]);
    const columns = Math.max(1, Math.floor((this.list?.clientWidth ?? 1) / ((option?.offsetWidth ?? 1) + 4)));
    const to = moved(event.key, this.at, this.entries.length, columns);
    if (to !== null) {
      this.at = to;
      this.focus();
    } else if (event.key === "PageDown" || event.key === "PageUp") this.turn(event.key === "PageDown" ? 1 : -1);
    else if (event.key === "Enter") {
      this.choose(entry, event.shiftKey);
      if (!event.shiftKey) this.open();
    } else if (event.key === " ") this.choose(entry, event.shiftKey);
    else if (!this.act(event.key, entry)) return;
    event.preventDefault();
  }

  /**
   * @param {string} key
   * @param {Entry} entry
   */
  act(key, entry) {
    if (key.toLowerCase() === "s") this.tell("star", { key: entry.key, wanted: !entry.starred });
    else if (key === "Delete") this.tell("hide", { key: entry.key });
    else return false;
    return true;
  }

  /**
   * @param {string} type
   * @param {Record<string, any>} content
   */
  async tell(type, content) {
    await this.images.ask(type, content);
    await this.load(true);
  }

  open() {
    openLightbox(
      this.host,
      async (by) => {
        this.at = Math.min(this.entries.length - 1, Math.max(0, this.at + by));
        const entry = this.entries[this.at];
        if (!entry) return null;
        return { url: await this.images.url(entry.key, LARGE), alt: entry.alt, caption: entry.caption };
      },
      (event) => this.act(event.key, this.entries[this.at]),
    );
  }
}

/** @param {{ model: import("./images.js").Model, el: HTMLElement }} context */
function render({ model, el }) {
  const gallery = new Gallery(model, el);
  return () => gallery.close();
}

export default { render };
