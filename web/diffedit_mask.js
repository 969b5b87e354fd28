// @ts-check
// DiffEdit Mask shows the picture, the heat map over it and the outline of the mask, which follows `threshold` and
// `grow` without a run. A DOM widget, because both of the page's renderers show those; nothing of it is saved.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { fileOf, heatOf, idOf, isRecord, runOf } from "./given.js";
import { asElements, nodeAt } from "./graph.js";
import { load as loadLanguage, words } from "./language.js";
import { maskOf, outlineOf, readHeat, shareOf } from "./diffedit_outline.js";

/** @typedef {import("comfyui").Node} Node */
/** @typedef {import("./diffedit_outline.js").Heat} Heat */
/** @typedef {import("./given.js").File} File */
/** @typedef {import("./given.js").Run} Run */

const HEIGHT = 220; // at least, like the page's own previews
const SIDE = 1024; // of the drawing's longer side: the lines are sharp over a small picture too
const TINT = [242, 38, 89]; // as in nodes/host/page/previews.py
const OPACITY = 0.6;
/** @type {import("./report_text.js").Text} */
const GONE = { id: "run_again", values: {} }; // the server's temporary files do not outlive it

/** @type {WeakMap<object, Panel>} by node */
const panels = new WeakMap();
let made = 0;

/** The drawing on one node. */
class Panel {
  /** @type {Run | undefined} */
  #run;
  /** @type {Heat | undefined} */
  #heat;
  /** @type {{image: HTMLImageElement, glow: HTMLCanvasElement} | undefined} */
  #shown;
  #opened = false; // before a run there is nothing to see
  #index = 0;
  #waiting = false;
  #element = document.createElement("div");
  #canvas = document.createElement("canvas");
  #caption = document.createElement("div");
  #next = document.createElement("button");

