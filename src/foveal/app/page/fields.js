// The effective receptive fields of a network's stages on the image, computed on request.

import * as api from "./api.js";
import { percent } from "./colours.js";
import * as draw from "./draw.js";
import { figure, offerDownloads } from "./figure.js";

const UNIT = "contribution / maximum of the panel, logarithmic; below: the area that holds 20 / 30 / 50 / 99 %";

export class Fields {
  constructor(panel) {
    this.panel = panel;
    this.element = panel.find(".fields");
    this.button = this.element.querySelector(".compute");
    this.button.setAttribute("aria-label", `Compute it for ${panel.network.name}`);
    this.button.addEventListener("click", () => this.#compute());
  }

  /** Remove those of the last image. */
  clear() {
    for (const part of [".panels", ".bar", ".downloads"]) this.element.querySelector(part).replaceChildren();
  }

  async #compute() {
    const { network, page, signal } = this.panel;
    const progress = this.element.querySelector("progress");
    this.button.disabled = true;
    progress.hidden = false;
    progress.removeAttribute("value");
    this.clear();
    try {
      await api.stream("fields", { network: network.key }, signal, (found) => {
        [progress.max, progress.value] = [found.total, found.done];
        this.element.querySelector(".panels").append(field(found));
        page.say(`Receptive field: ${found.done} of ${found.total} stages`);
      });
      draw.colourBar(this.element.querySelector(".bar"), "10⁻⁴", "1", UNIT);
      offerDownloads(this.element.querySelector(".downloads"), this.panel, { erf: "receptive field" });
    } catch (error) {
      page.warn(error);
    } finally {
      this.button.disabled = false;
      progress.hidden = true;
    }
  }
}

function field(found) {
  const { element, canvas, bar } = figure(found.layer.replace(/^s/, "S"));
  draw.drawField(canvas, found.field);
  canvas.setAttribute("aria-label", `Receptive field of ${found.layer}`);
  const areas = document.createElement("p");
  areas.className = "hint";
  areas.textContent = `${Object.values(found.ratios).map(percent).join(" / ")} % of the area`;
  bar.replaceWith(areas);
  return element;
}
