// Images that the kernel sends on request: they are never part of a widget's state, so no notebook stores them.

/** @typedef {{ get(name: string): any, set(name: string, value: any): void, save_changes(): void,
 *   send(content: any, callbacks?: any, buffers?: ArrayBuffer[] | ArrayBufferView[]): void,
 *   on(name: string, callback: (...args: any[]) => void): void,
 *   off(name: string, callback: (...args: any[]) => void): void }} Model */

const MOST_CACHED = 200;

/** Requests to the kernel, each matched with its answer. */
export class ImageClient {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<string, (answer: { content: any, blobs: Blob[] }) => void>} */
    this.waiting = new Map();
    /** @type {Map<string, string>} */
    this.urls = new Map();
    this.receive = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
      const answer = this.waiting.get(content.id);
      if (!answer) return; // for another page
      this.waiting.delete(content.id);
      answer({ content, blobs: (buffers ?? []).map((data) => new Blob([/** @type {any} */ (data)])) });
    };
    model.on("msg:custom", this.receive);
  }

  /**
   * @param {string} type
   * @param {Record<string, any>} content
   * @returns {Promise<{ content: any, blobs: Blob[] }>}
   */
  ask(type, content) {
    const id = Math.random().toString(36).slice(2);
    const answered = new Promise((resolve) => this.waiting.set(id, resolve));
    this.model.send({ type, id, ...content });
    return /** @type {Promise<any>} */ (answered);
  }

  /**
   * Return the address of an image, at most `side` pixels a side; 0 is the original. "" if it is no longer stored.
   * @param {string} key
   * @param {number} side
   */
  async url(key, side) {
    const name = `${side}:${key}`;
    const known = this.urls.get(name);
    if (known) return known;
    const { content, blobs } = await this.ask("image", { key, side });
    return blobs[0] ? this.keep(name, blobs[0].slice(0, blobs[0].size, content.media_type)) : "";
  }

  /**
   * @param {string} name
   * @param {Blob} blob
   */
  keep(name, blob) {
    const url = URL.createObjectURL(blob);
    this.urls.set(name, url);
    for (const [oldest, address] of this.urls) {
      if (this.urls.size <= MOST_CACHED) break;
      this.urls.delete(oldest);
      URL.revokeObjectURL(address);
    }
    return url;
  }

  close() {
    this.model.off("msg:custom", this.receive);
    for (const url of this.urls.values()) URL.revokeObjectURL(url);
    this.urls.clear();
  }
}
