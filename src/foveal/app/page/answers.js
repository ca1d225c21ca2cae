// What a network answers: classes, boxes or classes of pixels, each with the evidence for it.

import * as api from "./api.js";
import { css, percent } from "./colours.js";
import * as draw from "./draw.js";
import { offerDownloads } from "./figure.js";
import { lastOnly } from "./order.js";

const TITLES = { classification: "Most probable classes", detection: "Detected objects", segmentation: "Classes of the pixels" };
const PICTURES = { classification: "photo", detection: "answered", segmentation: "labels" };

export class Answers {
  constructor(panel) {
    this.panel = panel;
    this.element = panel.find(".answers");
    this.answered = null; // the network's answers with their picture; null while there are none
    this.chosen = null; // index of the answer whose evidence is asked for
    this.shown = null; // the evidence that is drawn: {item, method, question}
    this.explain = lastOnly(() => this.#explain());
    const stages = this.find(".cam-stage");
    stages.add(new Option("the last stage", "-1"));
    panel.network.blocks.slice(0, -1).forEach((_, stage) => stages.add(new Option(`stage ${stage + 1}`, String(stage))));
    for (const options of [stages, this.find(".method")]) options.addEventListener("change", () => this.explain());
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Forget the answers; what is drawn stays until the next are there, but nothing can be done with it. */
  clear() {
    [this.answered, this.chosen, this.shown] = [null, null, null];
    this.element.inert = true;
  }

  async open() {
    const { network, signal } = this.panel;
    const { items, kind } = await api.ask("answers", { network: network.key }, signal);
    const picture = await api.picture(network.key, PICTURES[kind], signal);
    const photo = kind === "segmentation" ? await api.picture(network.key, "answered", signal) : picture;
    const [ground, below] = [new draw.Ground(picture.bitmap), new draw.Ground(photo.bitmap)];
    this.answered = { items, kind, width: picture.width, ground, below };
    this.find("h3").textContent = items.length ? TITLES[kind] : "Nothing was detected";
    this.find(".options").hidden = !items.length;
    this.find("ol").replaceChildren(...items.map((item) => this.#line(item, items[0].value)));
    this.#draw(null);
    this.element.hidden = this.element.inert = false;
  }

  #line(item, highest) {
    const [line, button, level, name, value] = ["li", "button", "span", "span", "b"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.dataset.index = item.index;
    button.setAttribute("aria-pressed", "false");
    level.className = "level";
    level.style.width = `${100 * (item.value / (highest > 0.2 ? 1 : highest * 1.25))}%`;
    name.textContent = item.name;
    if (item.colour) {
      const patch = document.createElement("span");
      patch.className = "colour";
      patch.style.backgroundColor = css(item.colour);
      name.prepend(patch);
    }
    value.textContent = `${percent(item.value)} %`;
    button.append(level, name, " ", value); // the space is read, and seen in copied text
    button.addEventListener("click", () => this.#choose(this.chosen === item.index ? null : item.index));
    line.append(button);
    return line;
  }

  #choose(index) {
    if (!this.answered) return;
    this.#press(index);
    this.explain();
  }

  #press(index) {
    this.chosen = index;
    for (const button of this.element.querySelectorAll("li button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
    }
  }

  async #explain() {
    const { answered, chosen } = this;
    if (!answered) return;
    if (chosen === null) return this.#draw(null);
    const { network, page, signal } = this.panel;
    const [method, stage] = [this.find(".method"), Number(this.find(".cam-stage").value)];
    const evidence = {
      item: answered.items.find((one) => one.index === chosen),
      method: method.selectedOptions[0].textContent,
      question: { index: chosen, method: method.value, evidence_stage: stage },
    };
    try {
      const { heat } = await api.ask("evidence", { network: network.key, ...evidence.question }, signal);
      if (this.chosen === chosen) this.#draw(evidence, heat);
    } catch (error) {
      page.warn(error);
      if (this.answered === answered && this.chosen === chosen) this.#press(this.shown?.item.index ?? null);
    }
  }

  /** Draw the picture, with the heat of `evidence` or without any; say which in the caption. */
  #draw(evidence, heat = null) {
    const { items, kind, width, ground, below } = this.answered;
    const canvas = this.find("canvas");
    const { height: rows, width: columns } = ground.bitmap;
    const context = draw.drawEvidence(canvas, evidence ? below : ground, heat, rows, columns);
    for (const item of items.filter((one) => one.box && (!evidence || one === evidence.item))) {
      draw.frame(context, item.box.map((value) => (value * columns) / width), Math.min(rows, columns) / 300);
    }
    this.shown = evidence;
    const caption = this.find(".two figcaption");
    if (evidence) {
      caption.textContent = `${evidence.method} for ${evidence.item.name}`;
      canvas.setAttribute("aria-label", caption.textContent);
      this.panel.page.say(`${caption.textContent}, ${percent(evidence.item.value)} %`);
      draw.colourBar(this.find(".bar"), "0", "100", "evidence, % of its maximum");
      offerDownloads(this.find(".downloads"), this.panel, { evidence: "evidence" }, () => this.shown.question);
    } else {
      caption.textContent = items.length ? "Choose a line to see the evidence for it." : "";
      canvas.setAttribute("aria-label", TITLES[kind]);
      for (const part of [".bar", ".downloads"]) this.find(part).replaceChildren();
    }
  }
}
