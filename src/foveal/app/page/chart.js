// The chart of the fovea's share of the attention, block by block. One unit of it is one CSS pixel at any width, so that
// its text has the size that the style sheet says.

import { percent } from "./colours.js";

const [HEIGHT, LEFT, TOP, BOTTOM] = [190, 44, 12, 36];
const SVG = "http://www.w3.org/2000/svg";

/** Bars of the mean share with a dot for each head; `onChoose(stage, block)` is called for a click. */
export class DepthChart {
  #blocks = null;
  #current = null;

  constructor(element, onChoose) {
    this.element = element;
    this.onChoose = onChoose;
    new ResizeObserver(() => this.#draw()).observe(element);
  }

  /** Forget the shares; what is drawn stays until the next are there, but cannot be clicked. */
  clear() {
    if (!this.#blocks) return;
    this.#blocks = null;
    this.element.closest("section").inert = true;
  }

  draw(blocks, current) {
    this.#blocks = blocks;
    this.element.closest("section").inert = false;
    this.mark(current);
  }

  /** Mark the block of `current`, {stage, block}. */
  mark(current) {
    this.#current = current;
    this.#draw();
  }

  #draw() {
    const width = this.element.clientWidth;
    if (!this.#blocks || !width) return;
    const x = (at) => LEFT + (at * (width - LEFT)) / this.#blocks.length;
    const svg = node("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
    svg.append(...axis(width), ...stages(this.#blocks, x));
    this.#blocks.forEach((block, at) => {
      const here = block.stage === this.#current.stage && block.block === this.#current.block;
      svg.append(...bar(block, x(at), x(at + 1), here));
      const hit = node("rect", { class: "hit", x: x(at), y: TOP, width: x(1) - x(0), height: HEIGHT - TOP });
      hit.append(node("title", {}, said(block)));
      hit.addEventListener("click", () => this.onChoose(block.stage, block.block));
      svg.append(hit);
    });
    svg.setAttribute("aria-label", `Share of the attention in the window. ${this.#blocks.map(said).join(". ")}.`);
    this.element.replaceChildren(svg);
  }
}

function y(share) {
  return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
}

function axis(width) {
  const lines = [0, 0.5, 1].flatMap((share) => [
    node("line", { class: "grid", x1: LEFT, x2: width, y1: y(share), y2: y(share) }),
    node("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`),
  ]);
  return [...lines, node("text", { x: LEFT - 6, y: HEIGHT - 3, "text-anchor": "end" }, "stage")];
}

/** The stages below the axis, with "all" where all tokens attend to all: once, as blocks can be narrower than the word. */
function stages(blocks, x) {
  const nodes = [];
  for (let from = 0, to; from < blocks.length; from = to) {
    const { stage } = blocks[from];
    to = blocks.findIndex((block, at) => at > from && block.stage !== stage);
    if (to < 0) to = blocks.length;
    const middle = { x: (x(from) + x(to)) / 2, "text-anchor": "middle" };
    if (from) nodes.push(node("line", { class: "grid", x1: x(from), x2: x(from), y1: TOP, y2: HEIGHT - 14 }));
    nodes.push(node("text", { ...middle, y: HEIGHT - 3 }, stage + 1));
    if (blocks.slice(from, to).every((block) => !block.window)) nodes.push(node("text", { ...middle, y: y(0) - 6 }, "all"));
  }
  return nodes;
}

function bar(block, left, right, here) {
  const [middle, step] = [(left + right) / 2, right - left];
  const nodes = [];
  if (block.window) {
    const box = { x: left + 0.15 * step, width: 0.7 * step, y: y(block.share), height: y(0) - y(block.share) };
    nodes.push(node("rect", { class: here ? "stem current" : "stem", ...box }));
    nodes.push(...block.heads.map((share) => node("circle", { class: "head", cx: middle, cy: y(share), r: 2 })));
  }
  if (here) nodes.push(node("text", { class: "here", x: middle, y: y(0) + 13, "text-anchor": "middle" }, "▲"));
  return nodes;
}

function said(block) {
  const share = block.window ? `${percent(block.share)} % in the window` : "all tokens attend to all";
  return `Stage ${block.stage + 1}, block ${block.block + 1}: ${share}`;
}

function node(name, attributes, text) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  return found;
}
