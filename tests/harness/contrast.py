"""Legibility of text on a page: the contrast of WCAG 2, from the colors on the screen."""

from __future__ import annotations

from playwright.sync_api import Locator

__all__ = ["LEGIBLE", "least_contrast"]

LEGIBLE = 4.5
"""The minimum contrast for text of ordinary size (WCAG 2.2, level AA)."""

_WORST = """root => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [[r, g, b], a / 255];
  };
  const mix = (under, over, part) => under.map((value, i) => value + (over[i] - value) * part);
  // An element with its opacity is painted as a whole onto what is under it: [ground, text] after that.
  const painted = (chain, under) => {
    const style = getComputedStyle(chain[0]);
    const own = mix(under, ...rgba(style.backgroundColor));
    const inner = chain.length > 1 ? painted(chain.slice(1), own) : [own, mix(own, ...rgba(style.color))];
    return inner.map(color => mix(under, color, Number(style.opacity)));
  };
  const luminance = color => color
    .map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = element => {
    const chain = [];
    for (let at = element; at; at = at.parentElement) chain.unshift(at);
    const [dark, light] = painted(chain, [255, 255, 255]).map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  let worst = [Infinity, ""];
  while (texts.nextNode()) {
    const { data, parentElement } = texts.currentNode;
    if (!data.trim() || !parentElement.checkVisibility({ visibilityProperty: true })) continue;
    const ratio = contrast(parentElement);
    if (ratio < worst[0]) worst = [ratio, data.trim()];
  }
  return worst;
}"""


def least_contrast(place: Locator) -> tuple[float, str]:
    """Return the lowest contrast of any text in `place`, and that text."""
    ratio, text = place.evaluate(_WORST)
    return float("inf") if ratio is None else ratio, text
