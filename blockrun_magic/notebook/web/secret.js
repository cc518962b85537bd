// A field for a key. The text is sent once and never becomes a part of the widget's state.
import { button, make } from "./dom.js";

/** @param {{ model: import("./images.js").Model, el: HTMLElement }} context */
function render({ model, el }) {
  const name = model.get("description");
  const input = make("input", { type: "password", autocomplete: "off", spellcheck: "false", "aria-label": name });
  input.placeholder = "0x…";
  const send = () => {
    if (!input.value) return;
    model.send({ type: "secret", value: input.value });
    input.value = "";
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") send();
  });
  el.classList.add("brm-secret");
  el.append(make("label", {}, name, input), button("Import", `Import: ${name}`, send));
}

export default { render };
