// Files to take away.

import { html } from "./elements.js";

/** @typedef {import("./api.js").Api} Api */

const FORMATS = [
  { name: "JSON", format: "json", suffix: "json" },
  { name: "JSON lines", format: "jsonl", suffix: "jsonl" },
  { name: "GraphML", format: "graphml", suffix: "graphml" },
  { name: "COCO", format: "coco", suffix: "coco.json" },
];
const RECORDING = "Annotated video";

/**
 * One button for each format.
 * @param {Api} api
 * @param {string} id of the graph
 * @param {string} stem of the files' names
 * @param {(error: unknown) => void} onProblem
 */
export function downloadButtons(api, id, stem, onProblem) {
  return FORMATS.map(({ name, format, suffix }) => {
    const button = html("button", { type: "button" }, name);
    // Fetched and not linked to, because a link cannot carry a key.
    button.addEventListener("click", () =>
      api.file(id, format).then((blob) => save(blob, `${stem}.${suffix}`), onProblem),
    );
    return button;
  });
}

/**
 * A button that has the annotated video made.
 * @param {(onProgress: (share: number) => void) => Promise<Blob>} record
 * @param {string} stem of the file's name
 * @param {(error: unknown) => void} onProblem
 */
export function recordingButton(record, stem, onProblem) {
  const button = html("button", { type: "button" }, RECORDING);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const blob = await record((share) => {
        button.textContent = `Recording: ${Math.round(100 * share)} %`;
      });
      save(blob, `${stem}.annotated.${blob.type.startsWith("video/mp4") ? "mp4" : "webm"}`);
    } catch (error) {
      onProblem(error);
    }
    button.textContent = RECORDING;
    button.disabled = false;
  });
  return button;
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function save(blob, name) {
  const url = URL.createObjectURL(blob);
  html("a", { href: url, download: name }).click();
  // Not at once: the browser may not have begun to read it.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
