// The page's side of MaskPad (maskpad.py): a brush over a picture.

const STEPS = 60; // that can be undone
const MOST_ZOOM = 8;
const TINTS = [0xff5000f0, 0xffa060ff]; // ABGR; two, in stripes, so that the ink shows on any picture

const around = (old, box) => ({
  left: Math.min(old?.left ?? box.left, box.left),
  top: Math.min(old?.top ?? box.top, box.top),
  right: Math.max(old?.right ?? box.right, box.right),
  bottom: Math.max(old?.bottom ?? box.bottom, box.bottom),
});

// What is painted, one byte a pixel, 1 where it is; all views of a pad share it.
class Ink {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.whole = { left: 0, top: 0, right: width, bottom: height };
    this.stripe = Math.max(1, Math.max(width, height) / 96);
    this.now = new Uint8Array(width * height); // with the stroke that is being painted
    this.kept = new Uint8Array(width * height); // up to the last step
    this.touched = null; // the box in which the two differ
    this.painted = 0;
    this.done = [];
    this.undone = [];
    this.views = new Set();
    this.stepped = () => {};
  }

  // Discs so close to each other that their edge is a line.
  line(ax, ay, bx, by, radius, value) {
    const discs = Math.ceil((4 * Math.hypot(bx - ax, by - ay)) / radius) || 1;
    for (let i = 1; i <= discs; i++) {
      this.disc(ax + ((bx - ax) * i) / discs, ay + ((by - ay) * i) / discs, radius, value);
    }
    this.touch({
      left: Math.max(0, Math.floor(Math.min(ax, bx) - radius)),
      top: Math.max(0, Math.floor(Math.min(ay, by) - radius)),
      right: Math.min(this.width, Math.ceil(Math.max(ax, bx) + radius)),
      bottom: Math.min(this.height, Math.ceil(Math.max(ay, by) + radius)),
    });
  }

  disc(x, y, radius, value) {
    const last = Math.min(this.height - 1, Math.floor(y + radius - 0.5));
    for (let row = Math.max(0, Math.ceil(y - radius - 0.5)); row <= last; row++) {
      const half = Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - y) ** 2));
      const left = Math.max(0, Math.ceil(x - half - 0.5));
      const right = Math.min(this.width, Math.floor(x + half + 0.5));
      if (left < right) this.now.fill(value, row * this.width + left, row * this.width + right);
    }
  }

  touch(box) {
    if (box.left >= box.right || box.top >= box.bottom) return;
    this.touched = around(this.touched, box);
    for (const view of this.views) view.mark(box);
  }

  clear() {
    this.now.fill(0);
    this.touch(this.whole);
    this.commit();
  }

  invert() {
    for (let i = 0; i < this.now.length; i++) this.now[i] ^= 1;
    this.touch(this.whole);
    this.commit();
  }

  load(cells) {
    this.now.set(cells);
    this.touch(this.whole);
    this.commit(false);
  }

  // Forget the stroke that is being painted.
  revert() {
    if (!this.touched) return;
    this.now.set(this.kept);
    for (const view of this.views) view.mark(this.touched);
    this.touched = null;
  }

  // Make what was painted since the last step one step.
  commit(send = true) {
    const step = this.touched && this.difference(this.touched);
    this.touched = null;
    if (!step) return;
    this.done.push(step);
    if (this.done.length > STEPS) this.done.shift();
    this.undone = [];
    this.finish(send);
  }

  undo() {
    this.swap(this.done, this.undone);
  }

  redo() {
    this.swap(this.undone, this.done);
  }

  swap(from, to) {
    this.revert();
    const step = from.pop();
    if (!step) return;
    this.flip(step);
    to.push(step);
    this.finish(true);
  }

  finish(send) {
    for (const view of this.views) view.refresh();
    if (send) this.stepped();
  }

  // Returns where `now` differs from `kept`, a bit a pixel of the box, and makes `kept` the same.
  difference(box) {
    const bits = new Uint8Array(Math.ceil(((box.right - box.left) * (box.bottom - box.top)) / 8));
    let found = false;
    this.each(box, (at, i) => {
      if (this.now[at] === this.kept[at]) return;
      found = true;
      bits[i >> 3] |= 1 << (i & 7);
      this.kept[at] = this.now[at];
      this.painted += this.now[at] ? 1 : -1;
    });
    return found ? { box, bits } : null;
  }

  flip({ box, bits }) {
    this.each(box, (at, i) => {
      if (!((bits[i >> 3] >> (i & 7)) & 1)) return;
      this.now[at] = this.kept[at] ^= 1;
      this.painted += this.now[at] ? 1 : -1;
    });
    for (const view of this.views) view.mark(box);
  }

  each({ left, top, right, bottom }, visit) {
    let i = 0;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) visit(y * this.width + x, i++);
  }

  // Returns a box as pixels to look at.
  pixels({ left, top, right, bottom }) {
    const image = new ImageData(right - left, bottom - top);
    const words = new Uint32Array(image.data.buffer);
    let i = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++, i++) {
        if (this.now[y * this.width + x]) words[i] = TINTS[((x + y) / this.stripe) & 1];
      }
    }
    return image;
  }

  // To and from what the kernel reads: a bit a pixel, the first in the highest bit, rows of whole bytes.
  // Not by way of a canvas: browsers that guard against fingerprinting do not give back what was drawn.
  toBits() {
    const stride = (this.width + 7) >> 3;
    const bits = new Uint8Array(stride * this.height);
    for (let y = 0, at = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, at++) {
        if (this.kept[at]) bits[y * stride + (x >> 3)] |= 128 >> (x & 7);
      }
    }
    return bits;
  }

  fromBits(bits) {
    const stride = (this.width + 7) >> 3;
    const cells = new Uint8Array(this.width * this.height);
    for (let y = 0, at = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, at++) cells[at] = (bits[y * stride + (x >> 3)] >> (7 - (x & 7))) & 1;
    }
    return cells;
  }
}

