// A scene graph as the page needs it: frames by time, relations by pair, names and colours that stay.

/**
 * @typedef {{id: number, label: string, score: number, box: [number, number, number, number]}} Thing
 * @typedef {{subject: number, predicate: string, object: number, group: string, score: number,
 *   relation_score: number | null}} Triplet
 * @typedef {{index: number, timestamp: number, objects: Thing[], triplets: Triplet[]}} Frame
 * @typedef {{subject: number, predicate: string, object: number, start: number, end: number, score: number,
 *   relation_score: number | null}} Relation
 * @typedef {{name: string, predicates: string[], direction: "subject_to_object" | "object_to_subject"}} Group
 * @typedef {{id: string, video: {width: number, height: number, duration: number | null, codec: string,
 *   start: number}, model: {name: string, engine: string}, options: {fps: number},
 *   vocabulary: {subjects: string[], groups: Group[]}, frames: Frame[], relations: Relation[], prompt: string,
 *   kept_frames?: number[], warnings: {code: string, detail: string}[]}} Graph
 * @typedef {{subject: number, object: number, relations: Relation[]}} Pair
 */

// Each has a contrast of at least 3 : 1 to white and to the dark page, and carries white text.
const SUBJECT_COLOUR = "#d9480f";
const THING_COLOURS = ["#1971c2", "#2b8a3e", "#ae3ec9", "#c2255c", "#0b7285", "#8f5f00", "#5f5bd8", "#5c7c1f"];
const KINDS = 6; // as many colours of groups as style.css has

export class Scene {
  /** @type {Map<number, string>} */
  #labels = new Map();
  /** @type {Map<number, string>} */
  #names;
  /** @type {Map<number, number>} */
  #seats = new Map();
  /** @type {Map<string, {group: Group, kind: string}>} */
  #groups = new Map();
  /** @type {Set<string>} */
  #predicates = new Set();
  #subjects;
  #reach;

  /** @param {Graph} graph */
  constructor(graph) {
    this.graph = graph;
    this.#subjects = new Set(graph.vocabulary.subjects);
    graph.vocabulary.groups.forEach((group, index) => {
      for (const predicate of group.predicates) this.#groups.set(predicate, { group, kind: `kind-${index % KINDS}` });
    });
    for (const frame of graph.frames) {
      for (const thing of frame.objects) if (!this.#labels.has(thing.id)) this.#labels.set(thing.id, thing.label);
      for (const triplet of frame.triplets) this.#predicates.add(triplet.predicate);
    }
    this.#names = namesOf(this.#labels);
    const times = graph.frames.map((frame) => frame.timestamp);
    const gaps = times.slice(1).map((time, index) => time - times[index]);
    this.#reach = gaps.reduce((widest, gap) => Math.max(widest, gap), 1 / graph.options.fps);
    /** The player's time of the first frame, which is 0 in the graph. */
    this.start = graph.video.start ?? 0; // graphs of 0.1 have none
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
  isSubject(id) {
    return this.#subjects.has(this.#labels.get(id) ?? "");
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
    return this.isSubject(id) ? SUBJECT_COLOUR : THING_COLOURS[this.seat(id) % THING_COLOURS.length];
  }

  /**
   * The class of style.css that colours a predicate by its group.
   * @param {string} predicate
   */
  kind(predicate) {
    return this.#groups.get(predicate)?.kind ?? "";
  }

  /**
   * The groups of predicates that occur in the video, each with those that do.
   * @returns {{name: string, kind: string, predicates: string[]}[]}
   */
  groups() {
    return this.graph.vocabulary.groups
      .map(({ name, predicates }) => {
        const seen = predicates.filter((predicate) => this.#predicates.has(predicate)).sort();
        return { name, kind: this.kind(predicates[0]), predicates: seen };
      })
      .filter(({ predicates }) => predicates.length > 0);
  }

  /**
   * Relations by pair, its subject first, whichever way they run; the pair with the best score first.
   * @param {Relation[]} relations
   * @returns {Pair[]}
   */
  pairs(relations) {
    /** @type {Map<string, Pair>} */
    const pairs = new Map();
    for (const relation of relations) {
      const { subject, object } = relation;
      const isReversed = this.#groups.get(relation.predicate)?.group.direction === "object_to_subject";
      const [first, second] = isReversed ? [object, subject] : [subject, object];
      const key = `${first} ${second}`;
      const pair = pairs.get(key) ?? { subject: first, object: second, relations: [] };
      pair.relations.push(relation);
      pairs.set(key, pair);
    }
    const best = (/** @type {Pair} */ pair) => Math.max(...pair.relations.map((relation) => relation.score));
    return [...pairs.values()].sort((a, b) => best(b) - best(a));
  }

  /**
   * Gives every thing that is not a subject a seat that nothing else has while it is there, so that it keeps its place
   * and its colour.
   */
  #takeSeats() {
    /** @type {Map<number, {first: number, last: number}>} */
    const stays = new Map();
    for (const { index, objects } of this.graph.frames) {
      for (const { id } of objects.filter((thing) => !this.isSubject(thing.id))) {
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
