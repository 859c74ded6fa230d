// The frames of a graph that the service has kept as pictures: a strip to choose from, and one for the player's place.

import { byId, html } from "./elements.js";
import { clockTime } from "./scene.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./scene.js").Graph} Graph */

export class Stills {
  #api;
  #onProblem;
  #still = byId("still", HTMLImageElement);
  /** @type {Map<number, string>} */
  #addresses = new Map();
  /** @type {number | null} */
  #shown = null;

  /**
   * @param {Api} api
   * @param {(error: unknown) => void} onProblem
   */
  constructor(api, onProblem) {
    this.#api = api;
    this.#onProblem = onProblem;
  }

  /**
   * @param {Graph} graph
   * @param {(seconds: number) => void} seek
   * @param {AbortSignal} signal ends the loading
   */
  open(graph, seek, signal) {
    const kept = graph.kept_frames ?? [];
    byId("kept", HTMLElement).hidden = kept.length === 0;
    const buttons = kept.map((index) => {
      const { timestamp } = graph.frames[index];
      const picture = html("img", { alt: `Frame at ${timestamp.toFixed(1)} s` });
      const button = html("button", { type: "button" }, picture, html("span", {}, clockTime(timestamp)));
      button.addEventListener("click", () => seek(timestamp));
      this.#load(graph.id, index, picture, signal);
      return button;
    });
    byId("stills", HTMLElement).replaceChildren(...buttons);
  }

  /**
   * Shows the picture of a frame, or none where it is not kept.
   * @param {number | null} index
   */
  show(index) {
    this.#shown = index;
    const address = index === null ? undefined : this.#addresses.get(index);
    this.#still.hidden = address === undefined;
    if (address !== undefined && this.#still.src !== address) this.#still.src = address;
  }

  close() {
    for (const address of this.#addresses.values()) URL.revokeObjectURL(address);
    this.#addresses.clear();
    this.#still.removeAttribute("src");
    this.show(null);
  }

  /**
   * @param {string} id
   * @param {number} index
   * @param {HTMLImageElement} picture
   * @param {AbortSignal} signal
   */
  async #load(id, index, picture, signal) {
    try {
      const address = URL.createObjectURL(await this.#api.frame(id, index, signal));
      this.#addresses.set(index, address);
      picture.src = address;
      if (this.#shown === index) this.show(index);
    } catch (error) {
      if (!signal.aborted) this.#onProblem(error);
    }
  }
}
