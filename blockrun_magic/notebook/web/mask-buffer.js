// The pixels of a mask, and the operations on them.

const TILE = 64; // pixels a side; the history keeps the tiles that a step has changed
const HISTORY = 48_000_000; // bytes of tiles
const TINTS = [0xff5000f0, 0xffa060ff]; // ABGR; two stripes, so that the mask is visible on any image

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Box */
/** @typedef {{ box: Box, before: Uint8Array, after: Uint8Array }} Tile */
/** @typedef {[number, number]} Point */

/**
 * @param {Box | null} one
 * @param {Box} other
 * @returns {Box}
 */
export const around = (one, other) => ({
  left: Math.min(one?.left ?? other.left, other.left),
  top: Math.min(one?.top ?? other.top, other.top),
  right: Math.max(one?.right ?? other.right, other.right),
  bottom: Math.max(one?.bottom ?? other.bottom, other.bottom),
});

/** The painted pixels: one byte each, 1 if painted. All views of a pad share it. */
export class MaskBuffer {
  /**
   * @param {number} width
   * @param {number} height
   */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    /** @type {Box} */
    this.whole = { left: 0, top: 0, right: width, bottom: height };
    this.stripe = Math.max(1, Math.max(width, height) / 96);
    this.now = new Uint8Array(width * height); // with the current stroke
    this.committed = new Uint8Array(width * height); // up to the last step
    /** @type {Box | null} */
    this.touched = null; // the box in which the two arrays may differ
    this.painted = 0;
    /** @type {Tile[][]} */
    this.done = [];
    /** @type {Tile[][]} */
    this.undone = [];
    /** @type {Set<{ mark(box: Box): void, refresh(): void }>} */
    this.views = new Set();
    this.stepped = () => {};
  }

  // -- painting

  /**
   * Paint discs so close to each other that they form a line.
   * @param {Point} from
   * @param {Point} to
   * @param {number} radius
   * @param {number} value
   */
  line([ax, ay], [bx, by], radius, value) {
    const discs = Math.ceil((4 * Math.hypot(bx - ax, by - ay)) / radius) || 1;
    for (let i = 1; i <= discs; i++) {
      this.disc(ax + ((bx - ax) * i) / discs, ay + ((by - ay) * i) / discs, radius, value);
    }
    this.touch({
      left: Math.floor(Math.min(ax, bx) - radius),
      top: Math.floor(Math.min(ay, by) - radius),
      right: Math.ceil(Math.max(ax, bx) + radius),
      bottom: Math.ceil(Math.max(ay, by) + radius),
    });
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} radius
   * @param {number} value
   */
  disc(x, y, radius, value) {
    const last = Math.min(this.height - 1, Math.floor(y + radius - 0.5));
    for (let row = Math.max(0, Math.ceil(y - radius - 0.5)); row <= last; row++) {
      const half = Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - y) ** 2));
      this.span(row, x - half, x + half, value);
    }
  }

  /**
   * Fill the pixels of a row whose middles lie between `from` and `to`.
   * @param {number} row
   * @param {number} from
   * @param {number} to
   * @param {number} value
   */
  span(row, from, to, value) {
    const left = Math.max(0, Math.ceil(from - 0.5));
    const right = Math.min(this.width, Math.floor(to + 0.5));
    if (left < right) this.now.fill(value, row * this.width + left, row * this.width + right);
  }

  /**
   * @param {Point} from
   * @param {Point} to
   * @param {number} value
   */
  rectangle([ax, ay], [bx, by], value) {
    this.polygon(
      [
        [ax, ay],
        [bx, ay],
        [bx, by],
        [ax, by],
      ],
      value,
    );
  }

  /**
   * Fill a closed line by the even-odd rule.
   * @param {Point[]} points
   * @param {number} value
   */
  polygon(points, value) {
    if (points.length < 3) return;
    const ys = points.map(([, y]) => y);
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const last = Math.min(this.height - 1, Math.floor(high - 0.5));
    for (let row = Math.max(0, Math.ceil(low - 0.5)); row <= last; row++) {
      const crossings = crossed(points, row + 0.5);
      for (let i = 0; i + 1 < crossings.length; i += 2) this.span(row, crossings[i], crossings[i + 1], value);
    }
    const xs = points.map(([x]) => x);
    this.touch({
      left: Math.floor(Math.min(...xs)),
      top: Math.floor(low),
      right: Math.ceil(Math.max(...xs)),
      bottom: Math.ceil(high),
    });
  }

  /**
   * Grow the painted area by `radius` pixels, or shrink it if that is negative.
   * @param {number} radius
   */
  grow(radius) {
    const value = radius > 0 ? 1 : 0;
    const from = this.committed;
    for (let y = 0, at = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, at++) {
        if (from[at] === value && this.onEdge(x, y, value)) this.disc(x + 0.5, y + 0.5, Math.abs(radius) + 0.5, value);
      }
    }
    this.touch(this.whole);
    this.commit();
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} value
   */
  onEdge(x, y, value) {
    const at = y * this.width + x;
    const from = this.committed;
    return (
      (x > 0 && from[at - 1] !== value) ||
      (x + 1 < this.width && from[at + 1] !== value) ||
      (y > 0 && from[at - this.width] !== value) ||
      (y + 1 < this.height && from[at + this.width] !== value)
    );
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

  /** @param {Uint8Array} cells */
  load(cells) {
    this.now.set(cells);
    this.touch(this.whole);
    this.commit(false);
  }

  // -- steps

  /** @param {Box} box */
  touch(box) {
    const inside = {
      left: Math.max(0, box.left),
      top: Math.max(0, box.top),
      right: Math.min(this.width, box.right),
      bottom: Math.min(this.height, box.bottom),
    };
    if (inside.left >= inside.right || inside.top >= inside.bottom) return;
    this.touched = around(this.touched, inside);
    for (const view of this.views) view.mark(inside);
  }

  /** Discard the current stroke. */
  revert() {
    if (!this.touched) return;
    this.now.set(this.committed);
    for (const view of this.views) view.mark(this.touched);
    this.touched = null;
  }

  /**
   * Combine everything painted since the last step into one step.
   * @param {boolean} [send]
   */
  commit(send = true) {
    const tiles = this.touched ? this.changedTiles(this.touched) : [];
    this.touched = null;
    if (!tiles.length) return;
    this.done.push(tiles);
    this.undone = [];
    const size = (/** @type {Tile[]} */ step) => step.reduce((sum, { before }) => sum + 2 * before.length, 0);
    let bytes = this.done.reduce((sum, step) => sum + size(step), 0);
    while (bytes > HISTORY && this.done.length > 1) bytes -= size(/** @type {Tile[]} */ (this.done.shift()));
    this.finish(send);
  }

  /** @param {Box} box */
  changedTiles(box) {
    const tiles = [];
    for (let top = box.top - (box.top % TILE); top < box.bottom; top += TILE) {
      for (let left = box.left - (box.left % TILE); left < box.right; left += TILE) {
        const right = Math.min(this.width, left + TILE);
        const place = { left, top, right, bottom: Math.min(this.height, top + TILE) };
        const [before, after] = [cut(this.committed, this.width, place), cut(this.now, this.width, place)];
        if (after.every((value, i) => value === before[i])) continue;
        this.painted += sum(after) - sum(before);
        paste(this.committed, this.width, place, after);
        tiles.push({ box: place, before, after });
      }
    }
    return tiles;
  }

  undo() {
    this.swap(this.done, this.undone, "before");
  }

  redo() {
    this.swap(this.undone, this.done, "after");
  }

  /**
   * @param {Tile[][]} from
   * @param {Tile[][]} to
   * @param {"before" | "after"} side
   */
  swap(from, to, side) {
    this.revert();
    const step = from.pop();
    if (!step) return;
    for (const tile of step) {
      this.painted += sum(tile[side]) - sum(cut(this.committed, this.width, tile.box));
      paste(this.committed, this.width, tile.box, tile[side]);
      paste(this.now, this.width, tile.box, tile[side]);
      for (const view of this.views) view.mark(tile.box);
    }
    to.push(step);
    this.finish(true);
  }

  /** @param {boolean} send */
  finish(send) {
    for (const view of this.views) view.refresh();
    if (send) this.stepped();
  }

  // -- other forms

  /**
   * Return a box as pixels for display.
   * @param {Box} box
   */
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

  // Conversion for the kernel: a bit a pixel, the first in the highest bit, rows of whole bytes.
  // Not with a canvas: browsers with fingerprinting protection change the pixels that they return.
  toBits() {
    const stride = (this.width + 7) >> 3;
    const bits = new Uint8Array(stride * this.height);
    for (let y = 0, at = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, at++) {
        if (this.committed[at]) bits[y * stride + (x >> 3)] |= 128 >> (x & 7);
      }
    }
    return bits;
  }

  /** @param {Uint8Array} bits */
  fromBits(bits) {
    const stride = (this.width + 7) >> 3;
    const cells = new Uint8Array(this.width * this.height);
    for (let y = 0, at = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, at++) cells[at] = (bits[y * stride + (x >> 3)] >> (7 - (x & 7))) & 1;
    }
    return cells;
  }
}

/**
 * Return the positions where a closed line crosses the height `y`, in order.
 * @param {Point[]} points
 * @param {number} y
 */
function crossed(points, y) {
  const crossings = [];
  for (let i = 0; i < points.length; i++) {
    const [ax, ay] = points[i];
    const [bx, by] = points[(i + 1) % points.length];
    if (ay <= y !== by <= y) crossings.push(ax + ((y - ay) / (by - ay)) * (bx - ax));
  }
  return crossings.sort((a, b) => a - b);
}

/** @param {Uint8Array} cells */
function sum(cells) {
  let total = 0;
  for (const value of cells) total += value;
  return total;
}

/**
 * @param {Uint8Array} cells
 * @param {number} width
 * @param {Box} box
 */
function cut(cells, width, { left, top, right, bottom }) {
  const part = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    part.set(cells.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return part;
}

/**
 * @param {Uint8Array} cells
 * @param {number} width
 * @param {Box} box
 * @param {Uint8Array} part
 */
function paste(cells, width, { left, top, right, bottom }, part) {
  for (let y = top; y < bottom; y++) {
    cells.set(part.subarray((y - top) * (right - left), (y - top + 1) * (right - left)), y * width + left);
  }
}
