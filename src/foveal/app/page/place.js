// The place that all networks show: a point, a stage, a block and heads, with their controls and keys.

import { steppedPoint } from "./grid.js";

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const byId = (id) => document.getElementById(id);

export class Place {
  /** What was asked for last: stages and blocks count from 0; block -1 is the last one; no heads means the mean of all. */
  #asked = { point: null, stage: 2, block: -1, heads: new Set() };
  #deselected = "";

  /** @param page {panels(), say(text), warn(error)} */
  constructor(page) {
    this.page = page;
    this.keys = {
      Home: () => this.show({ point: null }),
      PageUp: () => this.#changeStage(-1),
      PageDown: () => this.#changeStage(1),
      "-": () => this.#changeStage(-1),
      "+": () => this.#changeStage(1),
      "[": () => this.#changeBlock(-1),
      "]": () => this.#changeBlock(1),
      0: () => this.show({ heads: new Set() }),
    };
  }

  asked() {
    return { ...this.#asked, heads: [...this.#asked.heads] };
  }

  /** Ask for the centre of the next image. */
  recentre() {
    this.#asked.point = null;
  }

  /** Change what is shown, in all networks. */
  async show(changed) {
    Object.assign(this.#asked, changed);
    this.#deselected = "";
    byId("alert").textContent = "";
    this.#fillControls();
    try {
      await Promise.all(this.page.panels().map((panel) => panel.look()));
      this.describe();
    } catch (error) {
      this.page.warn(error);
    }
  }

  /** Say what is shown. */
  describe() {
    const shown = this.#watched();
    if (!shown.length) return;
    this.#dropHeads();
    this.#fillControls();
    this.page.say(`${this.#deselected}${shown.map((panel) => panel.said()).join(". ")}.`);
  }

  listen() {
    document.addEventListener("keydown", (event) => this.#onKey(event));
    byId("stage-less").addEventListener("click", this.keys.PageUp);
    byId("stage-more").addEventListener("click", this.keys.PageDown);
    byId("block-less").addEventListener("click", this.keys["["]);
    byId("block-more").addEventListener("click", this.keys["]"]);
    byId("all-heads").addEventListener("click", this.keys[0]);
  }

  /** The networks with maps; stages and blocks are those of the first of them. */
  #watched() {
    return this.page.panels().filter((panel) => panel.maps);
  }

  #block(blocks) {
    const last = blocks[this.#asked.stage] - 1;
    return this.#asked.block < 0 ? last : Math.min(this.#asked.block, last);
  }

  /** Move to a stage; its last block, as in the papers' figures. */
  #changeStage(by) {
    const blocks = this.#watched()[0]?.network.blocks;
    if (!blocks) return;
    const stage = clamp(this.#asked.stage + by, blocks.length - 1);
    if (stage !== this.#asked.stage) this.show({ stage, block: -1 });
  }

  #changeBlock(by) {
    const blocks = this.#watched()[0]?.network.blocks;
    if (!blocks) return;
    const block = clamp(this.#block(blocks) + by, blocks[this.#asked.stage] - 1);
    if (block !== this.#block(blocks)) this.show({ block });
  }

  #toggleHead(head) {
    const heads = new Set(this.#asked.heads);
    if (!heads.delete(head)) heads.add(head);
    this.show({ heads });
  }

  /** Deselect heads that no network has where it is looked at, once all of them show it. */
  #dropHeads() {
    const { stage, heads } = this.#asked;
    const panels = this.page.panels().filter((panel) => panel.network.family !== "other");
    if (!panels.every((panel) => panel.maps?.stage === stage)) return;
    const count = this.#headCount();
    const lacking = [...heads].filter((head) => head >= count).sort((a, b) => a - b);
    if (!lacking.length) return;
    lacking.forEach((head) => heads.delete(head));
    const names = lacking.map((head) => head + 1).join(" and ");
    this.#deselected = `Deselected head${lacking.length > 1 ? "s" : ""} ${names}: stage ${stage + 1} has ${count}. `;
  }

  #headCount() {
    return Math.max(...this.#watched().map((panel) => panel.maps.heads));
  }

  /** Write the place that was asked for last into the controls, while it may not be shown yet. */
  #fillControls() {
    const blocks = this.#watched()[0]?.network.blocks;
    if (!blocks) return;
    const [stage, block] = [this.#asked.stage, this.#block(blocks)];
    byId("stage").textContent = `Stage ${stage + 1} of ${blocks.length}`;
    byId("block").textContent = `Block ${block + 1} of ${blocks[stage]}`;
    byId("stage-less").disabled = stage === 0;
    byId("stage-more").disabled = stage === blocks.length - 1;
    byId("block-less").disabled = block === 0;
    byId("block-more").disabled = block === blocks[stage] - 1;
    this.#listHeads(this.#headCount());
  }

  #listHeads(count) {
    byId("heads-field").hidden = false;
    if (byId("heads").childElementCount !== count) {
      byId("heads").replaceChildren(...Array.from({ length: count }, (_, head) => this.#headBox(head)));
    }
    const { heads } = this.#asked;
    byId("heads").querySelectorAll("input").forEach((box, head) => (box.checked = heads.has(head)));
    byId("all-heads").disabled = !heads.size;
  }

  #headBox(head) {
    const [label, box] = [document.createElement("label"), document.createElement("input")];
    box.type = "checkbox";
    box.addEventListener("change", () => this.#toggleHead(head));
    label.append(box, String(head + 1));
    label.title = `Head ${head + 1}`;
    box.setAttribute("aria-label", `Head ${head + 1}`);
    return label;
  }

  /** Keys act while a photograph has the focus; elsewhere they belong to the page's controls. */
  #onKey(event) {
    const panel = this.#watched().find((one) => one.canvas === event.target);
    if (!panel || event.ctrlKey || event.metaKey || event.altKey) return;
    const { point, stage } = this.#asked;
    if (event.key in ARROWS) this.show({ point: steppedPoint(panel.maps, stage, point, ARROWS[event.key]) });
    else if (event.key in this.keys) this.keys[event.key]();
    else if (/^[1-9]$/.test(event.key) && Number(event.key) <= panel.maps.heads) this.#toggleHead(Number(event.key) - 1);
    else return;
    event.preventDefault();
  }
}

function clamp(value, most) {
  return Math.min(Math.max(value, 0), most);
}
