// The chart of the fovea's share of the attention, block by block.

import { percent } from "./colours.js";

const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [640, 190, 40, 12, 34];
const SVG = "http://www.w3.org/2000/svg";

/** Draw bars of the mean share with a dot for each head; `onChoose(stage, block)` is called for a click. */
export function drawDepth(element, blocks, current, onChoose) {
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const step = (WIDTH - LEFT) / blocks.length;
  const y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  for (const share of [0, 0.5, 1]) {
    svg.append(node("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(share), y2: y(share) }));
    svg.append(node("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`));
  }
  blocks.forEach((block, at) => {
    const [x, here] = [LEFT + at * step, block.stage === current.stage && block.block === current.block];
    if (block.window) {
      const box = { x: x + 0.15 * step, width: 0.7 * step, y: y(block.share), height: y(0) - y(block.share) };
      svg.append(node("rect", { class: here ? "stem current" : "stem", ...box }));
      for (const share of block.heads) svg.append(node("circle", { class: "head", cx: x + step / 2, cy: y(share), r: 2 }));
    } else {
      svg.append(node("text", { x: x + step / 2, y: y(0) - 6, "text-anchor": "middle" }, "all"));
    }
    if (here) svg.append(node("text", { class: "here", x: x + step / 2, y: y(0) + 13, "text-anchor": "middle" }, "▲"));
    if (block.block === 0) {
      if (at) svg.append(node("line", { class: "grid", x1: x, x2: x, y1: TOP, y2: HEIGHT - 12 }));
      svg.append(node("text", { x: x + 4, y: HEIGHT - 3 }, `stage ${block.stage + 1}`));
    }
    const hit = node("rect", { class: "hit", x, y: TOP, width: step, height: HEIGHT - TOP });
    hit.append(node("title", {}, said(block)));
    hit.addEventListener("click", () => onChoose(block.stage, block.block));
    svg.append(hit);
  });
  svg.setAttribute("aria-label", `Share of the attention in the window. ${blocks.map(said).join(". ")}.`);
  element.replaceChildren(svg);
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
