// Boxes and names, drawn over the video.

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */

const FONT = 13;
const LINE = 2;

/**
 * Fits a canvas to the place that it takes on the screen, and clears it.
 * @param {HTMLCanvasElement} canvas
 */
export function fitToScreen(canvas) {
  canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
}

/**
 * Draws a frame's boxes where its graph says.
 * @param {HTMLCanvasElement} canvas as large as the video's picture
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} ratio pixels of the canvas per CSS pixel: how large lines and letters are
 */
export function drawBoxes(canvas, scene, frame, ratio) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const across = canvas.width / scene.graph.video.width;
  const down = canvas.height / scene.graph.video.height;
  // All names over all boxes; what comes first in the graph over what comes later.
  for (const thing of frame.objects.toReversed()) {
    const [left, top, right, bottom] = thing.box;
    context.strokeStyle = scene.colour(thing.id);
    context.lineWidth = LINE * ratio;
    context.strokeRect(left * across, top * down, (right - left) * across, (bottom - top) * down);
  }
  for (const thing of frame.objects.toReversed()) {
    const [left, top] = thing.box;
    drawName(context, scene.name(thing.id), scene.colour(thing.id), left * across, top * down, ratio);
  }
}

/**
 * Puts a name over the upper left corner of a box, or under its upper edge where there is no room above.
 * @param {CanvasRenderingContext2D} context
 * @param {string} name
 * @param {string} colour
 * @param {number} left
 * @param {number} top
 * @param {number} ratio
 */
function drawName(context, name, colour, left, top, ratio) {
  context.font = `600 ${FONT * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const height = (FONT + 5) * ratio;
  const width = context.measureText(name).width + 8 * ratio;
  const x = Math.max(0, Math.min(left - (LINE / 2) * ratio, context.canvas.width - width));
  const y = top >= height ? top - height : top;
  context.fillStyle = colour;
  context.fillRect(x, y, width, height);
  context.fillStyle = "#fff";
  context.fillText(name, x + 4 * ratio, y + height / 2);
}
