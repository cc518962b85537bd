// Additions to core ipywidgets: Shift-Enter in the prompt, dropped files, a Copy button, names for screen readers.

const TITLE = ".jupyter-widget-Collapse-header";

/**
 * @param {HTMLElement} root the panel
 * @param {(file: File) => void} dropped called with an image file that is dropped outside of the sources
 * @returns {() => void} removes all of it
 */
export function wirePage(root, dropped) {
  const own = new AbortController();
  const { signal } = own;

  // On the window: JupyterLab's own shortcuts, of which Shift-Enter is one, are caught at the document.
  const pressed = (/** @type {KeyboardEvent} */ event) => {
    const target = event.target instanceof Element ? event.target : null;
    const prompt = target?.closest(".brm-prompt :is(textarea, input)");
    if (!prompt || !root.contains(prompt) || event.key !== "Enter" || event.isComposing) return;
    if (prompt.tagName === "TEXTAREA" && !event.shiftKey) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.repeat) return;
    prompt.dispatchEvent(new Event("change", { bubbles: true }));
    /** @type {HTMLElement | null | undefined} */ (
      prompt.closest(".brm-form")?.querySelector("button.brm-go")
    )?.click();
  };
  window.addEventListener("keydown", pressed, { capture: true, signal });

  const holdsFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  const zoneOf = (/** @type {DragEvent} */ event) => {
    const target = event.target instanceof Element ? event.target : null;
    return /** @type {HTMLElement} */ (target?.closest(".brm-drop") ?? root);
  };
  root.addEventListener(
    "dragover",
    (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      zoneOf(event).classList.add("brm-over");
    },
    { signal },
  );
  root.addEventListener("dragleave", (event) => zoneOf(event).classList.remove("brm-over"), { signal });
  root.addEventListener(
    "drop",
    (event) => {
      const files = event.dataTransfer?.files;
      if (!files?.length) return;
      event.preventDefault();
      event.stopPropagation();
      const zone = zoneOf(event);
      zone.classList.remove("brm-over");
      if (zone === root) return dropped(files[0]);
      const input = inputOf(zone.querySelector("button.widget-upload"));
      if (!input) return;
      input.files = files;
      input.dispatchEvent(new Event("change"));
    },
    { signal },
  );

  root.addEventListener(
    "click",
    (event) => {
      const copy = event.target instanceof Element ? event.target.closest(".brm-copy") : null;
      const code = copy?.closest(".brm-detail")?.querySelector(".brm-code");
      if (!copy || !code) return;
      navigator.clipboard?.writeText(code.textContent ?? "").then(() => {
        copy.textContent = "Copied";
      });
    },
    { signal },
  );

  // Folding titles are not buttons in ipywidgets: they open only on a click.
  const titleOf = (/** @type {Event} */ event) => {
    const target = event.target instanceof Element ? event.target : null;
    return /** @type {HTMLElement | null | undefined} */ (target?.closest(TITLE));
  };
  root.addEventListener(
    "keydown",
    (event) => {
      const title = titleOf(event);
      if (!title || title !== event.target || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      event.stopPropagation();
      title.click();
    },
    { signal },
  );
  root.addEventListener("click", (event) => sayFold(titleOf(event)), { signal });

  const names = new MutationObserver(() => giveNames(root));
  names.observe(root, { childList: true, subtree: true });
  giveNames(root);
  return () => {
    own.abort();
    names.disconnect();
  };
}

/** @param {Element | null | undefined} title */
function sayFold(title) {
  const open = title?.closest(".jupyter-widget-Collapse")?.classList.contains("jupyter-widget-Collapse-open");
  title?.setAttribute("aria-expanded", String(open ?? false));
}

/**
 * Name the controls that ipywidgets leave without a name.
 * @param {HTMLElement} root
 */
export function giveNames(root) {
  for (const handle of root.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".brm-field")?.querySelector("label");
    handle.setAttribute("aria-label", label?.textContent ?? "value");
  }
  for (const title of root.querySelectorAll(`${TITLE}:not([tabindex])`)) {
    title.setAttribute("role", "button");
    title.setAttribute("tabindex", "0");
    sayFold(title);
  }
  for (const list of root.querySelectorAll(".lm-TabBar-tab:not([tabindex])")) list.setAttribute("tabindex", "0");
  for (const input of root.querySelectorAll(
    "input[type=number]:not([aria-label]), input[type=file]:not([aria-label])",
  )) {
    const label = input.closest(".jupyter-widgets")?.querySelector("label");
    if (!(/** @type {HTMLInputElement} */ (input).labels?.length)) {
      input.setAttribute("aria-label", label?.textContent || "value");
    }
  }
}

/**
 * Return the file input of an upload button. It is not in the page, so the click of the button on it is intercepted.
 * @param {Element | null} button
 */
function inputOf(button) {
  const click = HTMLInputElement.prototype.click;
  /** @type {HTMLInputElement | null} */
  let input = null;
  HTMLInputElement.prototype.click = function () {
    input = this;
  };
  try {
    /** @type {HTMLElement | null} */ (button)?.click();
  } finally {
    HTMLInputElement.prototype.click = click;
  }
  return /** @type {HTMLInputElement | null} */ (input);
}
