// The video with its boxes, recorded while it plays: only the browser still has the video.

import { Problem } from "./api.js";
import { html } from "./elements.js";
import { drawBoxes } from "./overlay.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./filter.js").Filter} Filter */

const TYPES = ["video/mp4", "video/webm"];
const NARROWEST = 640; // pixels; on a smaller picture names would cover everything

/**
 * Plays a video from its beginning to its end and records it with what the filter shows. Without sound.
 * @param {File} file
 * @param {Scene} scene
 * @param {Filter} filter
 * @param {(share: number) => void} onProgress 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>} rejects with a Problem when the browser cannot
 */
export async function record(file, scene, filter, onProgress, signal) {
  const video = html("video");
  const canvas = html("canvas");
  video.muted = true;
  video.src = URL.createObjectURL(file);
  try {
    await once(video, "loadedmetadata", signal);
    const enlarged = Math.max(1, NARROWEST / video.videoWidth);
    canvas.width = 2 * Math.round((video.videoWidth * enlarged) / 2);
    canvas.height = 2 * Math.round((video.videoHeight * enlarged) / 2);

    const type = TYPES.find((name) => MediaRecorder.isTypeSupported(name));
    const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: type, videoBitsPerSecond: 8e6 });
    /** @type {Blob[]} */
    const parts = [];
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    const draw = (/** @type {number} */ seconds) => {
      /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).drawImage(video, 0, 0, canvas.width, canvas.height);
      const frame = scene.frameAt(seconds - scene.start);
      if (frame) drawBoxes(canvas, scene, filter.apply(frame), 1);
      onProgress(seconds / video.duration);
      video.requestVideoFrameCallback((_, { mediaTime }) => draw(mediaTime));
    };
    video.requestVideoFrameCallback((_, { mediaTime }) => draw(mediaTime));
    recorder.start();
    await video.play();
    await once(video, "ended", signal);
    recorder.stop();
    await once(recorder, "stop", signal);
    return new Blob(parts, { type: recorder.mimeType });
  } finally {
    video.pause();
    URL.revokeObjectURL(video.src);
  }
}

/**
 * @param {EventTarget} target
 * @param {string} name of the event to wait for
 * @param {AbortSignal} signal
 */
function once(target, name, signal) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(failed()), { once: true });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function failed() {
  return new Problem("The video could not be recorded", "This browser cannot play it, or it stopped recording.");
}
