// @ts-check
// The rule of guidance_core/diffedit.py that makes a mask of a heat map, for the outline that the page draws.
// Nothing here touches the page: the tests run it beside the Python.

/**
 * Heat maps of a batch, as nodes/host/page/previews.py writes them.
 * @typedef {{count: number, height: number, width: number, values: Float32Array}} Heat
 */

/**
 * Read the one tensor of a safetensors file: 8 bytes for the header's length, the header, the values.
 * Throws what JSON and arrays throw, and an Error for one that holds no maps.
 * @param {ArrayBuffer} file
 * @returns {Heat}
 */
export function readHeat(file) {
  const length = Number(new DataView(file).getBigUint64(0, true));
  const { heat } = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  const [count, height, width] = heat.shape;
  const [start, end] = heat.data_offsets;
  // slice: the values need not begin at a multiple of four bytes
  const values = new Float32Array(file.slice(8 + length + start, 8 + length + end));
  const sides = [count, height, width].every((side) => Number.isInteger(side) && side > 0);
  if (!sides || values.length !== count * height * width) throw new Error(`no heat maps: ${heat.shape}`);
  return { count, height, width, values };
}

/**
 * The mask of one heat map at picture size, 1 inside: cells above the threshold, widened by `grow` pixels to every side.
 * @param {Heat} heat
 * @param {number} index of the picture in the batch
 * @param {number} ratio pixels of the picture in a cell
 * @param {number} threshold
 * @param {number} grow
 * @returns {Uint8Array} [height * ratio, width * ratio]
 */
export function maskOf({ height, width, values }, index, ratio, threshold, grow) {
  const limit = Math.fround(threshold); // the Python compares in float32
  const [rows, columns] = [height * ratio, width * ratio];
  // A square's dilation is one along the rows and one along the columns. Here along the rows, still one row for each
  // cell: a pixel is in where any of the cells within its reach is, which running sums tell in one subtraction.
  const down = new Int32Array((height + 1) * columns); // of each column: how many of the cell rows above are in
  const sums = new Int32Array(width + 1);
  for (let y = 0; y < height; y++) {
    const row = (index * height + y) * width;
    for (let x = 0; x < width; x++) sums[x + 1] = sums[x] + Number(values[row + x] > limit);
    for (let x = 0; x < columns; x++) {
      const [first, last] = reach(x, grow, ratio, width);
      down[(y + 1) * columns + x] = down[y * columns + x] + Number(sums[last] > sums[first]);
    }
  }
  const mask = new Uint8Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    const [first, last] = reach(y, grow, ratio, height);
    for (let x = 0; x < columns; x++) mask[y * columns + x] = Number(down[last * columns + x] > down[first * columns + x]);
  }
  return mask;
}

/**
 * The cells, first to last (exclusive), that lie within `grow` pixels of a pixel.
 * @param {number} pixel
 * @param {number} grow
 * @param {number} ratio
 * @param {number} cells
 * @returns {[number, number]}
 */
function reach(pixel, grow, ratio, cells) {
  return [Math.max(0, Math.floor((pixel - grow) / ratio)), Math.min(cells, Math.floor((pixel + grow) / ratio) + 1)];
}

/**
 * The mask's edge as lines [x0, y0, x1, y1, ...] between pixels; the picture's border counts as outside.
 * @param {Uint8Array} mask
 * @param {number} width
 * @returns {number[]}
 */
export function outlineOf(mask, width) {
  const height = mask.length / width;
  /** @type {number[]} */
  const lines = [];
  /** @param {number} x @param {number} y */
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : mask[y * width + x]);
  for (let y = 0; y <= height; y++) {
    let start = -1; // of the line that the scan is on
    for (let x = 0; x <= width; x++) {
      const edge = x < width && at(x, y - 1) !== at(x, y);
      if (!edge && start >= 0) lines.push(start, y, x, y);
      start = edge ? (start < 0 ? x : start) : -1;
    }
  }
  for (let x = 0; x <= width; x++) {
    let start = -1;
    for (let y = 0; y <= height; y++) {
      const edge = y < height && at(x - 1, y) !== at(x, y);
      if (!edge && start >= 0) lines.push(x, start, x, y);
      start = edge ? (start < 0 ? y : start) : -1;
    }
  }
  return lines;
}

/**
 * @param {Uint8Array} mask
 * @param {Float32Array} heat what it was made of; all 0 where the two texts ask for the same
 * @returns {import("./report_text.js").Text} such as "8 % of the picture"
 */
export function shareOf(mask, heat) {
  const inside = mask.reduce((sum, value) => sum + value, 0);
  if (inside === 0 && !heat.some(Boolean)) return { id: "texts_alike", values: {} };
  if (inside === 0) return { id: "mask_empty", values: { threshold: { input: "DiffEditMask.threshold" } } };
  const percent = (100 * inside) / mask.length;
  if (percent < 1) return { id: "share_under_one", values: {} };
  return { id: "share", values: { percent: Math.round(percent) } };
}
