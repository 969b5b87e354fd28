// @ts-check
// Workflow files made from the pack's first templates have a name for an id. Newer pages file what a run says under
// the id that they gave the workflow themselves, an UUID, and look it up under the graph's: errors were not shown.
import { app } from "../../scripts/app.js";
import { textAt } from "./given.js";

app.registerExtension({
  name: "semantic-steering.WorkflowId",
  beforeConfigureGraph(/** @type {{id?: unknown}} */ data) {
    if (textAt(data, "id")?.startsWith("semantic-steering-")) data.id = crypto.randomUUID();
  },
});
