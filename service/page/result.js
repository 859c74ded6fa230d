// Shows a graph at the time of the player, through the filter.

import { diagram, sentence } from "./diagram.js";
import { downloadButtons, recordingButton } from "./downloads.js";
import { byId, html } from "./elements.js";
import { Filter, filterControls } from "./filter.js";
import { drawBoxes, fitToScreen } from "./overlay.js";
import { Player } from "./player.js";
import { record } from "./recording.js";
import { Scene } from "./scene.js";
import { Stills } from "./stills.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./scene.js").Graph} Graph */
/** @typedef {import("./scene.js").Frame} Frame */

const NARROWEST = 280;

export class Result {
  #api;
  #onProblem;
  #canvas = byId("overlay", HTMLCanvasElement);
  #diagram = byId("diagram", HTMLElement);
  #player = new Player(() => this.#showMoment());
  #stills;
  #filter = new Filter();
  /** @type {Scene | null} */
  #scene = null;
  /** @type {Timeline | null} */
  #timeline = null;
  #shown = "";
  #closing = new AbortController();

  /**
   * @param {Api} api
   * @param {(error: unknown) => void} onProblem called with what goes wrong in a download
   */
  constructor(api, onProblem) {
    this.#api = api;
    this.#onProblem = onProblem;
    this.#stills = new Stills(api, onProblem);
    const redraw = new ResizeObserver(() => this.#showMoment());
    redraw.observe(this.#canvas);
    redraw.observe(this.#diagram);
    byId("previous", HTMLElement).addEventListener("click", () => this.#step(-1));
    byId("next", HTMLElement).addEventListener("click", () => this.#step(1));
  }

  /** The id of the graph that is shown; empty where none is. */
  get id() {
    return this.#scene?.graph.id ?? "";
  }

  /**
   * The time of a sampled frame; null where there is no such frame.
   * @param {number} index
   */
  frameTime(index) {
    return this.#scene?.graph.frames[index]?.timestamp ?? null;
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#player.pause();
    this.#player.seek(seconds);
  }

  /**
   * @param {File | null} file null where the viewer has not got the video
   * @param {Graph} graph
   */
  open(file, graph) {
    const scene = new Scene(graph);
    this.#scene = scene;
    this.#closing = new AbortController();
    this.#filter = new Filter();
    this.#diagram.style.height = "";
    this.#timeline = new Timeline(byId("timeline", HTMLElement), scene, (seconds) => this.#player.seek(seconds));
    byId("filter", HTMLElement).replaceChildren(...filterControls(scene, this.#filter, () => this.#showAll()));
    byId("result-title", HTMLElement).textContent = file?.name ?? `Video ${graph.id.slice(0, 8)}`;
    byId("facts", HTMLElement).textContent = facts(graph, scene.duration);
    const warnings = byId("warnings", HTMLElement);
    warnings.replaceChildren(...graph.warnings.map(({ detail }) => html("li", {}, detail)));
    warnings.hidden = graph.warnings.length === 0;
    byId("prompt", HTMLTextAreaElement).value = graph.prompt;
    this.#timeline.show(this.#filter);
    this.#showDownloads(file, scene);
    this.#stills.open(graph, (seconds) => this.seek(seconds), this.#closing.signal);
    this.#player.load(file, scene);
  }

  close() {
    this.#closing.abort();
    this.#scene = this.#timeline = null;
    this.#player.close();
    this.#stills.close();
  }

  /**
   * @param {File | null} file
   * @param {Scene} scene
   */
  #showDownloads(file, scene) {
    const { signal } = this.#closing;
    const stem = file?.name.replace(/\.[^.]*$/, "") ?? scene.graph.id;
    const onProblem = (/** @type {unknown} */ error) => signal.aborted || this.#onProblem(error);
    const buttons = downloadButtons(this.#api, scene.graph.id, stem, onProblem);
    if (file) {
      const recorded = (/** @type {(share: number) => void} */ onProgress) =>
        record(file, scene, this.#filter, onProgress, signal);
      buttons.push(recordingButton(recorded, stem, onProblem));
    }
    byId("downloads", HTMLElement).replaceChildren(...buttons);
  }

  /** @param {-1 | 1} direction */
  #step(direction) {
    this.#player.pause();
    if (this.#scene) this.#player.seek(this.#scene.neighbour(this.#player.seconds, direction));
  }

  #showAll() {
    this.#timeline?.show(this.#filter);
    this.#showMoment();
  }

  #showMoment() {
    const scene = this.#scene;
    if (!scene) return;
    const { seconds } = this.#player;
    const sampled = scene.frameAt(seconds);
    const frame = sampled && this.#filter.apply(sampled);
    this.#stills.show(this.#player.isBlank && sampled ? sampled.index : null);
    fitToScreen(this.#canvas);
    if (frame) drawBoxes(this.#canvas, scene, frame, devicePixelRatio);
    this.#timeline?.mark(seconds);
    this.#showGraph(scene, frame);
  }

  /**
   * @param {Scene} scene
   * @param {Frame | null} frame
   */
  #showGraph(scene, frame) {
    const { clientWidth, clientHeight } = this.#diagram;
    // Between two sampled frames nothing changes, so what someone reads or has selected is left alone.
    const shown = JSON.stringify([scene.graph.id, frame, clientWidth, clientHeight]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    byId("nothing", HTMLElement).hidden = frame !== null && frame.objects.length > 0;
    const picture = frame ? [diagram(scene, frame, Math.max(clientWidth, NARROWEST), clientHeight)] : [];
    this.#diagram.replaceChildren(...picture);
    // Once it has grown it stays, so that what is below does not jump while the video plays.
    const lacking = Math.max(0, ...picture.map((svg) => svg.height.baseVal.value - clientHeight));
    if (lacking) this.#diagram.style.height = `${this.#diagram.offsetHeight + lacking}px`;
    const lines = (frame?.triplets ?? []).map((triplet) => {
      return html("li", { class: scene.kind(triplet.predicate) }, sentence(scene, triplet), " ", scores(triplet));
    });
    byId("triplets", HTMLElement).replaceChildren(...lines);
  }
}

/** @param {import("./scene.js").Triplet} triplet */
function scores({ score, relation_score }) {
  const pair = relation_score === null ? "" : ` · pair ${relation_score.toFixed(2)}`;
  return html("span", { class: "score" }, score.toFixed(2) + pair);
}

/**
 * @param {Graph} graph
 * @param {number} duration
 */
function facts(graph, duration) {
  const { video, model, frames } = graph;
  return [
    `${video.width} × ${video.height}`,
    `${duration.toFixed(1)} s`,
    video.codec,
    `${frames.length} frames read`,
    `${model.name} on ${model.engine}`,
  ].join(" · ");
}
