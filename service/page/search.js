// The search box, and the moments that it finds.

import { Problem } from "./api.js";
import { byId, html } from "./elements.js";
import { clockTime, words } from "./scene.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./api.js").Moment} Moment */

export class Search {
  #api;
  #onMoment;
  #onProblem;
  #query = byId("query", HTMLInputElement);
  #found = byId("found", HTMLElement);
  #moments = byId("moments", HTMLElement);
  #more = byId("more", HTMLButtonElement);
  #asking = new AbortController();

  /**
   * @param {Api} api
   * @param {(moment: Moment) => void} onMoment called with the moment that somebody chooses
   * @param {(error: unknown) => void} onProblem called with null when a search begins, and with what goes wrong
   */
  constructor(api, onMoment, onProblem) {
    this.#api = api;
    this.#onMoment = onMoment;
    this.#onProblem = onProblem;
    byId("search-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask(this.#query.value, 0);
    });
  }

  /** Shows the box; the service keeps an archive. */
  offer() {
    byId("search", HTMLElement).hidden = false;
  }

  /**
   * @param {string} query
   * @param {number} offset of the page
   */
  async #ask(query, offset) {
    this.#asking.abort();
    const { signal } = (this.#asking = new AbortController());
    this.#onProblem(null);
    this.#found.textContent = "Searching";
    if (!offset) this.#moments.replaceChildren();
    this.#more.hidden = true;
    try {
      const { moments, total, next } = await this.#api.search(query, offset, signal);
      this.#found.textContent = total ? `${total} ${total === 1 ? "moment" : "moments"}` : "No moment was seen.";
      this.#moments.append(...moments.map((moment) => this.#item(moment, signal)));
      this.#more.hidden = next === null;
      this.#more.onclick = () => this.#ask(query, next ?? 0);
    } catch (error) {
      if (signal.aborted) return;
      this.#found.textContent = "";
      this.#onProblem(error);
      this.#point(error);
    }
  }

  /**
   * Selects the query from the place on at which it is wrong.
   * @param {unknown} error
   */
  #point(error) {
    if (!(error instanceof Problem) || !error.column) return;
    this.#query.focus();
    this.#query.setSelectionRange(error.column - 1, this.#query.value.length);
  }

  /**
   * @param {Moment} moment
   * @param {AbortSignal} signal
   */
  #item(moment, signal) {
    const when = `${clockTime(moment.start)} – ${clockTime(moment.end)}`;
    const told = [...new Set(moment.relations.map(sentence))].join(", ") || Object.keys(moment.objects).join(", ");
    const picture = html("img", { alt: "" });
    picture.hidden = true;
    const facts = `${when} · score ${moment.score.toFixed(2)} · video ${moment.video.slice(0, 8)}`;
    const text = html("span", {}, html("strong", {}, told), " ", html("span", { class: "score" }, facts));
    const button = html("button", { type: "button" }, picture, text);
    button.addEventListener("click", () => this.#onMoment(moment));
    const index = pictureIndex(moment);
    if (index !== null) this.#show(moment.video, index, picture, signal);
    return html("li", {}, button);
  }

  /**
   * @param {string} video
   * @param {number} index
   * @param {HTMLImageElement} picture
   * @param {AbortSignal} signal
   */
  async #show(video, index, picture, signal) {
    try {
      const address = URL.createObjectURL(await this.#api.frame(video, index, signal));
      picture.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
      picture.src = address;
      picture.hidden = false;
    } catch {
      // A picture may have been deleted meanwhile; the moment says enough without it.
    }
  }
}

/**
 * Index of the kept frame that shows a moment; null where none is kept.
 * @param {Moment} moment
 */
export function pictureIndex({ picture }) {
  const found = picture?.match(/(\d+)\.jpg$/);
  return found ? Number(found[1]) : null;
}

/** @param {import("./api.js").FoundRelation} relation */
function sentence({ subject_label, predicate, object_label }) {
  return `${subject_label} ${words(predicate)} ${object_label}`;
}