const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

// Hosts differ in what they make of bytes: a DataView, a typed array, an ArrayBuffer, or nothing at all.
const bytesOf = (value) =>
  value?.buffer ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value ?? 0);

const alike = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

// Returns the ink of a pad, which follows the kernel's `_ink` and is sent to it after every step.
async function openInk(model) {
  const ink = new Ink(...model.get("_ink_size"));
  let known = new Uint8Array(0); // what the kernel has, as far as we know
  let newest = 0;

  ink.stepped = async () => {
    const number = ++newest;
    const bytes = await through(ink.toBits(), new CompressionStream("deflate"));
    if (number !== newest) return; // another step has come since
    known = bytes;
    model.set("_ink", bytes);
    model.save_changes();
  };
  const receive = async () => {
    const bytes = bytesOf(model.get("_ink"));
    if (alike(bytes, known)) return; // our own, sent back
    known = bytes;
    const number = ++newest;
    const bits = bytes.length ? await through(bytes, new DecompressionStream("deflate")) : bytes;
    if (number === newest) ink.load(ink.fromBits(bits));
  };
  model.on("change:_ink", receive);
  await receive();
  ink.done = []; // a mask that was there at the beginning is no step
  return ink;
}

const make = (name, properties = {}, ...children) => {
  const { class: classes, ...attributes } = properties;
  const made = document.createElement(name);
  if (classes) made.className = classes;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const button = (words, label, press) => {
  const made = make("button", { type: "button", "aria-label": label, title: label }, words);
  made.addEventListener("click", () => made.getAttribute("aria-disabled") !== "true" && press());
  return made;
};

const group = (label, ...parts) =>
  make("div", { class: "brm-maskpad-group", role: "group", "aria-label": label }, ...parts);

// One place on the page where a pad is shown.
class View {
  constructor(ink, model, el) {
    this.ink = ink;
    [this.width, this.height] = model.get("_size");
    this.erases = false;
    this.zoom = 1;
    this.stroke = null;
    this.fingers = new Map();
    this.dirty = null;
    this.longest = Math.max(ink.width, ink.height);
    this.build(model.get("_picture"));
    this.listen();
    this.resize(62);
    this.choose(false);
    this.zoomTo(1);
    ink.views.add(this);
    this.mark(ink.whole);
    this.refresh();
    el.append(this.root);
  }

  close() {
    this.ink.views.delete(this);
    cancelAnimationFrame(this.frame);
    this.root.remove();
  }

  build(picture) {
    const { ink } = this;
    const words = `${this.width} by ${this.height} pixels`;
    const keys = "[ and ] change the brush, E erases, Control Z undoes.";
    this.canvas = make("canvas", {
      class: "brm-maskpad-ink",
      width: ink.width,
      height: ink.height,
      tabindex: 0,
      role: "application",
      "aria-label": `Paint over what may change in the picture of ${words}. ${keys}`,
    });
    this.context = this.canvas.getContext("2d");
    this.cursor = make("div", { class: "brm-maskpad-cursor", hidden: "" });
    this.paper = make(
      "div",
      { class: "brm-maskpad-paper" },
      make("img", { src: picture, alt: `The picture, ${words}`, draggable: "false" }),
      this.canvas,
      this.cursor,
    );
    this.paper.style.setProperty("--brm-shape", `${this.width} / ${this.height}`);
    this.stage = make("div", { class: "brm-maskpad-stage" }, this.paper);
    this.status = make("div", { class: "brm-maskpad-status", role: "status" });
    const root = { class: "brm-maskpad", "data-lm-suppress-shortcuts": "" };
    this.root = make("div", root, this.tools(), this.stage, this.status);
  }

  tools() {
    const { ink } = this;
    this.paints = button("Paint", "Paint (E switches)", () => this.choose(false));
    this.eraser = button("Erase", "Erase (E switches)", () => this.choose(true));
    const size = { "aria-label": "Brush size", title: "Brush size ([ and ])" };
    this.slider = make("input", { type: "range", min: 0, max: 100, ...size });
    this.slider.addEventListener("input", () => this.resize(Number(this.slider.value), true));
    this.slider.addEventListener("change", () => this.hideCursor());
    this.reads = make("output", { class: "brm-maskpad-size" });
    this.undoes = button("Undo", "Undo (Ctrl+Z)", () => ink.undo());
    this.redoes = button("Redo", "Redo (Shift+Ctrl+Z)", () => ink.redo());
    this.clears = button("Clear", "Clear the mask", () => ink.clear());
    this.inverts = button("Invert", "Invert the mask", () => ink.invert());
    this.further = button("−", "Zoom out", () => this.zoomTo(this.zoom / 1.5));
    this.fits = button("Fit", "Zoom to fit", () => this.zoomTo(1));
    this.closer = button("+", "Zoom in", () => this.zoomTo(this.zoom * 1.5));
    return make(
      "div",
      { class: "brm-maskpad-tools", role: "toolbar", "aria-label": "Mask tools" },
      group("Tool", this.paints, this.eraser),
      group("History", this.undoes, this.redoes),
      make("label", { class: "brm-maskpad-brush" }, "Brush", this.slider, this.reads),
      group("Whole mask", this.clears, this.inverts),
      group("Zoom", this.further, this.fits, this.closer),
    );
  }

  listen() {
    const { canvas, root } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.hideCursor());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("keyup", () => canvas.matches(":hover") || this.hideCursor());
    const wheel = (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomTo(this.zoom * 2 ** (-event.deltaY / 200), [event.clientX, event.clientY]);
    };
    this.stage.addEventListener("wheel", wheel, { passive: false });
  }

  // -- the brush

  choose(erases) {
    this.erases = erases;
    this.paints.setAttribute("aria-pressed", !erases);
    this.eraser.setAttribute("aria-pressed", erases);
    this.cursor.classList.toggle("brm-maskpad-erases", erases);
  }

  // Sets the brush by the slider's position: each step is a factor, from 2 pixels to half the picture.
  resize(position, show = false) {
    this.position = Math.min(100, Math.max(0, position));
    this.radius = (this.longest / 4) ** (this.position / 100);
    const words = `${Math.max(1, Math.round((2 * this.radius * this.width) / this.ink.width))} px`;
    this.slider.value = this.position;
    this.slider.setAttribute("aria-valuetext", words);
    this.reads.textContent = words;
    this.cursor.style.width = `${(200 * this.radius) / this.ink.width}%`;
    if (show && this.cursor.hidden) this.showCursor(this.inMiddle());
  }

  inMiddle() {
    const seen = this.stage.getBoundingClientRect();
    return this.at({ clientX: seen.left + seen.width / 2, clientY: seen.top + seen.height / 2 });
  }

  // Returns where an event is, in the ink's pixels.
  at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return [((clientX - box.left) * this.ink.width) / box.width, ((clientY - box.top) * this.ink.height) / box.height];
  }

  showCursor([x, y]) {
    this.cursor.hidden = false;
    this.cursor.style.left = `${(100 * x) / this.ink.width}%`;
    this.cursor.style.top = `${(100 * y) / this.ink.height}%`;
  }

  hideCursor() {
    this.cursor.hidden = true;
  }

  down(event) {
    if (event.button !== 0 && event.button !== 5) return; // 5 is the other end of a pen
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.fingers.size > 1) {
        this.ink.revert();
        this.stroke = null;
        this.hideCursor();
        return;
      }
    }
    if (this.stroke) return;
    this.stroke = { id: event.pointerId, from: this.at(event), value: this.erases || event.button === 5 ? 0 : 1 };
    this.paint([event]);
  }

  move(event) {
    if (this.fingers.size > 1) {
      if (this.fingers.has(event.pointerId)) this.pinch(event);
      return;
    }
    this.showCursor(this.at(event));
    if (this.stroke?.id !== event.pointerId) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    this.paint(passed.length ? passed : [event]);
  }

  paint(events) {
    const { stroke } = this;
    for (const event of events) {
      const to = this.at(event);
      this.ink.line(...stroke.from, ...to, this.radius, stroke.value);
      stroke.from = to;
    }
    this.showCursor(stroke.from);
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    if (event.pointerType === "touch") this.hideCursor();
    if (this.stroke?.id !== event.pointerId) return;
    this.stroke = null;
    this.ink.commit();
  }

  // -- zoom

  pinch(event) {
    const before = this.spread();
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = this.spread();
    this.stage.scrollBy(before.x - after.x, before.y - after.y);
    this.zoomTo((this.zoom * after.apart) / (before.apart || 1), [after.x, after.y]);
  }

  spread() {
    const [[ax, ay], [bx, by]] = this.fingers.values();
    return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.hypot(ax - bx, ay - by) };
  }

  // Zooms, 1 being what fits; what is at the point `at` of the page stays there.
  zoomTo(zoom, at) {
    const { paper, stage } = this;
    const seen = stage.getBoundingClientRect();
    const [x, y] = at ?? [seen.left + seen.width / 2, seen.top + seen.height / 2];
    const before = paper.getBoundingClientRect();
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
    this.root.classList.toggle("brm-maskpad-zoomed", this.zoom > 1);
    paper.style.setProperty("--brm-zoom", this.zoom);
    enable(this.further, this.zoom > 1);
    enable(this.fits, this.zoom > 1);
    enable(this.closer, this.zoom < MOST_ZOOM);
    const after = paper.getBoundingClientRect();
    stage.scrollLeft += after.left + ((x - before.left) / before.width) * after.width - x;
    stage.scrollTop += after.top + ((y - before.top) / before.height) * after.height - y;
  }

  // -- keys

  key(event) {
    // The notebook still saves; none of its other shortcuts is meant while one paints.
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      this.root.removeAttribute("data-lm-suppress-shortcuts");
      setTimeout(() => this.root.setAttribute("data-lm-suppress-shortcuts", ""));
      return;
    }
    event.stopPropagation();
    const act = this.shortcut(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  shortcut(event) {
    const key = event.key.toLowerCase();
    // With AltGr on many keyboards, which counts as Control and Alt.
    if (key === "[") return () => this.resize(this.position - 4, true);
    if (key === "]") return () => this.resize(this.position + 4, true);
    if (event.altKey) return null;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") return () => (event.shiftKey ? this.ink.redo() : this.ink.undo());
      return key === "y" ? () => this.ink.redo() : null;
    }
    return key === "e" ? () => this.choose(!this.erases) : null;
  }

  // -- what the ink says

  mark(box) {
    this.frame ??= requestAnimationFrame(() => this.draw());
    this.dirty = around(this.dirty, box);
  }

  draw() {
    const { left, top } = this.dirty;
    this.context.putImageData(this.ink.pixels(this.dirty), left, top);
    this.dirty = this.frame = null;
  }

  refresh() {
    const { ink } = this;
    enable(this.undoes, ink.done.length);
    enable(this.redoes, ink.undone.length);
    enable(this.clears, ink.painted);
    const percent = (100 * ink.painted) / ink.now.length;
    const share = percent < 0.1 ? "Less than 0.1" : percent.toFixed(1);
    this.status.textContent = ink.painted
      ? `${share}% painted: this may change.`
      : "Nothing is painted yet: paint over what may change.";
  }
}

// Not `disabled`, which would drop the focus, and the next key would be the notebook's.
function enable(control, wanted) {
  control.setAttribute("aria-disabled", !wanted);
}

export default () => {
  let ink;
  return {
    async initialize({ model }) {
      ink = await openInk(model);
    },
    render({ model, el }) {
      const view = new View(ink, model, el);
      return () => view.close();
    },
  };
};
