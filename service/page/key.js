// Asks for the service's key and keeps it for this tab only.

import { byId } from "./elements.js";

/** @typedef {import("./api.js").Problem} Problem */

/** @type {Promise<string> | null} */
let asking = null;

/**
 * Asks for a key; requests that need one at the same time share the answer.
 * @param {Problem} reason
 * @returns {Promise<string>} rejects with the reason when no key is given
 */
export function askKey(reason) {
  asking ??= ask(reason).finally(() => {
    asking = null;
  });
  return asking;
}

/**
 * @param {Problem} reason
 * @returns {Promise<string>}
 */
function ask(reason) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const input = byId("key", HTMLInputElement);
  byId("key-reason", HTMLElement).textContent = reason.message;
  byId("key-cancel", HTMLElement).onclick = () => dialog.close("");
  byId("key-form", HTMLFormElement).onsubmit = () => dialog.close(input.value);
  input.value = "";
  byId("documentation", HTMLElement).hidden = true; // a link cannot carry a key
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    const closed = () => (dialog.returnValue ? resolve(dialog.returnValue) : reject(reason));
    dialog.addEventListener("close", closed, { once: true });
  });
}
