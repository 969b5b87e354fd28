// @ts-check
// What nodes say after a run, without the page: sentences from data, and which state of a graph they belong to.

import { textAt } from "./given.js";

/**
 * A sentence as nodes/host/page/messages.py sends it: an id with values, several with a separator, the name of an
 * input, or what has no language.
 * @typedef {string | number | {id: string, values: Record<string, Text>} | {join: string, parts: Text[]} |
 *   {input: string}} Text
 */
/**
 * A language: `sentences` by id, and the translated `nodeDefs` of the pack.
 * @typedef {{sentences: Record<string, unknown>, nodeDefs?: Record<string, unknown>}} Language
 */
/** What a saved workflow says of a node. @typedef {Record<string, any>} SavedNode */
/** @typedef {{nodes?: SavedNode[], links?: any[], definitions?: {subgraphs?: any[]}}} Saved */

const BYPASSED = 4;
const MUTED = 2;
const CHANGING = new Set(["randomize", "increment", "decrement"]);

/**
 * A text in words. What a language lacks is said in the other one.
 * @param {Text} text
 * @param {Language} language
 * @param {Language} [otherwise]
 * @returns {string}
 */
export function say(text, language, otherwise = language) {
  if (typeof text !== "object") return String(text);
  if ("input" in text) {
    const [node, input] = text.input.split(".");
    return textAt(language.nodeDefs, node, "inputs", input, "name") ?? input ?? text.input;
  }
  const sentence = (/** @type {string} */ id) => textAt(language.sentences, id) ?? textAt(otherwise.sentences, id);
  if ("join" in text) return text.parts.map((part) => say(part, language, otherwise)).join(sentence(text.join) ?? " ");
  const values = new Map(Object.entries(text.values));
  // An id without a sentence is shown as it is: what is in it is no place for values.
  return sentence(text.id)?.replace(/\{(\w+)\}/g, (_, name) => say(values.get(name) ?? "", language, otherwise)) ?? text.id;
}

/** @param {SavedNode | undefined} node whether it takes no part in a run */
export function isOff(node) {
  return node?.mode === BYPASSED || node?.mode === MUTED;
}

/**
 * The nodes of a saved workflow by their ids in a run: "12", and "12:5" for what is in the subgraph of node 12.
 * @param {Saved} workflow
 * @returns {Map<string, SavedNode>}
 */
export function nodesOf(workflow) {
  const found = new Map();
  const definitions = definitionsOf(workflow);
  const collect = (/** @type {Saved} */ graph, /** @type {string} */ before) => {
    for (const node of graph.nodes ?? []) {
      const id = `${before}${node.id}`;
      found.set(id, node);
      const inner = definitions.get(node.type);
      if (inner) collect(inner, `${id}:`);
    }
  };
  collect(workflow, "");
  return found;
}

/**
 * What the result of each node depends on, in short: its type, its values, and what it is connected to, as far as that
 * reaches; not ids, places or titles. A seed that changes after each run by itself does not count.
 * @param {Saved} workflow
 * @returns {Map<string, string>} by the ids of `nodesOf`
 */
export function statesOf(workflow) {
  const definitions = definitionsOf(workflow);
  const states = new Map();
  const collect = (/** @type {Saved} */ graph, /** @type {string} */ before, /** @type {string} */ around) => {
    const nodes = new Map((graph.nodes ?? []).map((node) => [String(node.id), node]));
    const links = new Map((graph.links ?? []).map((link) => [linkId(link), origin(link)]));
    const stateOf = (/** @type {string} */ id) => {
      const key = before + id;
      if (states.has(key)) return states.get(key);
      const node = nodes.get(id);
      if (!node) return around; // a subgraph's own input
      states.set(key, ""); // should a graph have a circle
      const inner = definitions.get(node.type);
      const inputs = []; // the connected ones: what is queued leaves the others out
      for (const { name, link } of node.inputs ?? []) {
        const from = link == null ? undefined : links.get(link);
        if (from) inputs.push([name, stateOf(from[0]), from[1]]);
      }
      const what = [around, inner ? contentsOf(inner, definitions) : node.type, node.mode ?? 0, settled(node)];
      states.set(key, short(JSON.stringify([what, inputs])));
      if (inner) collect(inner, `${key}:`, states.get(key));
      return states.get(key);
    };
    for (const id of nodes.keys()) stateOf(id);
  };
  collect(workflow, "", "");
  return states;
}

/** @param {Saved} workflow */
function definitionsOf(workflow) {
  return new Map((workflow.definitions?.subgraphs ?? []).map((definition) => [definition.id, definition]));
}

/**
 * What is in a subgraph, but not how it looks.
 * @param {Saved} graph
 * @param {Map<string, any>} definitions
 * @returns {any[]}
 */
function contentsOf(graph, definitions) {
  const nodes = (graph.nodes ?? []).map((node) => {
    const inner = definitions.get(node.type);
    return [node.id, inner ? contentsOf(inner, definitions) : node.type, node.mode ?? 0, settled(node)];
  });
  return [nodes, (graph.links ?? []).map((link) => [...origin(link), ...target(link)])];
}

/** @param {any} link of a graph or of a subgraph, which save it in two ways */
function linkId(link) {
  return Array.isArray(link) ? link[0] : link.id;
}

/**
 * @param {any} link
 * @returns {[string, number]} the node and its output that a link comes from
 */
function origin(link) {
  return Array.isArray(link) ? [String(link[1]), link[2]] : [String(link.origin_id), link.origin_slot];
}

/** @param {any} link */
function target(link) {
  return Array.isArray(link) ? [link[3], link[4]] : [link.target_id, link.target_slot];
}

/** @param {SavedNode} node its values, without a number that changes by itself */
function settled(node) {
  const values = node.widgets_values;
  if (!Array.isArray(values)) return values ?? [];
  return values.map((value, i) => (CHANGING.has(values[i + 1]) ? null : value));
}

/** @param {string} text a short name for it: two FNV-1a hashes of 32 bits */
function short(text) {
  let [one, other] = [0x811c9dc5, 0x01000193];
  for (let i = 0; i < text.length; i++) {
    one = Math.imul(one ^ text.charCodeAt(i), 0x01000193);
    other = Math.imul(other ^ text.charCodeAt(i), 0x85ebca6b);
  }
  return (one >>> 0).toString(36) + (other >>> 0).toString(36);
}
