// One network on the page: its photograph, the maps of the place, the chart, its answers and receptive fields.

import { Answers } from "./answers.js";
import * as api from "./api.js";
import { drawBranches } from "./branches.js";
import { DepthChart } from "./chart.js";
import { LogScale, percent } from "./colours.js";
import * as draw from "./draw.js";
import { Fields } from "./fields.js";
import { offerDownloads } from "./figure.js";
import { marked, onOpened } from "./grid.js";
import { lastOnly, Latest } from "./order.js";

const NAMES = { mixed: "Mixed weights", all: "Weights of all tokens", attention: "OSRA’s attention" };

export class Panel {
  #asking = new Latest();

  /**
   * @param network description by the server
   * @param page {place(), show(changed), say(text), warn(error)}: the place asked for, and what the page does
   */
  constructor(network, page) {
    this.network = network;
    this.page = page;
    this.element = document.getElementById("network").content.cloneNode(true).firstElementChild;
    this.image = null; // that is shown in full
    this.ground = null; // its photograph
    this.maps = null; // the last answer about a place
    this.shown = null; // that place
    this.look = lastOnly(() => this.#look());
    this.#fill();
    this.answers = new Answers(this);
    this.fields = new Fields(this);
    this.chart = new DepthChart(this.find(".chart"), (stage, block) => page.show({ stage, block }));
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  get canvas() {
    return this.find(".photo canvas");
  }

  /** Aborts questions about the image when another one is opened. */
  get signal() {
    return this.#asking.signal;
  }

  /** Drop the questions that are not answered, and be inert: the page opens another image. */
  pause() {
    this.#asking.next();
    this.element.inert = true;
  }

  /** Go on with the image that was shown before a pause. */
  async resume() {
    if (!this.element.inert) return;
    this.element.inert = false;
    await this.look();
  }

  /** Show another image. Each part can be used as soon as it shows that image. */
  async open(image) {
    this.pause();
    const signal = this.signal;
    [this.image, this.ground, this.maps, this.shown] = [null, null, null, null];
    this.answers.clear();
    this.chart.clear();
    this.fields.clear();
    const photo = await api.picture(this.network.key, "photo", signal);
    this.ground = new draw.Ground(photo.bitmap);
    draw.drawPhotograph(this.canvas, this.ground, photo.height, photo.width, null);
    await this.look();
    this.element.inert = false;
    await this.answers.open();
    if (this.network.family === "transnext") await this.#depth(signal);
    this.find(".fields").hidden = false;
    this.image = image;
  }

  /** Describe what is shown in words. */
  said() {
    const { token, size, stage, block, share, heads, chosen } = this.maps;
    const one = chosen.length < heads ? `, head${chosen.length > 1 ? "s" : ""} ${chosen.map((head) => head + 1).join(" and ")}` : "";
    const mean = one || (this.shown.heads.length ? ", mean of all heads" : ""); // said only where heads are chosen
    const window = share > 0 ? `: ${percent(share)} % of the attention in the window` : "";
    return `${this.network.name}, stage ${stage + 1}, block ${block + 1}, row ${token[0] + 1} of ${size[0]}, column ${token[1] + 1} of ${size[1]}${mean}${window}`;
  }

  #fill() {
    const { name, weights, random } = this.network;
    this.element.setAttribute("aria-label", name);
    this.find("h2").textContent = name;
    const note = this.find(".weights");
    note.textContent = weights;
    if (random) {
      const strong = document.createElement("strong");
      strong.textContent = `${weights}: `;
      note.replaceChildren(strong, "shows what the architecture does before it has learned anything");
    }
    this.canvas.addEventListener("click", (event) => this.#clicked(event));
  }

  #clicked(event) {
    if (!this.maps) return;
    const box = this.canvas.getBoundingClientRect();
    const [height, width] = this.maps.image_size;
    const pixel = [((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width];
    this.page.show({ point: onOpened(this.maps, pixel) });
  }

  async #look() {
    const { network, signal } = this;
    if (!this.ground || network.family === "other") return;
    const place = this.page.place();
    this.maps = await api.ask("attention", { network: network.key, ...place }, signal);
    this.shown = place;
    this.#drawAttention();
    this.chart.mark(this.maps);
    if (network.family !== "transxnet") return;
    drawBranches(this, await api.ask("branches", { network: network.key, ...place }, signal));
  }

  async #depth(signal) {
    const { blocks } = await api.ask("depth", { network: this.network.key }, signal);
    this.find(".depth").hidden = false;
    this.chart.draw(blocks, this.maps);
    offerDownloads(this.find(".depth .downloads"), this, { depth: "chart" });
  }

  #drawAttention() {
    const { maps, ground } = this;
    const window = maps.window?.shape[0] ?? 0;
    const main = maps.maps.mixed ?? maps.maps.attention;
    const scale = new LogScale(main.values.numbers);
    draw.drawPhotograph(this.canvas, ground, ...maps.image_size, marked(maps));
    this.canvas.setAttribute("aria-label", `Photograph. ${this.said()}. Arrow keys move the point.`);
    this.#drawMap(".mixed", main, scale, maps.maps.mixed ? (window ? NAMES.mixed : NAMES.all) : NAMES.attention);
    this.#drawMap(".peripheral", maps.maps.peripheral, scale, `Peripheral map, ${maps.pooled_size.join(" × ")} cells`);
    this.find(".window").hidden = !window;
    if (window) this.#drawWindow(scale);
    this.find(".place").textContent =
      `Stage ${maps.stage + 1}, block ${maps.block + 1}: token (${maps.token.join(", ")}) of ${maps.size.join(" × ")}`;
    offerDownloads(this.find(".downloads.attention"), this, { attention: "attention" });
  }

  #drawMap(selector, map, scale, title) {
    const figure = this.find(selector);
    figure.hidden = !map;
    if (!map) return;
    figure.querySelector("figcaption").textContent = title;
    const canvas = figure.querySelector("canvas");
    draw.drawMap(canvas, this.ground, map, scale, this.maps.image_size, marked(this.maps));
    canvas.setAttribute("aria-label", `${title} of ${this.said()}`);
    const unit = `% of the attention per ${this.maps.maps.mixed ? "token" : "key"}, logarithmic`;
    draw.colourBar(figure.querySelector(".bar"), `≤ ${percent(scale.low)}`, percent(scale.high), unit);
  }

  #drawWindow(scale) {
    const { window, inside, share } = this.maps;
    draw.fillWindow(this.find(".window tbody"), window, inside, scale);
    const number = document.createElement("b");
    number.textContent = `${percent(share)} %`;
    this.find(".share").replaceChildren(number, ` of the attention in the window, ${percent(1 - share)} % outside`);
  }
}
