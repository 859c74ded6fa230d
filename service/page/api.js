// The service, over HTTP. Every failure is a Problem, in the words of the service's problem document.

/**
 * @typedef {{id: string, status: string, progress?: {frames: number, expected: number}}} JobState
 * @typedef {{subject_label: string, predicate: string, object_label: string}} FoundRelation
 * @typedef {{video: string, start: number, end: number, score: number, objects: Record<string, number | number[]>,
 *   relations: FoundRelation[], picture: string | null}} Moment
 */

const OVER = ["succeeded", "failed", "cancelled"];
const RETRIES = 5;
const RETRY_MILLISECONDS = 1000;

export class Problem extends Error {
  /**
   * @param {string} title
   * @param {string} detail
   * @param {number} status of HTTP; 0 where there was no answer
   * @param {number} column of a query where it is wrong, from 1; 0 for what is no query
   */
  constructor(title, detail, status = 0, column = 0) {
    super(detail);
    this.title = title;
    this.status = status;
    this.column = column;
  }
}

export class Api {
  #askKey;
  #key = "";

  /** @param {(reason: Problem) => Promise<string>} askKey asks for another key; rejects with the reason without one */
  constructor(askKey) {
    this.#askKey = askKey;
  }

  /**
   * @returns {Promise<{name: string, description: string}[]>} the default first
   */
  async models() {
    return (await (await this.#request("models")).json()).models;
  }

  /**
   * The operator's limits for one video, and whether there is an archive to search.
   * @returns {Promise<{max_body_bytes: number, max_fps: number, max_frames: number, searches: boolean}>}
   */
  async limits() {
    return (await this.#request("page/limits.json")).json();
  }

  /**
   * Posts a video; gives the id of its job.
   * @param {File} file
   * @param {Record<string, string>} options
   * @param {(loaded: number, total: number) => void} onProgress bytes
   * @param {AbortSignal} signal
   * @returns {Promise<string>}
   */
  async upload(file, options, onProgress, signal) {
    const form = new FormData();
    for (const [name, value] of Object.entries(options)) form.append(name, value);
    form.append("video", file);
    return this.#withKey(async () => {
      const request = await send(form, this.#authorization(), onProgress, signal);
      const type = request.getResponseHeader("content-type") ?? "";
      if (request.status >= 400) throw problemOf(request.responseText, type, request.status);
      return JSON.parse(request.responseText).id;
    });
  }

  /**
   * Follows a job until it is over. A stream of events that breaks off is taken up again.
   * @param {string} id
   * @param {(state: JobState) => void} onState
   * @param {AbortSignal} signal
   */
  async follow(id, onState, signal) {
    let seen = "";
    for (let failures = 0; ; failures += 1) {
      try {
        /** @type {Record<string, string>} */
        const headers = { accept: "text/event-stream", ...(seen && { "last-event-id": seen }) };
        const response = await this.#request(`videos/${id}/events`, { headers, signal });
        for await (const event of eventsOf(response)) {
          failures = 0;
          seen = event.id || seen;
          /** @type {JobState} */
          const state = JSON.parse(event.data);
          onState(state);
          if (OVER.includes(state.status)) return;
        }
      } catch (error) {
        const answered = error instanceof Problem && error.status > 0;
        if (answered || signal.aborted || failures >= RETRIES) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
  }

  /**
   * @param {string} id
   * @param {AbortSignal} signal
   * @returns {Promise<import("./scene.js").Graph>}
   */
  async graph(id, signal) {
    return (await this.#request(`videos/${id}`, { signal })).json();
  }

  /**
   * The graph in a format for other programs.
   * @param {string} id
   * @param {string} format
   */
  async file(id, format) {
    return (await this.#request(`videos/${id}?format=${format}`)).blob();
  }

  /**
   * The moments in which a query holds, from the `offset`th on.
   * @param {string} query
   * @param {number} offset
   * @param {AbortSignal} signal
   * @returns {Promise<{moments: Moment[], total: number, next: number | null}>}
   */
  async search(query, offset, signal) {
    return (await this.#request(`search?${new URLSearchParams({ q: query, offset: String(offset) })}`, { signal })).json();
  }

  /**
   * A frame that is kept. Fetched and not linked to, because a link cannot carry a key.
   * @param {string} id
   * @param {number} index
   * @param {AbortSignal} signal
   */
  async frame(id, index, signal) {
    return (await this.#request(`videos/${id}/frames/${index}.jpg`, { signal })).blob();
  }

  /**
   * Cancels a job.
   * @param {string} id
   */
  async cancel(id) {
    await this.#request(`videos/${id}`, { method: "DELETE" });
  }

  /**
   * @param {string} path
   * @param {RequestInit} [init]
   */
  async #request(path, init = {}) {
    return this.#withKey(async () => {
      const headers = { ...init.headers, ...this.#authorization() };
      const response = await fetch(path, { ...init, headers }).catch((error) => {
        throw init.signal?.aborted ? error : noAnswer();
      });
      if (response.ok) return response;
      throw problemOf(await response.text(), response.headers.get("content-type") ?? "", response.status);
    });
  }

  /**
   * Does something; where the service wants a key, asks for one and does it again.
   * @template T
   * @param {() => Promise<T>} action
   * @returns {Promise<T>}
   */
  async #withKey(action) {
    for (;;) {
      const key = this.#key;
      try {
        return await action();
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 401) throw error;
        // Where the key has changed since, somebody has answered while this request was under way.
        if (key === this.#key) this.#key = await this.#askKey(error);
      }
    }
  }

  /** @returns {Record<string, string>} */
  #authorization() {
    return this.#key ? { authorization: `Bearer ${this.#key}` } : {};
  }
}

/**
 * Sends a form. XMLHttpRequest, because fetch does not tell how much has been sent.
 * @param {FormData} form
 * @param {Record<string, string>} headers
 * @param {(loaded: number, total: number) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<XMLHttpRequest>}
 */
function send(form, headers, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "videos");
    for (const [name, value] of Object.entries({ prefer: "respond-async", ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(loaded, total));
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(noAnswer()));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

/**
 * The server-sent events of an answer. EventSource cannot send a key.
 * @param {Response} response
 * @returns {AsyncGenerator<{id: string, data: string}>}
 */
async function* eventsOf(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + decoder.decode(value, { stream: true })).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const data = field(block, "data");
        if (data) yield { id: field(block, "id"), data };
      }
    }
  } finally {
    await reader.cancel();
  }
}

/**
 * @param {string} block of lines
 * @param {string} name
 */
function field(block, name) {
  const lines = block.split("\n").filter((line) => line.startsWith(`${name}:`));
  return lines.map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
}

/**
 * @param {string} text
 * @param {string} type of the content
 * @param {number} status
 */
function problemOf(text, type, status) {
  if (!type.startsWith("application/problem+json")) {
    return new Problem(`The answer is ${status}`, "It came from a proxy in front of the service, not from the service.", status);
  }
  const { title, detail, column } = JSON.parse(text);
  return new Problem(title, detail, status, column);
}

function noAnswer() {
  return new Problem("The service does not answer", "Check that it runs and can be reached, then try again.");
}
