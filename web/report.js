// @ts-check
// What our nodes say after a run, in a widget of our own: newer pages take the host's away at the end of a run.
//
// Each text belongs to a state of the graph: that of the node it is about, and of the node that ran. It is shown as long
// as, and whenever again, the graph is in that state (undo, reload, a run from the cache), and marked as the last run's
// where it is not. It is kept in the node's properties, so in the workflow file.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { entriesOf, entryOf, idOf, recordAt, reportsOf, toldOf, workflowOf } from "./given.js";
import { asElements, dropPreview, isOurs, nodeAt } from "./graph.js";
import { load, words } from "./language.js";
import { isOff, nodesOf, statesOf } from "./report_text.js";

/** @typedef {import("./report_text.js").Text} Text */
/** @typedef {import("./report_text.js").Saved} Saved */
/** @typedef {import("./given.js").Told} Told */
/** @typedef {import("./given.js").Entry} Entry */

const PROPERTY = "semantic_steering_report";
const STORE = "semantic-steering.reports"; // what this tab knows, over a reload
const MOST = 200; // states that it remembers
const MOST_RUNS = 8; // of one node, such as a detailer's
const LASTS = 15000; // milliseconds that a notice stays
const MARGIN = 10; // pixels around a widget in the classic renderer

/** Texts by the state of the node that ran. @type {Map<string, Entry[]>} */
const remembered = new Map(reportsOf(sessionStorage.getItem(STORE)));
/** Progress, by the node's id. @type {Map<string, Text>} */
const passing = new Map();
/** What was queued, by the prompt's id. @type {Map<string, Promise<{id?: string, states: Map<string, string>} | null>>} */
const queued = new Map();
/** @type {WeakMap<object, Panel>} by node */
const panels = new WeakMap();
let made = 0;
const begun = new Set(); // nodes of this run, and those that a picture was shown on
const previewed = new Set();
let work = Promise.resolve(); // events are dealt with one after the other

/** The text under one node. */
class Panel {
  #element = document.createElement("div");
  #text = "";
  /** @type {[string, number, number] | undefined} text, width, height */
  #measured;
  #before = 0; // height of the node without the text
  #grown = 0; // and with it

