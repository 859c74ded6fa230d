// The page's three states: start, working, result.

import { Api, Problem } from "./api.js";
import { byId, html } from "./elements.js";
import { askKey } from "./key.js";
import { Result } from "./result.js";
import { Search, pictureIndex } from "./search.js";

const api = new Api(askKey);
const result = new Result(api, tell);
const search = new Search(api, openMoment, (error) => (error ? tell(error) : hideProblem()));
const file = byId("file", HTMLInputElement);
const drop = byId("drop", HTMLElement);
const models = byId("model", HTMLSelectElement);
/** The options of the API, and the ids of their controls. */
const OPTIONS = {
  model: "model",
  fps: "fps",
  start: "start-at",
  end: "end-at",
  max_frames: "max-frames",
  min_score: "min-score",
  constraint: "constraint",
};

showOffer();
file.addEventListener("change", () => {
  if (file.files?.[0]) work(file.files[0]);
});
byId("another", HTMLElement).addEventListener("click", () => {
  result.close();
  show("start", "Choose a video");
});
byId("copy", HTMLElement).addEventListener("click", copyPrompt);
takeDrops();

/** @param {File} video */
async function work(video) {
  const working = new AbortController();
  let id = "";
  byId("cancel", HTMLElement).onclick = () => {
    working.abort();
    if (id) api.cancel(id).catch(tell);
  };
  byId("working-title", HTMLElement).textContent = video.name;
  step("Sending the video");
  show("working", `Sending ${video.name}`);
  try {
    const sent = (/** @type {number} */ loaded, /** @type {number} */ total) =>
      step(`Sending the video: ${megabytes(loaded)} of ${megabytes(total)} MB`, loaded, total);
    id = await api.upload(video, options(), sent, working.signal);
    say("The video has arrived; its graph is being made");
    await api.follow(id, (state) => showState(state), working.signal);
    step("Fetching the graph");
    const graph = await api.graph(id, working.signal);
    show("result", "The graph is ready");
    result.open(video, graph);
  } catch (error) {
    show("start", "Choose a video");
    if (working.signal.aborted) say("Cancelled");
    else tell(error);
  } finally {
    file.value = "";
  }
}

/**
 * Shows a moment that a search has found: the graph of its video, at the frame that is kept of it or at its beginning.
 * @param {import("./api.js").Moment} moment
 */
async function openMoment(moment) {
  const { video, start, end } = moment;
  try {
    if (result.id !== video) {
      const graph = await api.graph(video, new AbortController().signal);
      result.close();
      show("result", "The graph of the moment");
      result.open(null, graph);
    } else byId("result-title", HTMLElement).focus();
    const kept = result.frameTime(pictureIndex(moment) ?? -1);
    result.seek(kept !== null && start <= kept && kept < end ? kept : start);
  } catch (error) {
    tell(error);
  }
}

/** @param {import("./api.js").JobState} state */
function showState({ status, progress }) {
  if (status === "queued") step("Waiting for its turn");
  else if (progress) step(`Reading frames: ${progress.frames} of ${progress.expected}`, progress.frames, progress.expected);
  else step("Opening the video");
}

/**
 * @param {string} text
 * @param {number} [done]
 * @param {number} [all]
 */
function step(text, done, all) {
  const bar = byId("progress", HTMLProgressElement);
  byId("step", HTMLElement).textContent = text;
  if (done === undefined || !all) bar.removeAttribute("value");
  else {
    bar.max = all;
    bar.value = done;
  }
}

/**
 * @param {"start" | "working" | "result"} state
 * @param {string} status for those who do not see it
 */
function show(state, status) {
  for (const id of ["start", "working", "result"]) byId(id, HTMLElement).hidden = id !== state;
  byId("another", HTMLElement).hidden = state !== "result";
  hideProblem();
  byId(`${state}-title`, HTMLElement).focus();
  say(status);
}

/** @param {string} status */
function say(status) {
  byId("status", HTMLElement).textContent = status;
}

function hideProblem() {
  byId("problem", HTMLElement).hidden = true;
}

/**
 * Says what went wrong, in the words of the service.
 * @param {unknown} error
 */
function tell(error) {
  if (!(error instanceof Problem)) throw error;
  const place = byId("problem", HTMLElement);
  place.replaceChildren(html("strong", {}, error.title), html("p", {}, error.message));
  place.hidden = false;
}

/** @returns {Record<string, string>} */
function options() {
  const texts = Object.entries(OPTIONS).map(([name, id]) => {
    const control = /** @type {HTMLInputElement | HTMLSelectElement} */ (byId(id, HTMLElement));
    return [name, control.value];
  });
  // What is left empty is not sent: the service has its own defaults.
  return Object.fromEntries(texts.filter(([, text]) => text));
}

async function showOffer() {
  try {
    const served = await api.models();
    models.replaceChildren(...served.map(({ name }) => html("option", {}, name)));
    const describe = () => {
      byId("model-description", HTMLElement).textContent = served[models.selectedIndex]?.description ?? "";
    };
    models.addEventListener("change", describe);
    describe();
    showLimits(await api.limits());  // not at the same time: both might ask for a key
  } catch (error) {
    tell(error);
  }
}

/** @param {{max_body_bytes: number, max_fps: number, max_frames: number, searches: boolean}} limits */
function showLimits({ max_body_bytes, max_fps, max_frames, searches }) {
  if (searches) search.offer();
  byId("largest", HTMLElement).textContent = `, up to ${megabytes(max_body_bytes)} MB`;
  byId("fps", HTMLInputElement).max = String(max_fps);
  byId("max-frames", HTMLInputElement).max = byId("max-frames", HTMLInputElement).placeholder = String(max_frames);
  byId("caps", HTMLElement).textContent =
    `At most ${max_fps} frames per second, and ${max_frames} frames of a video, are read.`;
}

function takeDrops() {
  // A video that misses the field would replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  drop.addEventListener("dragenter", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", (event) => {
    if (!drop.contains(/** @type {Node | null} */ (event.relatedTarget))) drop.classList.remove("over");
  });
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    const video = event.dataTransfer?.files[0];
    if (video) work(video);
  });
}

async function copyPrompt() {
  const prompt = byId("prompt", HTMLTextAreaElement);
  if (navigator.clipboard) await navigator.clipboard.writeText(prompt.value);
  else {
    // Browsers have no clipboard for pages that came unencrypted from another machine.
    prompt.select();
    document.execCommand("copy");
  }
  say("The prompt is copied");
  const button = byId("copy", HTMLButtonElement);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/** @param {number} bytes */
function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}
