// @ts-check
// What comes from outside is looked at here before anything uses it: messages and answers of the server, workflow files,
// the tab's store. Each of these functions gives it back in its type, or nothing. Nothing here touches the page.

/** @typedef {import("./report_text.js").Text} Text */
/** @typedef {import("./report_text.js").Saved} Saved */
/** What the server tells, see nodes/host/page/progress.py.
 *  @typedef {{node: string, runner: string, prompt: string, text: Text, passing: boolean}} Told */
/** What a node keeps: a text, of which run, and the states of the node itself and of the one that ran.
 *  @typedef {{runner: string, state: string, ran: string, text: Text}} Entry */
/** A picture or a file that the server has, as its own results name it.
 *  @typedef {{filename: string, subfolder: string, type: string}} File */
/**
 * What nodes/diffedit.py sends: a backdrop for each picture, their heat maps, and the settings of the run.
 * @typedef {{pictures: File[], heat: File, threshold: number, grow: number}} Run
 */

const LONGEST_NAME = 200; // letters of an id or a state
const LONGEST = 100_000; // letters of a text, with all that is in it
const DEEPEST = 20; // texts in texts, subgraphs in subgraphs
const LARGEST_PICTURE = 1 << 24; // letters of its address
const PICTURE = "data:image/jpeg;base64,";
const MOST_ENTRIES = 64; // of one node: a few runs
const MOST_NODES = 50_000; // of a workflow, with those in its subgraphs
const PLACES = ["input", "output", "temp"];

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
export function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * @param {unknown} value
 * @param {...string} path
 * @returns {string | undefined} the text at its end
 */
export function textAt(value, ...path) {
  const found = at(value, path);
  return typeof found === "string" ? found : undefined;
}

/**
 * @param {unknown} value
 * @param {...string} path
 * @returns {Record<string, unknown>} what is at its end, empty if that is nothing
 */
export function recordAt(value, ...path) {
  const found = at(value, path);
  return isRecord(found) ? found : {};
}

/**
 * @param {unknown} value
 * @param {string[]} path of own properties: what every object has ("constructor") is nothing of a file's
 * @returns {unknown}
 */