  /** @param {any} node */
  constructor(node) {
    this.node = node;
    this.#element.className = "semantic-steering-report";
    this.#element.style.cssText =
      "display: none; white-space: pre-wrap; overflow-wrap: break-word; font: 12px/16px Inter, sans-serif; " +
      "color: var(--input-text); user-select: text; overflow: hidden auto";
    // Undo makes a new node with the old one's id. The Vue renderer would go on showing the old one's element for it,
    // unless the type is another.
    const widget = node.addDOMWidget("report", `semantic_steering_report_${made++}`, this.#element, {
      serialize: false, // not into the prompt
      hideOnZoom: false,
      getMinHeight: () => this.#height(),
      getMaxHeight: () => this.#height(),
    });
    widget.serialize = false; // not into the workflow
  }

  /** @param {string} text @param {boolean} old whether it is of another state of the graph */
  show(text, old) {
    this.#element.style.opacity = old ? "0.6" : "1";
    if (text === this.#text) return;
    this.#text = this.#element.textContent = text;
    this.#element.style.display = text ? "block" : "none";
    if (asElements()) return; // its nodes make room by themselves
    const { node } = this;
    if (node.size[1] !== this.#grown) this.#before = node.size[1];
    const height = Math.max(node.computeSize()[1], this.#before);
    if (height !== node.size[1]) node.setSize([node.size[0], height]);
    this.#grown = node.size[1];
    node.setDirtyCanvas(true, true);
  }

  /** Of the text in the node's width. */
  #height() {
    if (!this.#text) return 0;
    const width = this.node.size[0] - 2 * MARGIN;
    if (this.#measured?.[0] !== this.#text || this.#measured[1] !== width) {
      const copy = /** @type {HTMLElement} */ (this.#element.cloneNode(true));
      Object.assign(copy.style, { position: "absolute", visibility: "hidden", width: `${width}px`, height: "auto" });
      document.body.append(copy);
      this.#measured = [this.#text, width, copy.offsetHeight + 2 * MARGIN];
      copy.remove();
    }
    return this.#measured[2];
  }
}

/** @param {Entry} entry */
function remember(entry) {
  const others = remembered.get(entry.ran) ?? [];
  remembered.delete(entry.ran); // the newest are the last
  remembered.set(entry.ran, [...others, entry].slice(-MOST_RUNS));
  while (remembered.size > MOST) remembered.delete(/** @type {string} */ (remembered.keys().next().value));
  try {
    sessionStorage.setItem(STORE, JSON.stringify([...remembered]));
  } catch {
    // It is full: a reload has what the graph itself holds.
  }
}

/**
 * @param {string} id
 * @returns {Entry[]} what the graph itself has of a node
 */
function keptBy(id) {
  return entriesOf(nodeAt(id).properties[PROPERTY]);
}

/** Show under every node what belongs to the graph's state. @param {Saved} [workflow] it, if it is at hand */
function refresh(workflow = /** @type {any} */ (app.rootGraph.serialize())) {
  const nodes = nodesOf(workflow);
  const ours = [...nodes.keys()].filter((id) => isOurs(nodeAt(id)));
  if (!ours.length) return;
  const states = statesOf(workflow);
  // A file's own, where nothing was run since it was opened.
  ours.flatMap(keptBy).filter(({ ran }) => !remembered.has(ran)).forEach(remember);
  for (const id of ours) {
    const node = nodeAt(id);
    /** @type {Entry[]} */
    const now = [];
    for (const [runner, state] of states) {
      for (const entry of remembered.get(state) ?? []) {
        if (entry.state === states.get(id)) now.push({ ...entry, runner });
      }
    }
    if (now.length) keep(id, now);
    const entries = now.length ? now : keptBy(id);
    const progress = passing.get(id);
    if (progress !== undefined) panelOf(node).show(words(progress), false);
    else if (isOff(nodes.get(id)) || !entries.length) panels.get(node)?.show("", false);
    else panelOf(node).show(written(id, entries, !now.length), !now.length);
  }
}

/** @param {any} node */
function panelOf(node) {
  const found = panels.get(node) ?? new Panel(node);
  panels.set(node, found);
  return found;
}

/**
 * @param {string} id
 * @param {Entry[]} entries
 * @param {boolean} old
 */
function written(id, entries, old) {
  const own = entries.filter(({ runner }) => runner === id);
  const runs = entries.filter(({ runner }) => runner !== id);
  const lines = own.map(({ text }) => words(text));
  for (const { runner, text } of runs) {
    const title = String(nodeAt(runner)?.title ?? runner); // of a file, where it may be anything
    lines.push(runs.length > 1 ? `${words({ id: "run_of", values: { title, node: runner } })}\n${words(text)}` : words(text));
  }
  return [...(old ? [words({ id: "last_run", values: {} })] : []), ...lines].join("\n");
}

/**
 * Into the node's properties, and into what undo compares the graph with: a run is no step to undo.
 * @param {string} id
 * @param {Entry[]} entries
 */
function keep(id, entries) {
  const { properties } = nodeAt(id);
  if (JSON.stringify(properties[PROPERTY]) === JSON.stringify(entries)) return;
  properties[PROPERTY] = entries;
  /** @type {any} */
  const tracked = app.extensionManager.workflow.activeWorkflow?.changeTracker?.activeState;
  const saved = tracked && nodesOf(tracked).get(id);
  if (saved) saved.properties = { ...saved.properties, [PROPERTY]: structuredClone(entries) };
}

/**
 * The graph as it was when a prompt was queued: its id and the states of its nodes; null where the server has no
 * workflow of it.
 * @param {string} prompt
 */
function asQueued(prompt) {
  const found = queued.get(prompt) ?? lookUp(prompt).catch(() => null);
  queued.set(prompt, found);
  return found;
}

/** @param {string} prompt */
async function lookUp(prompt) {
  const running = await (await api.fetchApi("/queue")).json();
  const item =
    entryOf(running?.queue_running, prompt) ??
    recordAt(await (await api.fetchApi(`/history/${encodeURIComponent(prompt)}`)).json(), prompt).prompt;
  const workflow = workflowOf(recordAt(Array.isArray(item) ? item[3] : null, "extra_pnginfo").workflow);
  return workflow ? { id: workflow.id, states: statesOf(workflow) } : null;
}

/** @param {Told} told */
async function tell({ node: id, runner, prompt, text, passing: passes }) {
  const workflow = await asQueued(prompt);
  const here = workflow === null || workflow.id === undefined || workflow.id === app.rootGraph.id;
  passing.delete(id);
  if (passes) {
    if (here) passing.set(id, text);
  } else {
    const states = workflow?.states ?? statesOf(/** @type {any} */ (app.rootGraph.serialize()));
    remember({ runner, state: states.get(id) ?? "", ran: states.get(runner) ?? states.get(id) ?? "", text });
    const inside = id.includes(":") && app.canvas?.graph?.isRootGraph; // it is not on the screen then
    if (here && inside) {
      const summary = nodeAt(id.split(":")[0])?.title;
      app.extensionManager.toast.add({ severity: "info", summary, detail: words(text), life: LASTS });
    }
  }
  refresh();
}

/** A node begins: what it said before is of an earlier run. @param {string} prompt @param {string} runner */
async function begin(prompt, runner) {
  const workflow = await asQueued(prompt);
  const state = workflow?.states.get(runner);
  passing.delete(runner);
  if (state === undefined || !remembered.delete(state)) return;
  for (const id of nodesOf(/** @type {any} */ (app.rootGraph.serialize())).keys()) {
    if (isOurs(nodeAt(id))) keep(id, keptBy(id).filter(({ ran }) => ran !== state));
  }
  refresh();
}

/** A tile of an earlier run, which the page keeps on a node that ran again and showed nothing. */
function clearTiles() {
  for (const id of begun) {
    const node = nodeAt(id);
    if (!isOurs(node) || previewed.has(id) || app.nodeOutputs[id]?.images?.length) continue;
    dropPreview(id);
    if (!node.imgs?.length) continue;
    delete app.nodePreviewImages[id];
    node.imgs = undefined;
    node.setDirtyCanvas(true, true);
  }
}

/** @param {() => unknown} step */
function after(step) {
  work = work.then(step).then(() => {}, (error) => console.error("semantic-steering:", error));
}

app.registerExtension({
  name: "semantic-steering.Report",
  setup() {
    after(load);
    let prompt = "";
    api.addEventListener("execution_start", ({ detail }) => {
      const id = idOf(detail?.prompt_id);
      if (id === undefined) return;
      prompt = id;
      begun.clear();
      previewed.clear();
    });
    api.addEventListener("b_preview_with_metadata", ({ detail }) => previewed.add(idOf(detail?.displayNodeId)));
    api.addEventListener("executing", ({ detail }) => {
      const [started, runner] = [prompt, idOf(detail)]; // the step may come when another run has begun
      if (runner === undefined) return; // the run is over
      begun.add(runner);
      after(() => begin(started, runner));
    });
    const events = /** @type {any} */ (api); // its types know the host's own events only
    events.addEventListener("semantic-steering.text", (/** @type {CustomEvent<unknown>} */ { detail }) => {
      const told = toldOf(detail);
      if (told) after(() => tell(told));
    });
    for (const end of /** @type {const} */ (["execution_error", "execution_interrupted", "execution_success"])) {
      api.addEventListener(end, () => {
        after(() => {
          passing.clear();
          queued.clear();
          clearTiles();
          refresh();
        });
      });
    }
    events.addEventListener("graphChanged", (/** @type {CustomEvent<unknown>} */ { detail }) => refresh(workflowOf(detail)));
  },
  afterConfigureGraph() {
    after(load); // the first graph may come before `setup`
    after(() => refresh());
  },
});
