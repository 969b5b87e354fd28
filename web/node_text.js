// @ts-check
// The classic renderer gives the text under a node room for two lines and hides the rest behind a scroll bar. What our
// nodes say after a run is often longer: here the node makes room for it. Vue nodes do that by themselves.
//
// The host shows such a text in the graph that is open, and a subgraph's own node has no room for one. What a node in
// there says after a run is told outside by a notice.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const TEXT = "$$node-text-preview"; // the host's name for the widget that holds the text
const CATEGORY = "semantic steering/";
const LINE = 16; // pixels, at the host's text size
const AROUND = { width: 52, height: 36 }; // the host's margins and paddings around the text
const HIGHEST = 236; // beyond it the host scrolls anyway
const LASTS = 15000; // milliseconds that the notice stays

const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/**
 * The lines that a text takes when it is broken wherever the width ends, as the host does.
 * @param {string} text
 * @param {number} width pixels
 */
function lines(text, width) {
  pen.font = "12px Inter, sans-serif";
  return text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(pen.measureText(line).width / width)), 0);
}

/**
 * @param {any} node a node of the graph
 * @returns {boolean} whether it is one of the pack's, or a subgraph with one in it
 */
function isOurs(node) {
  if (node.isSubgraphNode?.()) return node.subgraph.nodes.some(isOurs);
  return Boolean(node.constructor.nodeData?.category?.startsWith(CATEGORY));
}

/** @param {any} node a node of the graph */
function makeRoom(node) {
  const widget = node.widgets?.find((/** @type {any} */ found) => found.name === TEXT);
  if (!isOurs(node) || typeof widget?.value !== "string") return;
  const needed = LINE * lines(widget.value, node.size[0] - AROUND.width) + AROUND.height;
  widget.options.getMinHeight = () => Math.min(HIGHEST, needed);
  const height = node.computeSize()[1];
  if (height > node.size[1]) node.setSize([node.size[0], height]);
}

app.registerExtension({
  name: "semantic-steering.NodeText",
  setup() {
    const events = /** @type {any} */ (api); // its types know the host's own events only
    events.addEventListener("semantic-steering.verdict", (/** @type {CustomEvent} */ { detail }) => {
      if (!app.canvas?.graph?.isRootGraph) return;
      const summary = app.canvas.graph.getNodeById(detail.node.split(":")[0])?.title;
      app.extensionManager.toast.add({ severity: "info", summary, detail: detail.text, life: LASTS });
    });
    api.addEventListener("progress_text", () => {
      // The host puts the text into the widget when it hears the same event, perhaps after this listener.
      requestAnimationFrame(() => {
        if (!app.canvas || /** @type {any} */ (window).LiteGraph.vueNodesMode) return;
        for (const node of app.canvas.graph?._nodes ?? []) makeRoom(node);
      });
    });
  },
});
