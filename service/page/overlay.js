// Boxes and names, drawn over the video.

import { freePlace } from "./places.js";

/** @typedef {import("./places.js").Place} Place */
/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */

const FONT = 13;
const LINE = 2;
const PADDING = 4;

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
  // All names over all boxes; of boxes, what comes first in the graph over what comes later.
  for (const thing of frame.objects.toReversed()) {
    const [left, top, right, bottom] = thing.box;
    context.strokeStyle = scene.colour(thing.id);
    context.lineWidth = LINE * ratio;
    context.strokeRect(left * across, top * down, (right - left) * across, (bottom - top) * down);
  }
  const places = namePlaces(context, scene, frame, canvas.width / ratio, canvas.height / ratio);
  for (const thing of frame.objects) {
    const { x, y, width, height } = /** @type {Place} */ (places.get(thing.id));
    context.font = `600 ${FONT * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.fillStyle = scene.colour(thing.id);
    context.fillRect(x * ratio, y * ratio, width * ratio, height * ratio);
    context.fillStyle = "#fff";
    context.fillText(scene.name(thing.id), (x + PADDING) * ratio, (y + height / 2) * ratio);
  }
}

/**
 * The places of names by id: over the upper left corner of a box, or under its upper edge where there is no room above,
 * or beside that where another name is.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} width of the picture, in CSS pixels
 * @param {number} height
 * @returns {Map<number, Place>}
 */
export function namePlaces(context, scene, frame, width, height) {
  /** @type {Map<number, Place>} */
  const places = new Map();
  context.font = `600 ${FONT}px system-ui, sans-serif`;
  for (const { id, box } of frame.objects) {
    const left = (box[0] * width) / scene.graph.video.width;
    const top = (box[1] * height) / scene.graph.video.height;
    const size = { width: context.measureText(scene.name(id)).width + 2 * PADDING, height: FONT + 5 };
    const wanted = { ...size, x: left - LINE / 2, y: top >= size.height ? top - size.height : top };
    places.set(id, freePlace(wanted, [...places.values()], width, height));
  }
  return places;
}
