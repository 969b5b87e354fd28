// @ts-check
// The graph on the screen.
import { app } from "../../scripts/app.js";

const CATEGORY = "semantic steering/";

/**
 * @param {any} node a node of the graph
 * @returns {boolean} whether it is one of the pack's
 */
export function isOurs(node) {
  return Boolean(node?.constructor.nodeData?.category?.startsWith(CATEGORY));
}

/**
 * @param {any} node a node of the graph
 * @returns {boolean} whether it is one of those that train
 */
export function isTraining(node) {
  return node?.constructor.nodeData?.category === `${CATEGORY}training`;
}

/**
 * @param {string} id as a run has it: of the node, after those of the subgraph nodes around it
 * @returns {any} the node, or nothing
 */
export function nodeAt(id) {
  /** @type {any} */
  let found = { subgraph: app.rootGraph };
  for (const part of id.split(":")) found = found?.subgraph?.getNodeById(part);
  return found;
}

/** Whether nodes are elements of the page (Nodes 2.0), not drawn on a canvas (the classic renderer). */
export function asElements() {
  return Boolean(/** @type {any} */ (window).LiteGraph.vueNodesMode);
}

/**
 * Take a live preview away, which the page keeps until the node runs again, also beside the node's own pictures.
 * @param {string} id of a node, as a run has it
 */
export function dropPreview(id) {
  // Pages draw from this store, and do not see what is taken from `app.nodePreviewImages`; what is no longer there when
  // the store comes to it stays on the screen.
  /** @type {any} */
  const vue = /** @type {any} */ (document.querySelector("#vue-app"))?.__vue_app__;
  vue?.config.globalProperties.$pinia?._s.get("nodeOutput")?.revokePreviewsByExecutionId?.(id);
}
