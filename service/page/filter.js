// The filter: a least score, and the predicates that are hidden.

import { html } from "./elements.js";
import { words } from "./scene.js";

/** @typedef {import("./scene.js").Scene} Scene */
/** @typedef {import("./scene.js").Frame} Frame */

export class Filter {
  least = 0;
  /** @type {Set<string>} */
  hidden = new Set();

  /** @param {{predicate: string, score: number}} relation */
  shows({ predicate, score }) {
    return score >= this.least && !this.hidden.has(predicate);
  }

  /**
   * What is left of a frame. A thing is hidden when it has relations and all of them are.
   * @param {Frame} frame
   */
  apply(frame) {
    const triplets = frame.triplets.filter((triplet) => this.shows(triplet));
    const all = ends(frame.triplets);
    const left = ends(triplets);
    const objects = frame.objects.filter(({ id, score }) => (all.has(id) ? left.has(id) : score >= this.least));
    return { ...frame, triplets, objects };
  }
}

/**
 * The controls of a filter.
 * @param {Scene} scene
 * @param {Filter} filter
 * @param {() => void} onChange called after the filter has changed
 * @returns {HTMLElement[]}
 */
export function filterControls(scene, filter, onChange) {
  return [scoreControl(filter, onChange), ...scene.groups().map((group) => groupControl(group, filter, onChange))];
}

/**
 * @param {Filter} filter
 * @param {() => void} onChange
 */
function scoreControl(filter, onChange) {
  const shown = html("output", {}, filter.least.toFixed(2));
  const slider = html("input", { type: "range", min: "0", max: "1", step: "0.01", value: String(filter.least) });
  slider.addEventListener("input", () => {
    filter.least = slider.valueAsNumber;
    shown.value = filter.least.toFixed(2);
    onChange();
  });
  return html("label", { class: "least" }, "Least score ", slider, shown);
}

/**
 * One box for the group over one for each of its predicates.
 * @param {{name: string, kind: string, predicates: string[]}} group
 * @param {Filter} filter
 * @param {() => void} onChange
 */
function groupControl({ name, kind, predicates }, filter, onChange) {
  const whole = html("input", { type: "checkbox", "aria-label": `all of ${words(name)}` });
  const boxes = predicates.map((predicate) => html("input", { type: "checkbox", value: predicate }));

  const refresh = () => {
    for (const box of boxes) box.checked = !filter.hidden.has(box.value);
    const shown = boxes.filter((box) => box.checked).length;
    whole.checked = shown > 0;
    whole.indeterminate = shown > 0 && shown < boxes.length;
  };
  const show = (/** @type {string[]} */ names, /** @type {boolean} */ wanted) => {
    for (const name of names) wanted ? filter.hidden.delete(name) : filter.hidden.add(name);
    refresh();
    onChange();
  };
  whole.addEventListener("change", () => show(predicates, whole.checked));
  for (const box of boxes) box.addEventListener("change", () => show([box.value], box.checked));

  refresh();
  const choices = boxes.map((box) => html("label", {}, box, ` ${words(box.value)}`));
  return html(
    "fieldset",
    { class: `group ${kind}` },
    html("legend", {}, html("label", {}, whole, ` ${words(name)}`)),
    ...choices,
  );
}

/** @param {{subject: number, object: number}[]} triplets */
function ends(triplets) {
  return new Set(triplets.flatMap(({ subject, object }) => [subject, object]));
}
