// The video from the local file, and its clock, which counts from the first frame, as the graph does. Where the browser
// cannot play it, the slider alone is the clock.

import { byId } from "./elements.js";
import { clockTime } from "./scene.js";

/** @typedef {import("./scene.js").Scene} Scene */

// Times of frames are rounded; a little later is surely within the frame.
const INTO_FRAME = 0.001;

export class Player {
  #video = byId("video", HTMLVideoElement);
  #stage = byId("stage", HTMLElement);
  #slider = byId("slider", HTMLInputElement);
  #clock = byId("clock", HTMLOutputElement);
  #play = byId("play", HTMLButtonElement);
  #mute = byId("mute", HTMLButtonElement);
  #onTime;
  #duration = 0;
  #start = 0;

  seconds = 0;

  /**
   * @param {(seconds: number) => void} onTime called with the time of what is seen
   */
  constructor(onTime) {
    this.#onTime = onTime;
    const video = this.#video;
    this.#slider.addEventListener("input", () => this.seek(this.#slider.valueAsNumber));
    this.#play.addEventListener("click", () => (video.paused ? void video.play() : video.pause()));
    this.#mute.addEventListener("click", () => {
      video.muted = !video.muted;
    });
    video.addEventListener("volumechange", () => this.#mute.setAttribute("aria-pressed", String(video.muted)));
    for (const name of ["play", "pause", "ended"]) {
      video.addEventListener(name, () => {
        this.#play.textContent = video.paused ? "Play" : "Pause";
      });
    }
    video.addEventListener("loadedmetadata", () => this.#learnSize());
    video.addEventListener("error", () => this.#setPlayable(false));
    video.requestVideoFrameCallback((_, frame) => this.#frameShown(frame));
  }

  /**
   * @param {File | null} file null where there is no video to play
   * @param {Scene} scene
   */
  load(file, scene) {
    this.close();
    byId("gone", HTMLElement).hidden = file !== null;
    this.#duration = scene.duration;
    this.#start = scene.start;
    this.#slider.max = scene.duration.toFixed(2);
    this.#setRatio(scene.graph.video.width / scene.graph.video.height);
    this.#setPlayable(file !== null);
    byId("unplayable", HTMLElement).hidden = true;
    if (file) this.#video.src = URL.createObjectURL(file);
    // A browser begins with the sound, where that comes first.
    this.seek(0);
  }

  /** Whether no video is seen, so that a kept frame may take its place. */
  get isBlank() {
    return this.#stage.classList.contains("blank");
  }

  /** Lets go of the file. */
  close() {
    if (this.#video.src) URL.revokeObjectURL(this.#video.src);
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  /** @param {number} seconds */
  seek(seconds) {
    const within = Math.min(Math.max(seconds, 0), this.#duration);
    this.#video.currentTime = this.#start + within + INTO_FRAME;
    this.#tell(within);
  }

  pause() {
    this.#video.pause();
  }

  /** @param {VideoFrameCallbackMetadata} frame */
  #frameShown(frame) {
    // While a seek goes on, frames of before it may still come.
    if (!this.#video.seeking) this.#tell(frame.mediaTime - this.#start);
    this.#video.requestVideoFrameCallback((_, next) => this.#frameShown(next));
  }

  /** @param {number} seconds */
  #tell(seconds) {
    this.seconds = seconds;
    this.#slider.value = String(seconds);
    this.#clock.value = `${clockTime(seconds)} / ${clockTime(this.#duration)}`;
    this.#slider.setAttribute("aria-valuetext", `${seconds.toFixed(1)} of ${this.#duration.toFixed(1)} seconds`);
    this.#onTime(seconds);
  }

  #learnSize() {
    const { videoWidth, videoHeight } = this.#video;
    // Browsers play the sound of a video whose pictures they cannot decode.
    if (videoWidth === 0) this.#setPlayable(false);
    else this.#setRatio(videoWidth / videoHeight);
  }

  /** @param {number} ratio width by height */
  #setRatio(ratio) {
    this.#stage.style.setProperty("--ratio", String(ratio));
  }

  /** @param {boolean} playable */
  #setPlayable(playable) {
    byId("unplayable", HTMLElement).hidden = playable;
    this.#play.hidden = this.#mute.hidden = !playable;
    this.#stage.classList.toggle("blank", !playable);
  }
}
