// The browser's half of MaskPad (mask/widget.py): tools to paint a mask over an image.
import { button, enable, group, make } from "./dom.js";
import { around, MaskBuffer } from "./mask-buffer.js";

const MOST_ZOOM = 8;
const TOOLS = /** @type {const} */ (["brush", "eraser", "rectangle", "lasso", "color"]);

/** @type {Record<typeof TOOLS[number], [string, string]>} */
const NAMES = {
  brush: ["Brush", "Paint (B)"],
  eraser: ["Eraser", "Erase (E switches)"],
  rectangle: ["Rectangle", "Paint a rectangle (R); Alt erases"],
  lasso: ["Lasso", "Paint inside a line (L); Alt erases"],
  color: ["Color", "Paint what has the color that you click"],
};

/** @typedef {import("./mask-buffer.js").Point} Point */
/** @typedef {import("./mask-buffer.js").Box} Box */
/** @typedef {typeof TOOLS[number]} Tool */

/**
 * @param {Uint8Array} bytes
 * @param {CompressionStream | DecompressionStream} stream
 */
const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([/** @type {any} */ (bytes)]).stream().pipeThrough(stream)).arrayBuffer());

/**
 * Hosts pass bytes as a DataView, a typed array, an ArrayBuffer, or not at all.
 * @param {any} value
 */
const bytesOf = (value) =>
  value?.buffer ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value ?? 0);

/**
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
const alike = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

/**
 * Return the mask of a pad, which follows the kernel's `_mask_bits` and is sent to it after every step.
 * @param {import("./images.js").Model} model
 */
async function openMask(model) {
  const [width, height] = model.get("_bits_size");
  const mask = new MaskBuffer(width, height);
  let known = new Uint8Array(0); // the kernel's mask, as far as known
  let newest = 0;

  mask.stepped = async () => {
    const number = ++newest;
    const bytes = await through(mask.toBits(), new CompressionStream("deflate"));
    if (number !== newest) return; // another step has come since
    known = bytes;
    model.set("_mask_bits", bytes);
    model.save_changes();
  };
  const receive = async () => {
    const bytes = bytesOf(model.get("_mask_bits"));
    if (alike(bytes, known)) return; // our own, sent back
    known = bytes;
    const number = ++newest;
    const bits = bytes.length ? await through(bytes, new DecompressionStream("deflate")) : bytes;
    if (number === newest) mask.load(mask.fromBits(bits));
  };
  model.on("change:_mask_bits", receive);
  await receive();
  mask.done = []; // the initial mask is not a step
  return mask;
}

/** One view of a pad on the page. */
class View {
  /**
   * @param {MaskBuffer} mask
   * @param {import("./images.js").Model} model
   * @param {HTMLElement} el
   */
  constructor(mask, model, el) {
    this.mask = mask;
    this.model = model;
    const [width, height] = model.get("_size");
    this.width = width;
    this.height = height;
    /** @type {Tool} */
    this.tool = "brush";
    this.zoom = 1;
    this.position = 62;
    this.radius = 1;
    /** @type {{ id: number, value: number, points: Point[] } | null} */
    this.stroke = null;
    /** @type {Map<number, Point>} */
    this.fingers = new Map();
    /** @type {Box | null} */
    this.dirty = null;
    this.frame = 0;
    this.longest = Math.max(mask.width, mask.height);
    const words = `${this.width} by ${this.height} pixels`;
    this.canvas = make("canvas", {
      class: "brm-maskpad-ink",
      width: mask.width,
      height: mask.height,
      tabindex: 0,
      role: "application",
      "aria-label": `Paint over what may change in the image of ${words}. [ and ] change the brush, E erases, Control Z undoes.`,
    });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.cursor = make("div", { class: "brm-maskpad-cursor", hidden: "" });
    this.picture = make("img", { alt: `The image, ${words}`, draggable: "false" });
    this.outline = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.outline.setAttribute("viewBox", `0 0 ${mask.width} ${mask.height}`);
    this.outline.setAttribute("class", "brm-maskpad-outline");
    this.outline.setAttribute("aria-hidden", "true");
    this.outline.append(document.createElementNS("http://www.w3.org/2000/svg", "polygon"));
    this.paper = make("div", { class: "brm-maskpad-paper" }, this.picture, this.canvas, this.outline, this.cursor);
    this.paper.style.setProperty("--brm-shape", `${this.width} / ${this.height}`);
    this.stage = make("div", { class: "brm-maskpad-stage" }, this.paper);
    this.status = make("div", { class: "brm-maskpad-status", role: "status" });
    this.undoes = button("Undo", "Undo (Ctrl+Z)", () => mask.undo());
    this.redoes = button("Redo", "Redo (Shift+Ctrl+Z)", () => mask.redo());
    this.clears = button("Clear", "Clear the mask", () => mask.clear());
    this.further = button("−", "Zoom out", () => this.zoomTo(this.zoom / 1.5));
    this.fits = button("Fit", "Zoom to fit", () => this.zoomTo(1));
    this.closer = button("+", "Zoom in", () => this.zoomTo(this.zoom * 1.5));
    this.slider = make("input", { type: "range", min: 0, max: 100, title: "Brush size ([ and ])" });
    this.reads = make("output", { class: "brm-maskpad-size" });
    this.threshold = make("input", { type: "range", min: 0, max: 255, value: 40 });
    this.feather = make("input", { type: "range", min: 0, max: 100, value: model.get("feather") });
    this.edge = make("input", { type: "number", min: 1, max: 200, value: 8 });
    this.variables = make("select", {});
    this.tools = TOOLS.map((tool) => button(NAMES[tool][0], NAMES[tool][1], () => this.choose(tool)));
    const parts = [this.toolbar(), this.selectionBar(), this.stage, this.status];
    this.root = make("div", { class: "brm-maskpad", "data-lm-suppress-shortcuts": "" }, ...parts);
    this.listen();
    this.resize(this.position);
    this.choose("brush");
    this.zoomTo(1);
    mask.views.add(this);
    this.mark(mask.whole);
    this.refresh();
    this.follow();
    el.append(this.root);
  }

