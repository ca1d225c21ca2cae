// What the mixer of a TransXNet does with the image: its branches, and the strongest kernels of IDConv.

import { LinearScale, percent, signed } from "./colours.js";
import * as draw from "./draw.js";
import { figure, offerDownloads } from "./figure.js";

/** Draw the server's answer `found` into the panel. */
export function drawBranches(panel, found) {
  panel.find(".branches").hidden = false;
  const maps = Object.entries(found.maps).map(([name, map]) => branch(panel, name, map));
  panel.find(".branches .maps").replaceChildren(...maps);
  const [count, side] = found.kernels.shape;
  const most = found.kernels.numbers.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);
  const kernels = Array.from({ length: count }, (_, at) => {
    const numbers = found.kernels.numbers.subarray(at * side * side, (at + 1) * side * side);
    return kernel(found.channels[at] + 1, numbers.map((value) => value / most), side);
  });
  panel.find(".kernels").replaceChildren(...kernels);
  const shares = found.groups.map((share, group) => `group ${group + 1}: ${percent(share)} %`).join(", ");
  panel.find(".groups").textContent =
    `Numbered by channel. Weights from −${most.toPrecision(2)} (orange) to ${most.toPrecision(2)} (purple). Mean weight of the learned kernels: ${shares}.`;
  offerDownloads(panel.find(".branches .downloads"), panel, { branches: "branches", kernels: "kernels" });
}

function branch(panel, name, map) {
  const { element, canvas, bar } = figure(`${name}: mean square`);
  const scale = new LinearScale(map.values.numbers);
  draw.drawMap(canvas, panel.ground, map, scale, panel.maps.image_size, null);
  canvas.setAttribute("aria-label", `Mean square of ${name} by position`);
  draw.colourBar(bar, "0", scale.high.toPrecision(2), "mean square over channels");
  return element;
}

function kernel(channel, numbers, side) {
  const { element, caption, canvas, bar } = figure(channel);
  draw.drawPixels(canvas, [side, side], numbers, signed);
  canvas.setAttribute("aria-label", `Kernel of channel ${channel}`);
  bar.replaceWith(caption); // below the picture
  return element;
}
