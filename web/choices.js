// @ts-check
// The choices of a combo and the text of an empty box in the page's language, which the page itself leaves in English.
// A choice is only shown in other words: the value that is saved and sent stays as it is.
import { app } from "../../scripts/app.js";
import { isRecord, textAt } from "./given.js";
import { isOurs } from "./graph.js";
import { load, textsOf } from "./language.js";

app.registerExtension({
  name: "semantic-steering.Choices",
  async beforeRegisterNodeDef() {
    await load(); // the first graph is drawn after that
  },
  nodeCreated(/** @type {any} */ node) {
    if (!isOurs(node)) return;
    for (const widget of node.widgets ?? []) {
      const texts = textsOf(node.comfyClass, widget.name);
      const { choices } = texts;
      if (isRecord(choices)) {
        widget.options.getOptionLabel = (/** @type {string} */ value) => textAt(choices, value) ?? value;
      }
      const placeholder = textAt(texts, "placeholder");
      if (placeholder && widget.element) widget.element.placeholder = placeholder;
    }
  },
});
