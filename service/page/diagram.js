// The graph of one moment: subjects in the middle, things around them, an arrow for each direction of a pair.

import { svg, widthOf } from "./elements.js";
import { words } from "./scene.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */
/** @typedef {import("./scene.js").Triplet} Triplet */
/** @typedef {{x: number, y: number}} Point */

const NODE_HEIGHT = 26;
const FONT = "600 13px system-ui, sans-serif"; // of names, as style.css has it
const LINE = 15; // from one line of a label to the next
const BOW = 26; // how far an arrow bends off the straight line

/**
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} width of the picture, in CSS pixels
 * @param {number} height
 * @returns {SVGSVGElement}
 */
export function diagram(scene, frame, width, height) {
  const places = layOut(scene, frame, width, height);
  const label = frame.triplets.map((triplet) => sentence(scene, triplet)).join("; ");
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label || "No relations" },
    svg("defs", {}, arrowHead()),
  );
  const arrows = [...byDirection(frame.triplets)].map((triplets) => arrow(places, scene, triplets));
  picture.append(...arrows.map(({ line }) => line));
  picture.append(...frame.objects.map(({ id }) => node(places, scene, id)));
  picture.append(...arrows.map(({ text }) => text));
  return picture;
}

/**
 * @param {Scene} scene
 * @param {Triplet} triplet
 */
export function sentence(scene, { subject, predicate, object }) {
  return `${scene.name(subject)} ${words(predicate)} ${scene.name(object)}`;
}

/**
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} width
 * @param {number} height
 * @returns {Map<number, Point>}
 */
function layOut(scene, frame, width, height) {
  /** @type {Map<number, Point>} */
  const places = new Map();
  const subjects = frame.objects.filter(({ id }) => scene.isSubject(id));
  subjects.forEach(({ id }, index) => {
    places.set(id, { x: (width * (index + 1)) / (subjects.length + 1), y: height / 2 });
  });
  for (const { id } of frame.objects.filter((thing) => !scene.isSubject(thing.id))) {
    const angle = (2 * Math.PI * scene.seat(id)) / scene.seats - Math.PI * 0.8;
    const room = nodeWidth(scene, id) / 2 + 4;
    places.set(id, {
      x: clamp(width / 2 + Math.cos(angle) * width * 0.42, room, width - room),
      y: clamp(height / 2 + Math.sin(angle) * height * 0.42, NODE_HEIGHT, height - NODE_HEIGHT),
    });
  }
  return places;
}

/**
 * Triplets of the same subject and object belong to one arrow.
 * @param {Triplet[]} triplets
 */
function byDirection(triplets) {
  /** @type {Map<string, Triplet[]>} */
  const arrows = new Map();
  for (const triplet of triplets) {
    const key = `${triplet.subject} ${triplet.object}`;
    arrows.set(key, [...(arrows.get(key) ?? []), triplet]);
  }
  return arrows.values();
}

/**
 * @param {Map<number, Point>} places
 * @param {Scene} scene
 * @param {Triplet[]} triplets of one subject and object
 */
function arrow(places, scene, triplets) {
  const [{ subject, object }] = triplets;
  const from = /** @type {Point} */ (places.get(subject));
  const to = /** @type {Point} */ (places.get(object));
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  // Seen from its subject every arrow bends to the left, so the two directions of a pair do not meet.
  const left = { x: (to.y - from.y) / length, y: (from.x - to.x) / length };
  const bend = { x: (from.x + to.x) / 2 + left.x * BOW, y: (from.y + to.y) / 2 + left.y * BOW };
  const tip = edgeOfNode(to, bend, nodeWidth(scene, object));
  const line = svg("path", {
    d: `M ${from.x} ${from.y} Q ${bend.x} ${bend.y} ${tip.x} ${tip.y}`,
    class: "arrow",
    "marker-end": "url(#arrow-head)",
  });
  const begin = edgeOfNode(from, to, nodeWidth(scene, subject));
  const end = edgeOfNode(to, from, nodeWidth(scene, object));
  const middle = { x: (begin.x + end.x) / 2, y: (begin.y + end.y) / 2 };
  return { line, text: labels(middle, left, scene, triplets) };
}

/**
 * One line for each triplet, all on one side of the straight line between subject and object.
 * @param {Point} middle of that line
 * @param {Point} side a unit vector away from it
 * @param {Scene} scene
 * @param {Triplet[]} triplets
 */
function labels(middle, side, scene, triplets) {
  const width = Math.max(...triplets.map(({ predicate }) => widthOf(words(predicate), FONT)));
  const away = (Math.abs(side.x) * width + Math.abs(side.y) * triplets.length * LINE) / 2 + 3;
  const text = svg("text", { class: "labels", "text-anchor": "middle" });
  triplets.forEach(({ predicate }, index) => {
    const y = middle.y + side.y * away + (index - (triplets.length - 1) / 2) * LINE + 4;
    text.append(svg("tspan", { x: middle.x + side.x * away, y, class: scene.kind(predicate) }, words(predicate)));
  });
  return text;
}

/**
 * @param {Map<number, Point>} places
 * @param {Scene} scene
 * @param {number} id
 */
function node(places, scene, id) {
  const { x, y } = /** @type {Point} */ (places.get(id));
  const width = nodeWidth(scene, id);
  return svg(
    "g",
    { class: "node", "data-id": id },
    svg("rect", {
      x: x - width / 2,
      y: y - NODE_HEIGHT / 2,
      width,
      height: NODE_HEIGHT,
      rx: NODE_HEIGHT / 2,
      stroke: scene.colour(id),
    }),
    svg("text", { x, y: y + 4.5, "text-anchor": "middle" }, scene.name(id)),
  );
}

function arrowHead() {
  const shape = svg("path", { d: "M 0 0 L 8 4 L 0 8 z", class: "arrow-head" });
  return svg(
    "marker",
    { id: "arrow-head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    shape,
  );
}

/**
 * Where the way from a point to the middle of a node meets the node's edge.
 * @param {Point} middle
 * @param {Point} from
 * @param {number} width
 * @returns {Point}
 */
function edgeOfNode(middle, from, width) {
  const [x, y] = [from.x - middle.x, from.y - middle.y];
  const share = Math.min((width / 2 + 3) / Math.abs(x || 1e-6), (NODE_HEIGHT / 2 + 3) / Math.abs(y || 1e-6), 1);
  return { x: middle.x + x * share, y: middle.y + y * share };
}

/**
 * @param {Scene} scene
 * @param {number} id
 */
function nodeWidth(scene, id) {
  return widthOf(scene.name(id), FONT) + 28;
}

/**
 * @param {number} value
 * @param {number} least
 * @param {number} most
 */
function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}
