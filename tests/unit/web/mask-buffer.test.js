// What the painter does to the pixels of a mask.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MaskBuffer } from "../../../blockrun_magic/notebook/web/mask-buffer.js";

/** @param {MaskBuffer} mask */
const rows = (mask) =>
  Array.from({ length: mask.height }, (_, y) =>
    [...mask.committed.subarray(y * mask.width, (y + 1) * mask.width)].map((cell) => (cell ? "#" : ".")).join(""),
  );

/**
 * @param {number} width
 * @param {number} height
 * @param {[number, number, number, number]} box left, top, right, bottom
 */
function withBox(width, height, [left, top, right, bottom]) {
  const mask = new MaskBuffer(width, height);
  mask.rectangle([left, top], [right, bottom], 1);
  mask.commit();
  return mask;
}

test("a rectangle paints the pixels whose middles it covers", () => {
  assert.deepEqual(rows(withBox(5, 4, [1, 1, 4, 3])), [".....", ".###.", ".###.", "....."]);
});

test("a rectangle may be drawn in any direction and beyond the image", () => {
  assert.deepEqual(rows(withBox(4, 3, [9, 9, 2, 1])), ["....", "..##", "..##"]);
});

test("what a lasso encloses twice is outside", () => {
  const mask = new MaskBuffer(8, 4);
  mask.polygon(
    [
      [0, 0],
      [8, 0],
      [8, 4],
      [0, 4],
      [0, 0],
      [2, 1],
      [6, 1],
      [6, 3],
      [2, 3],
      [2, 1],
    ],
    1,
  );
  mask.commit();
  assert.deepEqual(rows(mask), ["########", "##....##", "##....##", "########"]);
});

test("grow and shrink move the edge and are steps of their own", () => {
  const mask = withBox(7, 7, [3, 3, 4, 4]);
  mask.grow(1);
  assert.equal(mask.painted, 9);
  mask.grow(-1);
  assert.equal(mask.painted, 1);
  mask.undo();
  assert.equal(mask.painted, 9);
});

test("undo and redo give back every pixel, over many tiles", () => {
  const mask = withBox(200, 150, [10, 10, 190, 140]);
  const before = mask.toBits();
  mask.line([0, 0], [199, 149], 5, 0);
  mask.commit();
  const after = mask.toBits();
  mask.invert();
  mask.undo();
  assert.deepEqual(mask.toBits(), after);
  mask.undo();
  assert.deepEqual(mask.toBits(), before);
  mask.redo();
  assert.deepEqual(mask.toBits(), after);
  assert.equal(
    mask.painted,
    after.reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0),
  );
});

test("a new step ends what could be redone, and one that changes nothing is none", () => {
  const mask = withBox(9, 9, [2, 2, 5, 5]);
  mask.undo();
  assert.equal(mask.undone.length, 1);
  mask.rectangle([0, 0], [1, 1], 1);
  mask.commit();
  assert.equal(mask.undone.length, 0);
  mask.rectangle([0, 0], [1, 1], 1);
  mask.commit();
  assert.equal(mask.done.length, 1);
});

test("a stroke that is given up leaves nothing", () => {
  const mask = new MaskBuffer(20, 20);
  mask.line([2, 2], [18, 18], 3, 1);
  mask.revert();
  mask.commit();
  assert.equal(mask.painted, 0);
  assert.ok(mask.now.every((cell) => cell === 0));
});

test("bits are rows of whole bytes, the first pixel in the highest bit", () => {
  const mask = withBox(11, 2, [0, 0, 9, 1]);
  assert.deepEqual([...mask.toBits()], [0xff, 0x80, 0, 0]);
  assert.deepEqual(mask.fromBits(mask.toBits()), mask.committed);
});
