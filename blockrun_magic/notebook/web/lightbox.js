// One image over the whole page. The browser's own <dialog> keeps the focus inside and closes on Escape.
import { button, make } from "./dom.js";

/**
 * Show images large, one after the other.
 * @param {HTMLElement} host where the dialog is added; it is removed when it closes
 * @param {(step: number) => Promise<{ url: string, alt: string, caption: string } | null>} show
 *   returns the image `step` after the current one; 0 is the first
 * @param {(event: KeyboardEvent) => boolean} [onKey] returns whether it has used the key
 */
export async function openLightbox(host, show, onKey = () => false) {
  const image = make("img", { alt: "" });
  const caption = make("p", { class: "brm-lightbox-caption" });
  const dialog = make("dialog", { class: "brm-lightbox", "aria-label": "Image", "data-lm-suppress-shortcuts": "" });
  const step = async (/** @type {number} */ by) => {
    const shown = await show(by);
    if (!shown) return;
    image.src = shown.url;
    image.alt = shown.alt;
    caption.textContent = shown.caption;
  };
  dialog.append(
    make(
      "div",
      { class: "brm-lightbox-bar" },
      button("‹", "Previous image", () => step(-1)),
      button("›", "Next image", () => step(1)),
      button("Close", "Close", () => dialog.close()),
    ),
    image,
    caption,
  );
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (!onKey(event)) return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => dialog.remove());
  host.append(dialog);
  await step(0);
  dialog.showModal();
}
