// Relation intervals by pair; each is a button that seeks to its beginning.

import { html } from "./elements.js";
import { words } from "./scene.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Relation} Relation */
/** @typedef {import("./filter.js").Filter} Filter */

const TICK_STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800];
const TICK_WIDTH = 70;
const BESIDE_TRACKS = 180; // of the names before them, and of the last tick

export class Timeline {
  #place;
  #scene;
  #seek;
  /** @type {{button: HTMLButtonElement, relation: Relation}[]} */
  #intervals = [];

  /**
   * @param {HTMLElement} place
   * @param {Scene} scene
   * @param {(seconds: number) => void} seek
   */
  constructor(place, scene, seek) {
    this.#place = place;
    this.#scene = scene;
    this.#seek = seek;
  }

  /** @param {Filter} filter */
  show(filter) {
    this.#intervals = [];
    const relations = this.#scene.graph.relations.filter((relation) => filter.shows(relation));
    const pairs = this.#scene.pairs(relations).map((pair) => {
      const name = `${this.#scene.name(pair.subject)} – ${this.#scene.name(pair.object)}`;
      const predicates = [...new Set(pair.relations.map(({ predicate }) => predicate))];
      const lanes = predicates.map((predicate) =>
        this.#lane(predicate, pair.relations.filter((relation) => relation.predicate === predicate)),
      );
      return html("section", { class: "pair", "aria-label": name }, html("h4", {}, name), ...lanes);
    });
    const hint = "No relations to show; lower the least score or show more predicates.";
    const nothing = html("p", { class: "quiet" }, this.#scene.graph.relations.length ? hint : "No relations were found.");
    this.#place.replaceChildren(...(pairs.length ? [this.#axis(), ...pairs] : [nothing]));
  }

  /** @param {number} seconds */
  mark(seconds) {
    this.#place.style.setProperty("--now", this.#share(seconds));
    for (const { button, relation } of this.#intervals) {
      button.classList.toggle("now", relation.start <= seconds && seconds < relation.end);
    }
  }

  /**
   * @param {string} predicate
   * @param {Relation[]} relations
   */
  #lane(predicate, relations) {
    const track = html("ul", { class: `track ${this.#scene.kind(predicate)}` });
    for (const relation of relations) {
      const button = html("button", { type: "button", "aria-label": this.#describe(relation) });
      button.title = this.#describe(relation);
      button.style.left = this.#share(relation.start);
      button.style.width = this.#share(relation.end - relation.start);
      button.addEventListener("click", () => this.#seek(relation.start));
      this.#intervals.push({ button, relation });
      track.append(html("li", {}, button));
    }
    return html("div", { class: "lane" }, html("span", { "aria-hidden": "true" }, words(predicate)), track);
  }

  #axis() {
    const most = Math.max(1, (this.#place.clientWidth - BESIDE_TRACKS) / TICK_WIDTH);
    const step = TICK_STEPS.find((seconds) => this.#scene.duration / seconds <= most) ?? 3600;
    const ticks = Array.from({ length: Math.floor(this.#scene.duration / step) + 1 }, (_, index) => {
      const tick = html("span", {}, `${index * step} s`);
      tick.style.left = this.#share(index * step);
      return tick;
    });
    const line = html("div", { class: "ticks" }, ...ticks);
    return html("div", { class: "lane axis", "aria-hidden": "true" }, html("span"), line);
  }

  /** @param {Relation} relation */
  #describe({ subject, predicate, object, start, end, score }) {
    const who = `${this.#scene.name(subject)} ${words(predicate)} ${this.#scene.name(object)}`;
    return `${who}, ${start.toFixed(1)} to ${end.toFixed(1)} s, score ${score.toFixed(2)}`;
  }

  /** @param {number} seconds */
  #share(seconds) {
    return `${(100 * Math.min(seconds / this.#scene.duration, 1)).toFixed(3)}%`;
  }
}