  /** @param {Node} node */
  constructor(node) {
    this.node = node;
    this.#element.style.cssText = "display: none; flex-direction: column; gap: 4px; font: 12px sans-serif";
    this.#canvas.style.cssText = "flex: 1 1 0; min-height: 0; width: 100%; object-fit: contain; pointer-events: none";
    this.#caption.style.cssText = "text-align: center; color: var(--descrip-text)";
    this.#next.style.cssText = "display: none; align-self: center; color: var(--descrip-text); cursor: pointer";
    this.#next.addEventListener("click", () => this.#turnTo(this.#index + 1));
    this.#element.append(this.#canvas, this.#caption, this.#next);
    // Undo makes a new node with the old one's id. The Vue renderer would go on showing the old one's element for it,
    // unless the type is another.
    const widget = node.addDOMWidget("outline", `semantic_steering_outline_${made++}`, this.#element, {
      serialize: false, // not into the prompt
      hideOnZoom: false,
      getMinHeight: () => (this.#opened ? HEIGHT : 0),
      getMaxHeight: () => (this.#opened ? Infinity : 0),
    });
    widget.serialize = false; // not into the workflow
    for (const live of node.widgets ?? []) {
      if (live.name !== "threshold" && live.name !== "grow") continue;
      const { callback } = live;
      live.callback = (...values) => {
        callback?.apply(live, values);
        this.#redraw();
      };
    }
  }

  /** @param {unknown} output of a run, from the server or from the page's own store */
  async show(output) {
    const run = runOf(output);
    if (!run || run === this.#run) return;
    this.#run = run;
    this.#heat = this.#shown = undefined;
    this.#open();
    try {
      const answer = await api.fetchApi(address(run.heat));
      if (!answer.ok) throw new Error(answer.statusText);
      const heat = readHeat(await answer.arrayBuffer());
      if (run !== this.#run) return; // the next run was faster
      this.#heat = heat;
      await this.#turnTo(Math.min(this.#index, heat.count - 1));
    } catch {
      if (run === this.#run) this.#caption.textContent = words(GONE);
    }
  }

  /** @param {string} address of a picture of the maps so far, while the node runs */
  async preview(address) {
    const run = this.#run;
    const image = await load(address).catch(() => null);
    if (!image || run !== this.#run) return; // its result is already here
    this.#open();
    [this.#canvas.width, this.#canvas.height] = [image.width, image.height];
    this.#canvas.getContext("2d")?.drawImage(image, 0, 0);
    this.#caption.textContent = "";
  }

  #open() {
    this.#opened = true;
    this.#element.style.display = "flex";
    this.#element.style.minHeight = `${HEIGHT}px`;
  }

  /** @param {number} index */
  async #turnTo(index) {
    const [run, heat] = [this.#run, this.#heat];
    if (!run || !heat) return;
    this.#index = index % heat.count;
    const file = run.pictures[this.#index];
    const found = file && (await load(api.apiURL(address(file))).catch(() => null));
    const image = found && Number.isInteger(found.naturalWidth / heat.width) ? found : null; // whole cells
    if (!image) this.#caption.textContent = words(GONE);
    if (!image || run !== this.#run || index % heat.count !== this.#index) return;
    this.#shown = { image, glow: glowOf(heat, this.#index) };
    this.#next.style.display = heat.count > 1 ? "" : "none";
    this.#next.textContent = words({ id: "picture_of", values: { number: this.#index + 1, count: heat.count } });
    this.#redraw();
  }

  /** Once a frame, however many values a drag gives in it. */
  #redraw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#draw();
    });
  }

  #draw() {
    const [run, heat, shown, context] = [this.#run, this.#heat, this.#shown, this.#canvas.getContext("2d")];
    if (!run || !heat || !shown || !context) return;
    const { naturalWidth: width, naturalHeight: height } = shown.image;
    const mask = maskOf(heat, this.#index, width / heat.width, this.#value("threshold", run), this.#value("grow", run));
    const scale = SIDE / Math.max(width, height);
    [this.#canvas.width, this.#canvas.height] = [width * scale, height * scale];
    context.scale(scale, scale);
    context.drawImage(shown.image, 0, 0);
    context.imageSmoothingEnabled = false; // the cells that the threshold cuts
    context.drawImage(shown.glow, 0, 0, width, height);
    const path = new Path2D();
    const lines = outlineOf(mask, width);
    for (let i = 0; i < lines.length; i += 4) {
      path.moveTo(lines[i], lines[i + 1]);
      path.lineTo(lines[i + 2], lines[i + 3]);
    }
    context.lineCap = "square";
    for (const [colour, thickness] of /** @type {[string, number][]} */ ([["black", 10], ["white", 5]])) {
      context.strokeStyle = colour;
      context.lineWidth = thickness / scale;
      context.stroke(path);
    }
    const cells = heat.width * heat.height;
    const own = heat.values.subarray(this.#index * cells, (this.#index + 1) * cells);
    this.#caption.textContent = words(shareOf(mask, own));
  }

  /**
   * The widget's value; the run's where something is connected to it.
   * @param {"threshold" | "grow"} name
   * @param {Run} run
   */
  #value(name, run) {
    const linked = this.node.inputs.some((input) => input.widget?.name === name && input.link != null);
    return linked ? run[name] : Number(this.node.widgets?.find((widget) => widget.name === name)?.value);
  }
}

/** @param {File} file */
function address(file) {
  return `/view?${new URLSearchParams({ ...file })}`;
}

/** @param {string} address */
async function load(address) {
  const image = Object.assign(new Image(), { src: address });
  await image.decode();
  return image;
}

/**
 * A heat map in colour, one pixel a cell: the hotter, the more opaque.
 * @param {Heat} heat
 * @param {number} index
 */
function glowOf({ values, width, height }, index) {
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    pixels.data.set([...TINT, 255 * OPACITY * values[index * width * height + i]], 4 * i);
  }
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  return canvas;
}

/** The picture that a subgraph's node shows. @type {WeakMap<object, HTMLImageElement>} */
const outside = new WeakMap();

/**
 * A mask's picture on the node of the subgraph that it was made in. Nodes 2.0 does that by itself (previewExposures); the
 * classic renderer draws what the node's widgets are, which for such a node are those that it has promoted.
 * @param {any} node
 * @param {HTMLImageElement} image
 */
function showOutside(node, image) {
  const first = !outside.has(node);
  outside.set(node, image);
  if (first) {
    const promoted = Object.getOwnPropertyDescriptor(node, "widgets");
    if (!promoted?.get || !promoted.configurable) return;
    const widget = {
      name: "$$mask", type: "custom", value: null, serialize: false, options: { serialize: false },
      computeLayoutSize: () => ({ minHeight: HEIGHT, minWidth: 1 }),
      draw: drawOutside,
    }; // prettier-ignore
    const own = () => (asElements() ? [] : [widget]);
    Object.defineProperty(node, "widgets", { ...promoted, get: () => [...promoted.get?.call(node), ...own()] });
    node.setSize([node.size[0], node.size[1] + HEIGHT]);
  }
  node.setDirtyCanvas(true, true);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {any} node
 * @param {number} width
 * @param {number} top
 */
function drawOutside(context, node, width, top) {
  const image = /** @type {HTMLImageElement} */ (outside.get(node));
  const height = node.size[1] - top;
  const scale = Math.min((width - 20) / image.width, (height - 10) / image.height);
  const [w, h] = [image.width * scale, image.height * scale];
  context.save();
  context.globalAlpha = 1; // it is no widget that waits for the mouse
  context.drawImage(image, (width - w) / 2, top + (height - h) / 2, w, h);
  context.restore();
}

app.registerExtension({
  name: "semantic-steering.DiffEditMask",

  nodeCreated(node) {
    if (node.constructor.comfyClass !== "DiffEditMask") return;
    const panel = new Panel(node);
    panels.set(node, panel);
    // `images`, the mask over the picture, is for those who have no outline. The Vue renderer leaves it out where this
    // is set; the classic one loads it in the class's background handler, which this one replaces.
    node.hideOutputImages = true;
    node.onDrawBackground = () => {};
    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.call(this, output);
      panel.show(output);
    };
  },

  /** Outputs that come back with a workflow: another tab, undo, the history. Keys: id, or subgraph:id. */
  onNodeOutputsUpdated(outputs) {
    if (!isRecord(outputs)) return;
    for (const [key, output] of Object.entries(outputs)) {
      const [id, subgraph] = key.split(":").reverse();
      const node = (subgraph ? app.rootGraph.subgraphs.get(subgraph) : app.rootGraph)?.getNodeById(id);
      if (node) panels.get(node)?.show(output);
    }
  },

  async setup() {
    await loadLanguage();
    api.addEventListener("executed", ({ detail }) => {
      const place = (idOf(detail?.node) ?? "").split(":");
      const image = fileOf(detail?.output?.images?.[0]);
      if (place.length < 2 || !image || !runOf(detail.output)) return;
      const outer = app.rootGraph.getNodeById(place[0]);
      if (!outer) return;
      load(api.apiURL(address(image))).then((image) => showOutside(outer, image), () => {}); // it is gone
    });
    api.addCustomEventListener("semantic-steering.heat", (event) => {
      const told = heatOf(/** @type {CustomEvent<unknown>} */ (event).detail);
      if (told) panels.get(nodeAt(told.node))?.preview(told.picture);
    });
  },
});
