// A scene graph as the page needs it: what holds at a time, who is with what, names and colours that stay.

/**
 * @typedef {{id: number, label: string, score: number, box: [number, number, number, number]}} Thing
 * @typedef {{subject: number, predicate: string, object: number, group: string, score: number,
 *   relation_score: number | null}} Triplet
 * @typedef {{index: number, timestamp: number, objects: Thing[], triplets: Triplet[]}} Frame
 * @typedef {{subject: number, predicate: string, object: number, start: number, end: number, score: number,
 *   relation_score: number | null}} Relation
 * @typedef {{id: string, video: {width: number, height: number, duration: number | null, codec: string},
 *   model: {name: string, engine: string}, options: {fps: number}, frames: Frame[], relations: Relation[],
 *   prompt: string, warnings: {code: string, detail: string}[]}} Graph
 * @typedef {{subject: number, object: number, relations: Relation[]}} Pair
 */

export const GROUPS = ["attention", "spatial", "contacting"];

const PERSON = "person";
// Each is told from white and from the dark page by at least 3 : 1, and carries white text.
const PERSON_COLOUR = "#d9480f";
const THING_COLOURS = ["#1971c2", "#2b8a3e", "#ae3ec9", "#c2255c", "#0b7285", "#8f5f00", "#5f5bd8", "#5c7c1f"];

export class Scene {
  /** @type {Map<number, string>} */
  #labels = new Map();
  /** @type {Map<number, string>} */
  #names;
  /** @type {Map<number, number>} */
  #seats = new Map();
  /** @type {Map<string, string>} */
  #groups = new Map();
  #reach;

  /** @param {Graph} graph */
  constructor(graph) {
    this.graph = graph;
    for (const frame of graph.frames) {
      for (const thing of frame.objects) if (!this.#labels.has(thing.id)) this.#labels.set(thing.id, thing.label);
      for (const triplet of frame.triplets) this.#groups.set(triplet.predicate, triplet.group);
    }
    this.#names = namesOf(this.#labels);
    const times = graph.frames.map((frame) => frame.timestamp);
    const gaps = times.slice(1).map((time, index) => time - times[index]);
    this.#reach = gaps.reduce((widest, gap) => Math.max(widest, gap), 1 / graph.options.fps);
    this.duration = graph.video.duration ?? (times.at(-1) ?? 0) + this.#reach;
    /** How many seats there are, one for each thing of the moment that shows most things. */
    this.seats = this.#takeSeats();
  }

  /**
   * The sampled frame nearest to a time; null where none was sampled around it.
   * @param {number} seconds
   * @returns {Frame | null}
   */
  frameAt(seconds) {
    const { frames } = this.graph;
    const after = firstFrom(frames, seconds);
    const nearest = [frames[after - 1], frames[after]]
      .filter((frame) => frame !== undefined)
      .sort((a, b) => Math.abs(a.timestamp - seconds) - Math.abs(b.timestamp - seconds))[0];
    return nearest && Math.abs(nearest.timestamp - seconds) <= this.#reach ? nearest : null;
  }

  /**
   * The time of the sampled frame before or after the one that is shown.
   * @param {number} seconds
   * @param {-1 | 1} direction
   */
  neighbour(seconds, direction) {
    const { frames } = this.graph;
    const shown = this.frameAt(seconds);
    const index = shown ? shown.index + direction : firstFrom(frames, seconds) - (direction < 0 ? 1 : 0);
    return frames[Math.min(Math.max(index, 0), frames.length - 1)]?.timestamp ?? 0;
  }

  /** @param {number} id */
  isPerson(id) {
    return this.#labels.get(id) === PERSON;
  }

  /**
   * The label, with the id where several things of the video have the same one.
   * @param {number} id
   */
  name(id) {
    return this.#names.get(id) ?? "";
  }

  /** @param {number} id */
  seat(id) {
    return this.#seats.get(id) ?? 0;
  }

  /** @param {number} id */
  colour(id) {
    return this.isPerson(id) ? PERSON_COLOUR : THING_COLOURS[this.seat(id) % THING_COLOURS.length];
  }

  /** @param {string} predicate */
  group(predicate) {
    return this.#groups.get(predicate) ?? "";
  }

  /**
   * The predicates of a group that occur in the video.
   * @param {string} group
   */
  predicates(group) {
    return [...this.#groups].filter(([, its]) => its === group).map(([predicate]) => predicate).sort();
  }

  /**
   * Relations by pair, the person first, whichever way they run; the pair with the best score first.
   * @param {Relation[]} relations
   * @returns {Pair[]}
   */
  pairs(relations) {
    /** @type {Map<string, Pair>} */
    const pairs = new Map();
    for (const relation of relations) {
      const { subject, object } = relation;
      const [first, second] = this.isPerson(object) && !this.isPerson(subject) ? [object, subject] : [subject, object];
      const key = `${first} ${second}`;
      const pair = pairs.get(key) ?? { subject: first, object: second, relations: [] };
      pair.relations.push(relation);
      pairs.set(key, pair);
    }
    const best = (/** @type {Pair} */ pair) => Math.max(...pair.relations.map((relation) => relation.score));
    return [...pairs.values()].sort((a, b) => best(b) - best(a));
  }

  /**
   * Gives every thing that is not a person a seat that nothing else has while it is there, so that it keeps its place
   * and its colour.
   */
  #takeSeats() {
    /** @type {Map<number, {first: number, last: number}>} */
    const stays = new Map();
    for (const { index, objects } of this.graph.frames) {
      for (const { id } of objects.filter((thing) => !this.isPerson(thing.id))) {
        stays.set(id, { first: stays.get(id)?.first ?? index, last: index });
      }
    }
    /** @type {number[]} */
    const takenUntil = [];
    for (const [id, { first, last }] of stays) {
      const free = takenUntil.findIndex((until) => until < first);
      const seat = free < 0 ? takenUntil.length : free;
      takenUntil[seat] = last;
      this.#seats.set(id, seat);
    }
    return takenUntil.length;
  }
}

/**
 * "in_front_of" as people write it.
 * @param {string} predicate
 */
export function words(predicate) {
  return predicate.replaceAll("_", " ");
}

/** @param {number} seconds */
export function clockTime(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

/**
 * @param {Map<number, string>} labels by id
 * @returns {Map<number, string>}
 */
function namesOf(labels) {
  const all = [...labels.values()];
  const twins = new Set(all.filter((label, index) => all.indexOf(label) !== index));
  return new Map([...labels].map(([id, label]) => [id, twins.has(label) ? `${label} ${id}` : label]));
}

/**
 * Index of the first frame at or after a time.
 * @param {Frame[]} frames
 * @param {number} seconds
 */
function firstFrom(frames, seconds) {
  let low = 0;
  let high = frames.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (frames[middle].timestamp < seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}
