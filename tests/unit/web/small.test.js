// The small decisions of the panel's page: presses, keys of the gallery, zoom.
import assert from "node:assert/strict";
import { test } from "node:test";
import { moved } from "../../../blockrun_magic/notebook/web/gallery.js";
import { pressFilter } from "../../../blockrun_magic/notebook/web/go.js";
import { bounded, zoomed } from "../../../blockrun_magic/notebook/web/zoom.js";

test("the second half of a double click is no press of its own", () => {
  const judge = pressFilter(600);
  const own = [0, 200, 599, 600, 900, 1300].map((time) => judge(time, "a fox").own);
  assert.deepEqual(own, [true, false, false, true, false, true]);
});

test("a press of a changed form is never lost", () => {
  const judge = pressFilter(600);
  assert.deepEqual(judge(0, "a fox"), { own: true, changed: true });
  assert.deepEqual(judge(100, "a crane"), { own: true, changed: true });
  assert.deepEqual(judge(150, "a crane"), { own: false, changed: false });
  assert.deepEqual(judge(900, "a crane", true), { own: false, changed: false }); // the last one is being prepared
  assert.deepEqual(judge(950, "a snail", true), { own: true, changed: true });
  assert.deepEqual(judge(1600, "a snail"), { own: true, changed: false });
});

test("arrows move in rows and columns and stop at the ends", () => {
  assert.equal(moved("ArrowRight", 0, 5, 2), 1);
  assert.equal(moved("ArrowDown", 1, 5, 2), 3);
  assert.equal(moved("ArrowDown", 4, 5, 2), 4);
  assert.equal(moved("ArrowUp", 1, 5, 2), 1);
  assert.equal(moved("End", 1, 5, 2), 4);
  assert.equal(moved("Home", 3, 5, 2), 0);
  assert.equal(moved("x", 1, 5, 2), null);
});

test("zooming keeps the point under the pointer in place", () => {
  const { scale, x, y } = zoomed({ scale: 2, x: -0.4, y: -0.3 }, 1.5, 0.25, 0.6);
  assert.equal(scale, 3);
  assert.ok(Math.abs((0.25 - x) / scale - (0.25 + 0.4) / 2) < 1e-9);
  assert.ok(Math.abs((0.6 - y) / scale - (0.6 + 0.3) / 2) < 1e-9);
});

test("an image never leaves its pane", () => {
  assert.deepEqual(bounded({ scale: 2, x: 0.5, y: -3 }), { scale: 2, x: 0, y: -1 });
  assert.deepEqual(zoomed({ scale: 2, x: -1, y: -1 }, 0.1), { scale: 1, x: 0, y: 0 });
});
