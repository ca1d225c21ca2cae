// The page: the image and the networks that look at it.

import * as api from "./api.js";
import { lastOnly, Latest } from "./order.js";
import { Panel } from "./panel.js";
import { Place } from "./place.js";

const MOST_BYTES = 32 * 2 ** 20;
const byId = (id) => document.getElementById(id);

let panels = [];
let image = null; // that the server has
let sending = null; // sends the image that was chosen last, until the server has answered
const opening = new Latest();
const choosing = new Latest();

const page = {
  panels: () => panels,
  place: () => place.asked(),
  show: (changed) => place.show(changed),
  say: (text) => (byId("status").textContent = text),
  warn: (error) => error.name !== "AbortError" && (byId("alert").textContent = error.message),
};
const place = new Place(page);

/** One image is sent at a time, so that the server ends up with the one that was chosen last. */
const sendImage = lastOnly(async () => {
  image = await sending();
  place.recentre();
});

/** Show an image that `send` makes the session's. */
async function openImage(send) {
  sending = send;
  byId("alert").textContent = "";
  page.say("Opening the image …");
  panels.forEach((panel) => panel.pause());
  try {
    await sendImage();
  } catch (error) {
    if (sending === send) page.warn(error);
  }
  if (sending !== send) return; // another was chosen meanwhile
  sending = null;
  openPanels();
}

/** Show the image in the networks that do not show it yet. */
async function openPanels() {
  if (sending) return; // this follows when the image is there
  const signal = opening.next();
  panels.filter((panel) => panel.image === image).forEach((panel) => panel.resume().catch(page.warn));
  if (!image) return page.say("Choose an image to begin.");
  byId("image-name").textContent = `${image.credit ?? image.name}, ${image.width} × ${image.height}`;
  const waiting = panels.filter((panel) => panel.image !== image);
  waiting.forEach((panel) => panel.pause());
  byId("networks").classList.add("busy");
  for (const panel of waiting) {
    page.say("The network looks at the image …");
    await panel.open(image).catch(page.warn);
    if (signal.aborted) return;
    place.describe();
  }
  place.describe();
  byId("networks").classList.remove("busy");
}

function openFile(file) {
  if (!file) return;
  if (file.size > MOST_BYTES) return page.warn(new Error(`${file.name} has more than 32 MB: make the image smaller, or save it as JPEG.`));
  openImage(() => api.upload(file));
}

async function chooseNetworks() {
  const signal = choosing.next();
  byId("alert").textContent = "";
  try {
    const next = [];
    for (const key of [byId("first").value, byId("second").value].filter((key) => key)) {
      const known = panels.find((panel) => panel.network.key === key && !next.includes(panel));
      if (!known) page.say(`Opening ${key} …`);
      next.push(known ?? new Panel(await api.ask("network", { network: key }, signal), page));
    }
    panels.filter((panel) => !next.includes(panel)).forEach((panel) => panel.pause());
    panels = next;
    byId("networks").replaceChildren(...panels.map((panel) => panel.element));
    byId("networks").classList.toggle("pair", panels.length === 2);
  } catch (error) {
    if (signal.aborted) return;
    page.warn(error);
    if (panels.length) [byId("first").value, byId("second").value] = [0, 1].map((at) => panels[at]?.network.key ?? "");
  }
  openPanels();
}

function listNetworks({ networks, catalogue }) {
  const first = byId("first");
  const second = byId("second");
  second.add(new Option("none", ""));
  for (const list of [first, second]) {
    for (const network of networks) list.add(new Option(`${network.name}, ${network.weights}`, network.key));
    const group = document.createElement("optgroup");
    group.label = "random weights";
    const named = new Set(networks.map((network) => network.key));
    for (const name of catalogue.filter((one) => !named.has(one))) group.append(new Option(name, name));
    list.append(group);
    list.addEventListener("change", chooseNetworks);
  }
  first.value = networks[0]?.key ?? "transnext_tiny";
  second.value = networks[1]?.key ?? "";
}

function listSamples(samples) {
  const buttons = Object.entries(samples).map(([name, credit]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `Sample: ${name}`;
    button.title = credit;
    const send = async () => ({ ...(await api.ask("sample", { name })), credit: `${name} (${credit})` });
    button.addEventListener("click", () => openImage(send));
    return button;
  });
  byId("samples").replaceChildren(...buttons);
}

function listen() {
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("file").addEventListener("change", (event) => {
    openFile(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  let inside = 0; // dragenter and dragleave come for every element on the way
  document.addEventListener("dragenter", () => (byId("drop").hidden = ++inside < 1));
  document.addEventListener("dragleave", () => (byId("drop").hidden = --inside < 1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    byId("drop").hidden = true;
    openFile(event.dataTransfer.files[0]);
  });
  addEventListener("pagehide", api.close);
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

async function start() {
  listen();
  place.listen();
  try {
    const chosen = await api.open();
    listSamples(chosen.samples);
    listNetworks(chosen);
    await chooseNetworks();
  } catch (error) {
    page.warn(error);
  }
}

start();