  close() {
    this.mask.views.delete(this);
    this.unfollow?.();
    cancelAnimationFrame(this.frame);
    this.root.remove();
  }

  /** Follow the kernel: the image, the variables, its messages. */
  follow() {
    const { model } = this;
    const receive = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
      if (content.type !== "image" || this.picture.src || !buffers?.[0]) return;
      this.picture.src = URL.createObjectURL(new Blob([/** @type {any} */ (buffers[0])], { type: "image/jpeg" }));
    };
    const offer = () => {
      const names = model.get("_variables");
      this.variables.replaceChildren(...names.map((/** @type {string} */ name) => make("option", {}, name)));
      if (this.variables.parentElement) this.variables.parentElement.hidden = !names.length;
    };
    const soften = () => {
      this.feather.value = model.get("feather");
      const soft = (model.get("feather") / 2) * (this.canvas.clientWidth / this.width);
      this.canvas.style.filter = soft ? `blur(${soft}px)` : "";
    };
    const say = () => this.refresh();
    model.on("msg:custom", receive);
    model.on("change:_variables", offer);
    model.on("change:feather", soften);
    model.on("change:_message", say);
    offer();
    soften();
    model.send({ type: "image" });
    this.unfollow = () => {
      model.off("msg:custom", receive);
      model.off("change:_variables", offer);
      model.off("change:feather", soften);
      model.off("change:_message", say);
      URL.revokeObjectURL(this.picture.src);
    };
  }

  toolbar() {
    const { mask } = this;
    const steps = () => Number(this.edge.value) * (mask.width / this.width);
    return make(
      "div",
      { class: "brm-maskpad-tools", role: "toolbar", "aria-label": "Mask tools" },
      group("Tool", ...this.tools.slice(0, 4)),
      group("History", this.undoes, this.redoes),
      make("label", { class: "brm-maskpad-brush" }, "Brush", this.slider, this.reads),
      group(
        "Whole mask",
        this.clears,
        button("Invert", "Invert the mask", () => mask.invert()),
      ),
      group(
        "Edge",
        button("Grow", "Grow the mask", () => mask.grow(steps())),
        button("Shrink", "Shrink the mask", () => mask.grow(-steps())),
      ),
      make("label", { class: "brm-maskpad-number" }, "by", this.edge, "px"),
      group("Zoom", this.further, this.fits, this.closer),
    );
  }

  selectionBar() {
    const { model } = this;
    const start = (/** @type {string} */ type) => model.send({ type, threshold: Number(this.threshold.value) });
    this.feather.addEventListener("change", () => {
      model.set("feather", Number(this.feather.value));
      model.save_changes();
    });
    const load = button("Load", "Load the mask from this variable", () =>
      model.send({ type: "load", name: this.variables.value }),
    );
    return make(
      "details",
      { class: "brm-maskpad-more" },
      make("summary", {}, "Select by brightness or color, feather, load"),
      make(
        "div",
        { class: "brm-maskpad-tools" },
        make("label", { class: "brm-maskpad-brush" }, "Threshold", this.threshold),
        group(
          "Start from",
          button("Bright", "Paint what is at least as bright as the threshold", () => start("bright")),
          button("Dark", "Paint what is at most as bright as the threshold", () => start("dark")),
          this.tools[4],
        ),
        make("label", { class: "brm-maskpad-brush" }, "Feather", this.feather),
        make("label", {}, "Variable ", this.variables, load),
      ),
    );
  }

  listen() {
    const { canvas, root } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.hideCursor());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.slider.addEventListener("input", () => this.resize(Number(this.slider.value), true));
    this.slider.addEventListener("change", () => this.hideCursor());
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("keyup", () => canvas.matches(":hover") || this.hideCursor());
    const wheel = (/** @type {WheelEvent} */ event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomTo(this.zoom * 2 ** (-event.deltaY / 200), [event.clientX, event.clientY]);
    };
    this.stage.addEventListener("wheel", wheel, { passive: false });
  }

  // -- tools

  /** @param {Tool} tool */
  choose(tool) {
    this.tool = tool;
    this.tools.forEach((control, i) => {
      control.setAttribute("aria-pressed", String(TOOLS[i] === tool));
    });
    this.cursor.classList.toggle("brm-maskpad-erases", tool === "eraser");
    this.canvas.classList.toggle("brm-maskpad-points", !this.drawsDiscs);
    this.hideCursor();
  }

  get drawsDiscs() {
    return this.tool === "brush" || this.tool === "eraser";
  }

  /**
   * Set the brush by the slider's position: each step is a factor, from 2 pixels to half the image.
   * @param {number} position
   * @param {boolean} [show]
   */
  resize(position, show = false) {
    this.position = Math.min(100, Math.max(0, position));
    this.radius = (this.longest / 4) ** (this.position / 100);
    const words = `${Math.max(1, Math.round((2 * this.radius * this.width) / this.mask.width))} px`;
    this.slider.value = String(this.position);
    this.slider.setAttribute("aria-valuetext", words);
    this.reads.textContent = words;
    this.cursor.style.width = `${(200 * this.radius) / this.mask.width}%`;
    if (show && this.cursor.hidden) this.showCursor(this.inMiddle());
  }

  inMiddle() {
    const seen = this.stage.getBoundingClientRect();
    return this.at({ clientX: seen.left + seen.width / 2, clientY: seen.top + seen.height / 2 });
  }

  /**
   * Return the position of an event in the mask's pixels.
   * @param {{ clientX: number, clientY: number }} event
   * @returns {Point}
   */
  at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.mask;
    return [((clientX - box.left) * width) / box.width, ((clientY - box.top) * height) / box.height];
  }

  /** @param {Point} point */
  showCursor([x, y]) {
    this.cursor.hidden = !this.drawsDiscs;
    this.cursor.style.left = `${(100 * x) / this.mask.width}%`;
    this.cursor.style.top = `${(100 * y) / this.mask.height}%`;
  }

  hideCursor() {
    this.cursor.hidden = true;
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.button !== 0 && event.button !== 5) return; // 5 is the other end of a pen
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.fingers.size > 1) return this.cancelStroke();
    }
    if (this.stroke) return;
    if (this.tool === "color") return this.pick(event);
    const erases = this.tool === "eraser" || event.button === 5 || event.altKey;
    this.stroke = { id: event.pointerId, value: erases ? 0 : 1, points: [this.at(event)] };
    if (this.drawsDiscs) this.paint([event]);
  }

  cancelStroke() {
    this.mask.revert();
    this.stroke = null;
    this.drawOutline([]);
    this.hideCursor();
  }

  /** @param {PointerEvent} event */
  pick(event) {
    const [x, y] = this.at(event);
    const scale = this.width / this.mask.width;
    const at = [Math.floor(x * scale), Math.floor(y * scale)];
    this.model.send({ type: "color", at, threshold: Number(this.threshold.value) });
  }

  /** @param {PointerEvent} event */
  move(event) {
    if (this.fingers.size > 1) {
      if (this.fingers.has(event.pointerId)) this.pinch(event);
      return;
    }
    this.showCursor(this.at(event));
    if (this.stroke?.id !== event.pointerId) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    if (this.drawsDiscs) return this.paint(passed.length ? passed : [event]);
    for (const one of passed.length ? passed : [event]) this.stroke.points.push(this.at(one));
    this.drawOutline(this.shape(this.stroke.points));
  }

  /** @param {PointerEvent[]} events */
  paint(events) {
    const { stroke } = this;
    if (!stroke) return;
    for (const event of events) {
      const from = /** @type {Point} */ (stroke.points.pop());
      const to = this.at(event);
      this.mask.line(from, to, this.radius, stroke.value);
      stroke.points.push(to);
    }
    this.showCursor(stroke.points[0]);
  }

  /**
   * Return the outline of the current rectangle or lasso.
   * @param {Point[]} points
   * @returns {Point[]}
   */
  shape(points) {
    if (this.tool !== "rectangle") return points;
    const [[ax, ay], [bx, by]] = [points[0], points[points.length - 1]];
    return [
      [ax, ay],
      [bx, ay],
      [bx, by],
      [ax, by],
    ];
  }

  /** @param {Point[]} points */
  drawOutline(points) {
    this.outline.firstElementChild?.setAttribute("points", points.map((point) => point.join(",")).join(" "));
  }

  /** @param {PointerEvent} event */
  up(event) {
    this.fingers.delete(event.pointerId);
    if (event.pointerType === "touch") this.hideCursor();
    const { stroke } = this;
    if (stroke?.id !== event.pointerId) return;
    this.stroke = null;
    this.drawOutline([]);
    if (!this.drawsDiscs && event.type === "pointerup") this.mask.polygon(this.shape(stroke.points), stroke.value);
    this.mask.commit();
  }

  // -- zoom

  /** @param {PointerEvent} event */
  pinch(event) {
    const before = this.spread();
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = this.spread();
    this.stage.scrollBy(before.x - after.x, before.y - after.y);
    this.zoomTo((this.zoom * after.apart) / (before.apart || 1), [after.x, after.y]);
  }

  spread() {
    const [[ax, ay], [bx, by]] = /** @type {Point[]} */ ([...this.fingers.values()]);
    return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.hypot(ax - bx, ay - by) };
  }

  /**
   * Zoom (1 fits the stage); the point `at` of the page stays in place.
   * @param {number} zoom
   * @param {Point} [at]
   */
  zoomTo(zoom, at) {
    const { paper, stage } = this;
    const seen = stage.getBoundingClientRect();
    const [x, y] = at ?? [seen.left + seen.width / 2, seen.top + seen.height / 2];
    const before = paper.getBoundingClientRect();
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
    this.root.classList.toggle("brm-maskpad-zoomed", this.zoom > 1);
    paper.style.setProperty("--brm-zoom", String(this.zoom));
    enable(this.further, this.zoom > 1);
    enable(this.fits, this.zoom > 1);
    enable(this.closer, this.zoom < MOST_ZOOM);
    const after = paper.getBoundingClientRect();
    if (!before.width) return;
    stage.scrollLeft += after.left + ((x - before.left) / before.width) * after.width - x;
    stage.scrollTop += after.top + ((y - before.top) / before.height) * after.height - y;
  }

  // -- keys

  /** @param {KeyboardEvent} event */
  key(event) {
    // Saving still works; the notebook's other shortcuts are off while the user paints.
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      this.root.removeAttribute("data-lm-suppress-shortcuts");
      setTimeout(() => this.root.setAttribute("data-lm-suppress-shortcuts", ""));
      return;
    }
    event.stopPropagation();
    if (event.target instanceof HTMLInputElement && event.target.type === "number") return;
    const act = this.shortcut(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** @param {KeyboardEvent} event */
  shortcut(event) {
    const key = event.key.toLowerCase();
    // Many keyboards need AltGr, which counts as Control and Alt.
    if (key === "[") return () => this.resize(this.position - 4, true);
    if (key === "]") return () => this.resize(this.position + 4, true);
    if (event.altKey) return null;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") return () => (event.shiftKey ? this.mask.redo() : this.mask.undo());
      return key === "y" ? () => this.mask.redo() : null;
    }
    if (key === "escape") return () => this.cancelStroke();
    const tools = /** @type {Record<string, Tool>} */ ({ b: "brush", r: "rectangle", l: "lasso" });
    if (key in tools) return () => this.choose(tools[key]);
    return key === "e" ? () => this.choose(this.tool === "eraser" ? "brush" : "eraser") : null;
  }

  // -- display of the mask

  /** @param {Box} box */
  mark(box) {
    this.frame ||= requestAnimationFrame(() => this.draw());
    this.dirty = around(this.dirty, box);
  }

  draw() {
    this.frame = 0;
    if (!this.dirty) return;
    const { left, top } = this.dirty;
    this.context.putImageData(this.mask.pixels(this.dirty), left, top);
    this.dirty = null;
  }

  refresh() {
    const { mask } = this;
    enable(this.undoes, mask.done.length > 0);
    enable(this.redoes, mask.undone.length > 0);
    enable(this.clears, mask.painted > 0);
    const percent = (100 * mask.painted) / mask.now.length;
    const share = percent < 0.1 ? "Less than 0.1" : percent.toFixed(1);
    const words = mask.painted
      ? `${share}% painted: this may change.`
      : "Nothing is painted yet: paint over what may change.";
    this.status.textContent = this.model.get("_message") || words;
  }
}

export default () => {
  /** @type {MaskBuffer} */
  let mask;
  return {
    /** @param {{ model: import("./images.js").Model }} context */
    async initialize({ model }) {
      mask = await openMask(model);
    },
    /** @param {{ model: import("./images.js").Model, el: HTMLElement }} context */
    render({ model, el }) {
      const view = new View(mask, model, el);
      return () => view.close();
    },
  };
};
