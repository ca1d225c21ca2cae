// One network on the page: its photograph, maps, chart, answers and receptive field.

import * as api from "./api.js";
import { drawDepth } from "./chart.js";
import { css, LinearScale, LogScale, percent, signed } from "./colours.js";
import * as draw from "./draw.js";

const NAMES = { mixed: "Mixed weights", all: "Weights of all tokens", attention: "OSRA’s attention" };
const ANSWERS = { classification: "Most probable classes", detection: "Detected objects", segmentation: "Classes of the pixels" };

/** Return `run` such that only the last of the calls that came while it was busy is made. */
function lastOnly(run) {
  let [running, next] = [null, null];
  return (...words) => {
    next = words;
    running ??= (async () => {
      try {
        while (next) {
          const now = next;
          next = null;
          await run(...now);
        }
      } finally {
        running = null;
      }
    })();
    return running;
  };
}

export class Panel {
  /**
   * @param network description by the server
   * @param page {onPoint(row, column), onPlace(stage, block), say(text), warn(error)}: what the page does
   */
  constructor(network, page) {
    this.network = network;
    this.page = page;
    this.element = document.getElementById("network").content.cloneNode(true).firstElementChild;
    this.maps = null; // the last answer about a point
    this.chosen = null; // index of the answer whose evidence is shown
    this.look = lastOnly((place) => this.#look(place));
    this.explain = lastOnly(() => this.#explain());
    this.#fill();
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  get canvas() {
    return this.find(".photo canvas");
  }

  /** Show another image, at a place. */
  async open(place) {
    this.place = place;
    [this.blocks, this.chosen, this.answered, this.maps] = [null, null, null, null];
    this.find(".fields .panels").replaceChildren();
    this.find(".fields .bar").replaceChildren();
    this.find(".fields .downloads").replaceChildren();
    const photo = await api.picture(this.network.key, "photo");
    this.ground = new draw.Ground(photo.bitmap);
    this.size = [photo.height, photo.width];
    draw.drawPhotograph(this.canvas, this.ground, ...this.size, null);
    if (this.network.family !== "other") await this.look(place);
    await this.#answers();
    if (this.network.family === "transnext") await this.#depth();
    this.find(".fields").hidden = false;
  }

  /** Return the point one token further, as (row, column) of the opened image. */
  step(down, right) {
    if (!this.maps) return null;
    const [row, column] = this.maps.token.map((at, axis) => {
      const moved = at + [down, right][axis];
      return Math.min(Math.max(moved, 0), this.maps.size[axis] - 1) * this.maps.stride + 0.5;
    });
    return this.#onImage(row, column);
  }

  /** Describe the point in words. */
  said() {
    const { token, size, stage, block, share } = this.maps;
    const window = share > 0 ? `: ${percent(share)} % of the attention in the window` : "";
    return `${this.network.name}, stage ${stage + 1}, block ${block + 1}, row ${token[0] + 1} of ${size[0]}, column ${token[1] + 1} of ${size[1]}${window}`;
  }

  #fill() {
    const { name, weights, random, blocks } = this.network;
    this.find("h2").textContent = name;
    const note = this.find(".weights");
    note.textContent = weights;
    if (random) {
      const strong = document.createElement("strong");
      strong.textContent = `${weights}: `;
      note.replaceChildren(strong, "shows what the architecture does before it has learned anything");
    }
    this.canvas.addEventListener("click", (event) => this.#clicked(event));
    this.find(".compute").addEventListener("click", () => this.#fields());
    const stages = this.find(".cam-stage");
    stages.add(new Option("the last stage", "-1"));
    blocks.slice(0, -1).forEach((_, stage) => stages.add(new Option(`stage ${stage + 1}`, String(stage))));
    for (const options of [stages, this.find(".method")]) options.addEventListener("change", () => this.explain());
  }

  #clicked(event) {
    if (!this.maps) return;
    const box = this.canvas.getBoundingClientRect();
    const [height, width] = this.maps.image_size;
    const row = ((event.clientY - box.top) / box.height) * height;
    const column = ((event.clientX - box.left) / box.width) * width;
    this.page.onPoint(this.#onImage(row, column));
  }

  /** From pixels of the network's image to those of the opened one. */
  #onImage(row, column) {
    const [top, left, height, width] = this.maps.view;
    const [rows, columns] = this.maps.image_size;
    return [top + (row * height) / rows, left + (column * width) / columns];
  }

  async #look(place) {
    this.place = place;
    if (!this.ground || this.network.family === "other") return;
    const maps = await api.ask("attention", { network: this.network.key, ...place });
    this.maps = maps;
    this.#drawAttention();
    if (this.network.family === "transxnet") await this.#branches(place);
    if (this.blocks) this.#drawDepth();
  }

  #drawAttention() {
    const { maps, ground } = this;
    const window = maps.window?.shape[0] ?? 0;
    const main = maps.maps.mixed ?? maps.maps.attention;
    const scale = new LogScale(main.values.numbers);
    const place = this.#marked(window);
    const size = maps.image_size;
    draw.drawPhotograph(this.canvas, ground, ...size, place);
    this.canvas.setAttribute("aria-label", `Photograph. ${this.said()}. Arrow keys move the point.`);
    this.#map(".mixed", main, scale, window || !maps.maps.mixed ? (maps.maps.mixed ? NAMES.mixed : NAMES.attention) : NAMES.all);
    this.#map(".peripheral", maps.maps.peripheral, scale, "Peripheral map, " + maps.pooled_size.join(" × ") + " cells");
    this.find(".window").hidden = !window;
    if (window) {
      draw.fillWindow(this.find(".window tbody"), maps.window, maps.inside, scale);
      const share = this.find(".share");
      const number = document.createElement("b");
      number.textContent = `${percent(maps.share)} %`;
      share.replaceChildren(number, ` of the attention in the window, ${percent(1 - maps.share)} % outside`);
    }
    this.find(".place").textContent =
      `Stage ${maps.stage + 1}, block ${maps.block + 1}: token (${maps.token.join(", ")}) of ${maps.size.join(" × ")}`;
    this.#downloads(".downloads.attention", "attention", "attention");
  }

  #map(selector, map, scale, title) {
    const figure = this.find(selector);
    figure.hidden = !map;
    if (!map) return;
    figure.querySelector("figcaption").textContent = title;
    const canvas = figure.querySelector("canvas");
    draw.drawMap(canvas, this.ground, map, scale, this.maps.image_size, this.#marked(this.maps.window?.shape[0] ?? 0));
    canvas.setAttribute("aria-label", `${title} of ${this.said()}`);
    draw.colourBar(figure.querySelector(".bar"), `≤ ${percent(scale.low)}`, percent(scale.high), this.#unit());
  }

  #unit() {
    return this.maps.maps.mixed ? "% of the attention per token, logarithmic" : "% of the attention per key, logarithmic";
  }

  #marked(window) {
    const { token, stride, size, query_edges: edges } = this.maps;
    const half = Math.floor(window / 2);
    const [top, left] = token.map((at) => Math.max(at - half, 0));
    const [bottom, right] = token.map((at, axis) => Math.min(at + half + 1, size[axis]));
    const box = window > 1 ? [edges.columns[left], edges.rows[top], edges.columns[right], edges.rows[bottom]] : null;
    return { x: token[1] * stride + 0.5, y: token[0] * stride + 0.5, box };
  }

