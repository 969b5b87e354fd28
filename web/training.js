// @ts-check
// The nodes that train have a button that ends the training and goes on with the slider as it is: the page's own Cancel
// ends the whole prompt.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { idOf } from "./given.js";
import { dropPreview, isTraining, nodeAt } from "./graph.js";
import { load, words } from "./language.js";

const LASTS = 5000; // milliseconds that a notice stays
/** @type {import("./report_text.js").Text} */
const LABEL = { id: "finish_training", values: {} };
/** @type {import("./report_text.js").Text} */
const NOTHING = { id: "nothing_to_finish", values: {} };

/** The id of the node that runs. @type {string | undefined} */
let running;

/** @param {any} node */
async function finish(node) {
  const id = running;
  const trains = id !== undefined && nodeAt(id) === node;
  const answer = trains && (await api.fetchApi("/semantic-steering/finish", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ node: id }),
  }));
  if (answer && answer.ok) return;
  app.extensionManager.toast.add({ severity: "info", summary: node.title, detail: words(NOTHING), life: LASTS });
}

app.registerExtension({
  name: "semantic-steering.Training",
  setup() {
    api.addEventListener("executing", ({ detail }) => {
      running = idOf(detail);
    });
    api.addEventListener("executed", ({ detail }) => {
      const id = idOf(detail?.node);
      if (id !== undefined && isTraining(nodeAt(id))) dropPreview(id); // its last strip is among its own pictures
    });
  },
  /** @param {any} node */
  async nodeCreated(node) {
    if (!isTraining(node)) return;
    const widget = node.addWidget("button", "finish", null, () => void finish(node), { serialize: false });
    widget.serialize = false; // not into the workflow
    await load();
    widget.label = words(LABEL);
    node.setDirtyCanvas(true, true);
  },
});
