// The graph of one moment: subjects in the middle, things around them, an arrow for each direction of a pair.

import { svg, widthOf } from "./elements.js";
import { covered, freePlace } from "./places.js";
import { words } from "./scene.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */
/** @typedef {import("./scene.js").Triplet} Triplet */
/** @typedef {import("./places.js").Place} Place */
/** @typedef {{x: number, y: number}} Point */

const NODE_HEIGHT = 26;
const FONT = "600 13px system-ui, sans-serif"; // of names, as style.css has it
const LINE = 17; // from one line of a label to the next
const HALO = 4; // of the page's colour around a label
const GROWTH = 1.25;
const MOST_GROWTH = 5;
const BOW = 26; // how far an arrow bends off the straight line

/**
 * The picture of a moment. It is higher than asked for where its names would cover each other.
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} width of the picture, in CSS pixels
 * @param {number} least height
 * @returns {SVGSVGElement}
 */
export function diagram(scene, frame, width, least) {
  let height = least;
  let arranged = arrange(scene, frame, width, height);
  while (!arranged.fits && height < MOST_GROWTH * least) {
    height = Math.round(height * GROWTH);
    arranged = arrange(scene, frame, width, height);
  }
  const { nodes, arrows } = arranged;
  const label = frame.triplets.map((triplet) => sentence(scene, triplet)).join("; ");
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label || "No relations" },
    svg("defs", {}, arrowHead()),
  );
  picture.append(...arrows.map(({ line }) => line));
  picture.append(...frame.objects.map(({ id }) => node(nodes, scene, id)));
  picture.append(...arrows.map(({ triplets, place }) => labels(scene, triplets, place)));
  return picture;
}

/**
 * Finds places for the nodes, then for the labels of the arrows between them.
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} width
 * @param {number} height
 */
function arrange(scene, frame, width, height) {
  const nodes = layOut(scene, frame, width, height);
  const taken = [...nodes.values()];
  let fits = taken.every((place) => covered(place, taken.filter((other) => other !== place)) === 0);
  const arrows = [...byDirection(frame.triplets)].map((triplets) => {
    const { line, wanted } = arrow(nodes, scene, triplets);
    const place = freePlace(wanted, taken, width, height);
    fits &&= covered(place, taken) === 0 && place.width <= width;
    taken.push(place);
    return { line, place, triplets };
  });
  return { nodes, arrows, fits };
}

/**
 * @param {Scene} scene
 * @param {Triplet} triplet
 */
export function sentence(scene, { subject, predicate, object }) {
  return `${scene.name(subject)} ${words(predicate)} ${scene.name(object)}`;
}

/**
 * The places of nodes by id: subjects in the middle, every thing on its seat around them.
 * @param {Scene} scene
 * @param {Frame} frame
 * @param {number} width
 * @param {number} height
 * @returns {Map<number, Place>}
 */
function layOut(scene, frame, width, height) {
  /** @type {Map<number, Place>} */
  const places = new Map();
  const put = (/** @type {number} */ id, /** @type {Point} */ { x, y }) => {
    const size = { width: nodeWidth(scene, id), height: NODE_HEIGHT };
    const wanted = { ...size, x: x - size.width / 2, y: y - size.height / 2 };
    places.set(id, freePlace(wanted, [...places.values()], width, height));
  };
  const subjects = frame.objects.filter(({ id }) => scene.isSubject(id));
  subjects.forEach(({ id }, index) => {
    put(id, { x: (width * (index + 1)) / (subjects.length + 1), y: height / 2 });
  });
  for (const { id } of frame.objects.filter((thing) => !scene.isSubject(thing.id))) {
    const angle = (2 * Math.PI * scene.seat(id)) / scene.seats - Math.PI * 0.8;
    const room = nodeWidth(scene, id) / 2 + 4;
    put(id, {
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
 * An arrow, and where its label belongs.
 * @param {Map<number, Place>} places
 * @param {Scene} scene
 * @param {Triplet[]} triplets of one subject and object
 */
function arrow(places, scene, triplets) {
  const [{ subject, object }] = triplets;
  const from = middleOf(places, subject);
  const to = middleOf(places, object);
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
  return { line, wanted: labelPlace(middle, left, triplets) };
}

/**
 * The place for a line for each triplet, on one side of the straight line between subject and object.
 * @param {Point} middle of that line
 * @param {Point} side a unit vector away from it
 * @param {Triplet[]} triplets
 * @returns {Place}
 */
function labelPlace(middle, side, triplets) {
  const width = Math.max(...triplets.map(({ predicate }) => widthOf(words(predicate), FONT))) + HALO;
  const height = triplets.length * LINE;
  const away = (Math.abs(side.x) * width + Math.abs(side.y) * height) / 2 + 3;
  return {
    width,
    height,
    x: middle.x + side.x * away - width / 2,
    y: middle.y + side.y * away - height / 2,
  };
}

/**
 * One line for each triplet.
 * @param {Scene} scene
 * @param {Triplet[]} triplets
 * @param {Place} place
 */
function labels(scene, triplets, place) {
  const text = svg("text", { class: "labels", "text-anchor": "middle" });
  triplets.forEach(({ predicate }, index) => {
    const y = place.y + (index + 0.5) * LINE + 4.5;
    text.append(svg("tspan", { x: place.x + place.width / 2, y, class: scene.kind(predicate) }, words(predicate)));
  });
  return text;
}

/**
 * @param {Map<number, Place>} places
 * @param {number} id
 * @returns {Point}
 */
function middleOf(places, id) {
  const { x, y, width, height } = /** @type {Place} */ (places.get(id));
  return { x: x + width / 2, y: y + height / 2 };
}

/**
 * @param {Map<number, Place>} places
 * @param {Scene} scene
 * @param {number} id
 */
function node(places, scene, id) {
  const { x, y } = middleOf(places, id);
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