function at(value, path) {
  for (const name of path) {
    if (!isRecord(value) || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

/** @param {unknown} value @returns {string | undefined} of a node or a prompt */
export function idOf(value) {
  if (typeof value === "number") return String(value);
  return isName(value) && value ? value : undefined;
}

/** @param {unknown} value @returns {value is string} */
function isName(value) {
  return typeof value === "string" && value.length <= LONGEST_NAME;
}

/** @param {unknown} value @returns {value is Text} */
function isText(value) {
  return lettersOf(value, DEEPEST) <= LONGEST;
}

/**
 * @param {unknown} value
 * @param {number} depth
 * @returns {number} of a text with all that is in it, or more; Infinity of what is none
 */
function lettersOf(value, depth) {
  if (typeof value === "string") return value.length + 1;
  if (typeof value === "number") return 1;
  if (!isRecord(value) || !depth) return Infinity;
  const all = (/** @type {unknown[]} */ parts) => {
    return parts.reduce((/** @type {number} */ sum, part) => sum + lettersOf(part, depth - 1), 1);
  };
  if ("input" in value) return isName(value.input) ? 1 : Infinity;
  if ("join" in value) return isName(value.join) && Array.isArray(value.parts) ? all(value.parts) : Infinity;
  return isName(value.id) && isRecord(value.values) ? all(Object.values(value.values)) : Infinity;
}

/** @param {unknown} value @returns {Told | undefined} */
export function toldOf(value) {
  if (!isRecord(value) || !isText(value.text) || typeof value.passing !== "boolean") return undefined;
  return [value.node, value.runner, value.prompt].every(isName) ? /** @type {any} */ (value) : undefined;
}

/** @param {unknown} value @returns {{node: string, picture: string} | undefined} of the maps so far */
export function heatOf(value) {
  if (!isRecord(value) || typeof value.node !== "string" || typeof value.picture !== "string") return undefined;
  const { node, picture } = value;
  return picture.startsWith(PICTURE) && picture.length <= LARGEST_PICTURE ? { node, picture } : undefined;
}

/** @param {unknown} value @returns {File | undefined} */
export function fileOf(value) {
  if (!isRecord(value) || typeof value.filename !== "string" || typeof value.subfolder !== "string") return undefined;
  return PLACES.includes(/** @type {any} */ (value.type)) ? /** @type {any} */ (value) : undefined;
}

/** @param {unknown} output of DiffEdit Mask @returns {Run | undefined} */
export function runOf(output) {
  const run = isRecord(output) && Array.isArray(output.outline) ? output.outline[0] : undefined;
  if (!isRecord(run) || !fileOf(run.heat) || !Array.isArray(run.pictures)) return undefined;
  if (!run.pictures.every(fileOf)) return undefined;
  return Number.isFinite(run.threshold) && Number.isFinite(run.grow) ? /** @type {any} */ (run) : undefined;
}

/** @param {unknown} value @returns {Entry[]} those of a node's properties, which a file may hold anything in */
export function entriesOf(value) {
  return Array.isArray(value) ? value.slice(-MOST_ENTRIES).filter(isEntry) : [];
}

/** @param {unknown} value */
function isEntry(value) {
  return isRecord(value) && isText(value.text) && [value.runner, value.state, value.ran].every(isName);
}

/** @param {string | null} text what the tab has stored @returns {[string, Entry[]][]} */
export function reportsOf(text) {
  const found = parsed(text);
  const pairs = Array.isArray(found) ? found.filter((pair) => Array.isArray(pair) && isName(pair[0])) : [];
  return pairs.map(([state, entries]) => [state, entriesOf(entries)]);
}

/** @param {string | null} text */
function parsed(text) {
  try {
    return JSON.parse(text ?? "[]");
  } catch {
    return [];
  }
}

/**
 * @param {unknown} entries of the server's queue
 * @param {string} prompt
 * @returns {unknown} its entry
 */
export function entryOf(entries, prompt) {
  return Array.isArray(entries) ? entries.find((entry) => Array.isArray(entry) && entry[1] === prompt) : undefined;
}

/**
 * @param {unknown} value as the page serializes a graph
 * @returns {Saved & {id?: string} | undefined}
 */
export function workflowOf(value) {
  if (!isRecord(value)) return undefined;
  const { subgraphs = [] } = isRecord(value.definitions) ? value.definitions : {};
  if (!Array.isArray(subgraphs) || ![value, ...subgraphs].every(isGraph)) return undefined;
  const definitions = new Map(subgraphs.map((graph) => [graph.id, graph]));
  return sizeOf(value, definitions, DEEPEST) <= MOST_NODES ? value : undefined;
}

/** @param {unknown} graph */
function isGraph(graph) {
  if (!isRecord(graph)) return false;
  const { nodes = [], links = [] } = graph;
  if (!Array.isArray(nodes) || !Array.isArray(links)) return false;
  const isNode = (/** @type {any} */ node) => isRecord(node) && (node.inputs == null || isInputs(node.inputs));
  return nodes.every(isNode) && links.every((link) => typeof link === "object" && link !== null);
}

/** @param {unknown} inputs */
function isInputs(inputs) {
  return Array.isArray(inputs) && inputs.every(isRecord);
}

/**
 * @param {any} graph
 * @param {Map<unknown, any>} definitions
 * @param {number} depth
 * @returns {number} of nodes, with those in its subgraphs; too many of a subgraph that has itself inside
 */
function sizeOf(graph, definitions, depth) {
  let size = 0;
  for (const { type } of graph.nodes ?? []) {
    const inner = definitions.get(type);
    if (inner && !depth) return Infinity;
    size += 1 + (inner ? sizeOf(inner, definitions, depth - 1) : 0);
    if (size > MOST_NODES) return Infinity;
  }
  return size;
}