  async #depth() {
    this.blocks = (await api.ask("depth", { network: this.network.key })).blocks;
    this.find(".depth").hidden = false;
    this.#drawDepth();
    this.#downloads(".depth .downloads", "depth", "chart");
  }

  #drawDepth() {
    drawDepth(this.find(".chart"), this.blocks, this.maps, (stage, block) => this.page.onPlace(stage, block));
  }

  async #branches(place) {
    const found = await api.ask("branches", { network: this.network.key, ...place });
    this.find(".branches").hidden = false;
    const figures = Object.entries(found.maps).map(([name, map]) => {
      const figure = this.#figure(`${name}: mean square`);
      const scale = new LinearScale(map.values.numbers);
      draw.drawMap(figure.canvas, this.ground, map, scale, this.maps.image_size, null);
      figure.canvas.setAttribute("aria-label", `Mean square of ${name} by position`);
      draw.colourBar(figure.bar, "0", scale.high.toPrecision(2), "mean square over channels");
      return figure.element;
    });
    this.find(".branches .maps").replaceChildren(...figures);
    const [count, side] = found.kernels.shape;
    const most = found.kernels.numbers.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-12);
    const kernels = Array.from({ length: count }, (_, at) => {
      const figure = this.#figure("");
      const numbers = found.kernels.numbers.subarray(at * side * side, (at + 1) * side * side);
      draw.drawPixels(figure.canvas, [side, side], numbers, (value) => signed(value / most));
      figure.canvas.setAttribute("aria-label", `Kernel of channel ${found.channels[at] + 1}`);
      figure.element.firstElementChild.remove();
      figure.element.insertAdjacentHTML("beforeend", "<figcaption></figcaption>");
      figure.element.lastElementChild.textContent = found.channels[at] + 1;
      figure.bar.remove();
      return figure.element;
    });
    this.find(".kernels").replaceChildren(...kernels);
    const shares = found.groups.map((share, group) => `group ${group + 1}: ${percent(share)} %`).join(", ");
    this.find(".groups").textContent =
      `Numbered by channel. Weights from −${most.toPrecision(2)} (orange) to ${most.toPrecision(2)} (purple). Mean weight of the learned kernels: ${shares}.`;
    this.#downloads(".branches .downloads", "branches", "branches", "kernels");
  }

  #figure(title) {
    const element = document.createElement("figure");
    const [caption, canvas, bar] = ["figcaption", "canvas", "div"].map((name) => document.createElement(name));
    caption.textContent = title;
    canvas.setAttribute("role", "img");
    bar.className = "bar";
    element.append(caption, canvas, bar);
    return { element, canvas, bar };
  }

  async #answers() {
    const found = await api.ask("answers", { network: this.network.key });
    const what = { classification: "photo", detection: "answered", segmentation: "labels" }[found.kind];
    const shown = await api.picture(this.network.key, what);
    this.answered = { ...shown, ground: new draw.Ground(shown.bitmap), items: found.items, kind: found.kind };
    if (what === "labels") this.answered.photo = new draw.Ground((await api.picture(this.network.key, "answered")).bitmap);
    this.find(".answers").hidden = false;
    this.find(".answers h3").textContent = found.items.length ? ANSWERS[found.kind] : "Nothing was detected";
    this.find(".answers .options").hidden = !found.items.length;
    this.find(".answers .two figcaption").textContent = found.items.length ? "Choose a line to see the evidence for it." : "";
    this.find(".answers .bar").replaceChildren();
    this.find(".answers .downloads").replaceChildren();
    this.find(".answers ol").replaceChildren(...found.items.map((item) => this.#answer(item, found.items)));
    this.#drawAnswered(null);
  }

  #answer(item, items) {
    const [line, button, level, name, value] = ["li", "button", "span", "span", "b"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.dataset.index = item.index;
    button.setAttribute("aria-pressed", "false");
    level.className = "level";
    level.style.width = `${100 * (item.value / (items[0].value > 0.2 ? 1 : items[0].value * 1.25))}%`;
    name.textContent = item.name;
    if (item.colour) {
      const patch = document.createElement("span");
      patch.className = "colour";
      patch.style.backgroundColor = css(item.colour);
      name.prepend(patch);
    }
    value.textContent = `${percent(item.value)} %`;
    button.append(level, name, value);
    button.addEventListener("click", () => {
      this.chosen = this.chosen === item.index ? null : item.index;
      this.explain();
    });
    line.append(button);
    return line;
  }

  async #explain() {
    for (const button of this.element.querySelectorAll(".answers li button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.index) === this.chosen));
    }
    if (this.chosen === null) return this.#drawAnswered(null);
    try {
      const { heat } = await api.ask("evidence", this.#evidence());
      if (this.chosen === null || !this.answered) return;
      this.#drawAnswered(heat);
      const item = this.answered.items.find((one) => one.index === this.chosen);
      const method = this.find(".method").selectedOptions[0].textContent;
      this.find(".answers .two figcaption").textContent = `${method} for ${item.name}`;
      this.page.say(`${method} for ${item.name}, ${percent(item.value)} %`);
      draw.colourBar(this.find(".answers .bar"), "0", "100", "evidence, % of its maximum");
      this.#downloads(".answers .downloads", "evidence", "evidence");
    } catch (error) {
      this.page.warn(error);
    }
  }

  #evidence() {
    const [method, stage] = [this.find(".method").value, Number(this.find(".cam-stage").value)];
    return { network: this.network.key, index: this.chosen, method, evidence_stage: stage };
  }

  #drawAnswered(heat) {
    const { bitmap, height, width, items, kind } = this.answered;
    const canvas = this.find(".answers canvas");
    const ground = heat && this.answered.photo ? this.answered.photo : this.answered.ground;
    const context = draw.drawEvidence(canvas, ground, heat, bitmap.height, bitmap.width);
    canvas.setAttribute("aria-label", heat ? "Evidence for the chosen line" : ANSWERS[kind]);
    if (!heat) {
      this.find(".answers .bar").replaceChildren();
      this.find(".answers .downloads").replaceChildren();
    }
    const factor = bitmap.width / width;
    for (const item of items.filter((one) => one.box)) {
      const chosen = this.chosen === null || item.index === this.chosen;
      if (chosen) draw.frame(context, item.box.map((value) => value * factor), Math.min(bitmap.height, bitmap.width) / 300);
    }
  }

  async #fields() {
    const [button, bar] = [this.find(".compute"), this.find(".fields progress")];
    const ground = this.ground;
    button.disabled = true;
    bar.hidden = false;
    bar.removeAttribute("value");
    this.find(".fields .panels").replaceChildren();
    try {
      await api.stream("fields", { network: this.network.key }, (found) => {
        if (ground !== this.ground) return; // another image was opened
        [bar.max, bar.value] = [found.total, found.done];
        const figure = this.#figure(found.layer.replace(/^s/, "S"));
        draw.drawField(figure.canvas, found.field);
        const ratios = Object.values(found.ratios).map((ratio) => percent(ratio)).join(" / ");
        figure.canvas.setAttribute("aria-label", `Receptive field of ${found.layer}`);
        figure.bar.remove();
        figure.element.insertAdjacentHTML("beforeend", "<p class='hint'></p>");
        figure.element.lastElementChild.textContent = `${ratios} % of the area`;
        this.find(".fields .panels").append(figure.element);
        this.page.say(`Receptive field: ${found.done} of ${found.total} stages`);
      });
      if (ground !== this.ground) return;
      draw.colourBar(this.find(".fields .bar"), "10⁻⁴", "1", "contribution / maximum of the panel, logarithmic; below: the area that holds 20 / 30 / 50 / 99 %");
      this.#downloads(".fields .downloads", "erf", "receptive field");
    } catch (error) {
      this.page.warn(error);
    } finally {
      button.disabled = false;
      bar.hidden = true;
    }
  }

  /** Offer each of the pictures as PNG and as numbers. */
  #downloads(selector, ...pictures) {
    const noun = pictures.pop();
    const named = noun === "kernels" ? [["branches", "branches"], ["kernels", "kernels"]] : [[pictures[0], noun]];
    const buttons = named.flatMap(([what, name]) =>
      [["png", "picture"], ["npz", "numbers"]].map(([form, kind]) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.download = `${what}.${form}`;
        button.textContent = `${named.length > 1 ? `${name}, ` : ""}${kind} (${form.toUpperCase()})`;
        button.setAttribute("aria-label", `Save the ${kind} of the ${name} (${form.toUpperCase()})`);
        button.addEventListener("click", () => this.#save(button, what, form));
        return button;
      }),
    );
    const place = this.find(selector);
    place.hidden = false;
    if (place.childElementCount !== buttons.length) place.replaceChildren(...buttons);
  }

  async #save(button, what, form) {
    const evidence = what === "evidence" ? this.#evidence() : {};
    button.disabled = true;
    try {
      await api.download({ network: this.network.key, ...this.place, ...evidence, what, form });
      this.page.say("The file was saved");
    } catch (error) {
      this.page.warn(error);
    } finally {
      button.disabled = false;
    }
  }
}
