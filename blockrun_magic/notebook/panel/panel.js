// What core ipywidgets do not have: Shift-Enter in the prompt, files dropped on the sources, a Copy button.
// Called as panel(marker) with an element inside the panel; without it everything else works all the same.
function panel(marker, patience = 300) {
  const root = marker.closest(".brm-panel");
  if (!root) {
    // The view is put into the page after it was made.
    if (patience > 0) requestAnimationFrame(() => panel(marker, patience - 1));
    return;
  }
  if (root.dataset.brmReady) return;
  root.dataset.brmReady = "1";

  // On the window: JupyterLab's own shortcuts, of which Shift-Enter is one, are caught at the document.
  window.addEventListener("keydown", function pressed(event) {
    if (!root.isConnected) return window.removeEventListener("keydown", pressed, true);
    const prompt = event.target.closest?.(".brm-prompt textarea");
    if (!root.contains(prompt) || event.key !== "Enter" || !event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const form = prompt.closest(".brm-form");
    if (event.repeat) return;
    prompt.dispatchEvent(new Event("change", { bubbles: true }));  // what was typed goes to the kernel first
    form?.querySelector("button.brm-go")?.click();
  }, true);

  const zone = (event) => event.target.closest?.(".brm-drop");
  root.addEventListener("dragover", (event) => {
    if (!zone(event) || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    zone(event).classList.add("brm-over");
  });
  root.addEventListener("dragleave", (event) => zone(event)?.classList.remove("brm-over"));
  root.addEventListener("drop", (event) => {
    const target = zone(event);
    if (!target || !event.dataTransfer.files.length) return;
    event.preventDefault();
    event.stopPropagation();
    target.classList.remove("brm-over");
    const input = inputOf(target.querySelector("button.widget-upload"));
    if (!input) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  });

  root.addEventListener("click", (event) => {
    if (!event.target.matches?.(".brm-copy")) return;
    const code = event.target.closest(".brm-detail").querySelector(".brm-code");
    navigator.clipboard?.writeText(code.textContent).then(() => { event.target.textContent = "Copied"; });
  });

  // The upload button keeps its file input out of the page, and clicks it: catch that click to get hold of it.
  function inputOf(button) {
    const click = HTMLInputElement.prototype.click;
    let found = null;
    HTMLInputElement.prototype.click = function () { found = this; };
    try {
      button?.click();
    } finally {
      HTMLInputElement.prototype.click = click;
    }
    return found;
  }
}
