// The page: the image, the networks, the place that all of them show, and the keys.

import * as api from "./api.js";
import { Panel } from "./panel.js";

const MOST_BYTES = 32 * 2 ** 20;
const byId = (id) => document.getElementById(id);

/** What is shown: stages and blocks count from 0; block -1 is the last one; no heads means the mean of all. */
const state = { point: null, stage: 2, block: -1, heads: new Set() };
let panels = [];
let image = null;

const page = {
  onPoint: (point) => show({ point }),
  onPlace: (stage, block) => show({ stage, block }),
  say: (text) => (byId("status").textContent = text),
  warn: (error) => (byId("alert").textContent = error.message),
};

function place() {
  return { point: state.point, stage: state.stage, block: state.block, heads: [...state.heads] };
}

/** Change what is shown, in all networks. */
async function show(changed) {
  Object.assign(state, changed);
  byId("alert").textContent = "";
  try {
    await Promise.all(panels.map((panel) => panel.look(place())));
    describe();
  } catch (error) {
    page.warn(error);
  }
}

/** Write what is shown into the controls and the status line. */
function describe() {
  const shown = panels.filter((panel) => panel.maps);
  if (!shown.length) return;
  const { stage, block, heads } = shown[0].maps;
  const blocks = shown[0].network.blocks;
  byId("stage").textContent = `Stage ${stage + 1} of ${blocks.length}`;
  byId("block").textContent = `Block ${block + 1} of ${blocks[stage]}`;
  byId("stage-less").disabled = stage === 0;
  byId("stage-more").disabled = stage === blocks.length - 1;
  byId("block-less").disabled = block === 0;
  byId("block-more").disabled = block === blocks[stage] - 1;
  listHeads(Math.max(...shown.map((panel) => panel.maps.heads)), heads);
  page.say(shown.map((panel) => panel.said()).join(". ") + ".");
}

function listHeads(count) {
  byId("heads-field").hidden = false;
  const boxes = byId("heads").querySelectorAll("input");
  if (boxes.length !== count) {
    const labels = Array.from({ length: count }, (_, head) => {
      const [label, box] = [document.createElement("label"), document.createElement("input")];
      box.type = "checkbox";
      box.addEventListener("change", () => toggleHead(head));
      label.append(box, String(head + 1));
      label.title = `Head ${head + 1}`;
      box.setAttribute("aria-label", `Head ${head + 1}`);
      return label;
    });
    byId("heads").replaceChildren(...labels);
  }
  byId("heads").querySelectorAll("input").forEach((box, head) => (box.checked = state.heads.has(head)));
  byId("all-heads").disabled = !state.heads.size;
}

function toggleHead(head) {
  const heads = new Set(state.heads);
  if (!heads.delete(head)) heads.add(head);
  show({ heads });
}

/** Move to a stage; its last block, as in the papers' figures. */
function changeStage(by) {
  const shown = panels.find((panel) => panel.maps);
  if (!shown) return;
  const stage = Math.min(Math.max(shown.maps.stage + by, 0), shown.network.blocks.length - 1);
  if (stage !== shown.maps.stage) show({ stage, block: -1 });
}

function changeBlock(by) {
  const shown = panels.find((panel) => panel.maps);
  if (!shown) return;
  const { stage, block } = shown.maps;
  const next = Math.min(Math.max(block + by, 0), shown.network.blocks[stage] - 1);
  if (next !== block) show({ stage, block: next });
}

/** Show an image that `send` makes the session's. */
async function openImage(send) {
  byId("alert").textContent = "";
  page.say("Opening the image …");
  try {
    image = await send();
    state.point = null;
    byId("image-name").textContent = `${image.credit ?? image.name}, ${image.width} × ${image.height}`;
    await openPanels(panels);
  } catch (error) {
    page.say("");
    page.warn(error);
  }
}

async function openPanels(which) {
  byId("networks").classList.add("busy");
  page.say("The network looks at the image …");
  try {
    for (const panel of which) {
      await panel.open(place());
      describe();
    }
  } finally {
    byId("networks").classList.remove("busy");
  }
}

function openFile(file) {
  if (!file) return;
  if (file.size > MOST_BYTES) return page.warn(new Error(`${file.name} has more than 32 MB: make the image smaller, or save it as JPEG.`));
  openImage(() => api.upload(file));
}

async function chooseNetworks() {
  const keys = [byId("first").value, byId("second").value].filter((key) => key);
  byId("alert").textContent = "";
  try {
    const next = [];
    for (const key of keys) {
      const known = panels.find((panel) => panel.network.key === key && !next.includes(panel));
      if (!known) page.say(`Opening ${key} …`);
      next.push(known ?? new Panel(await api.ask("network", { network: key }), page));
    }
    const fresh = next.filter((panel) => !panels.includes(panel));
    panels = next;
    byId("networks").replaceChildren(...panels.map((panel) => panel.element));
    byId("networks").classList.toggle("pair", panels.length === 2);
    if (image) await openPanels(fresh);
    else page.say("Choose an image to begin.");
  } catch (error) {
    page.warn(error);
  }
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

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const KEYS = {
  PageUp: () => changeStage(-1),
  PageDown: () => changeStage(1),
  "-": () => changeStage(-1),
  "+": () => changeStage(1),
  "[": () => changeBlock(-1),
  "]": () => changeBlock(1),
  0: () => show({ heads: new Set() }),
};

/** Keys act while a photograph has the focus; elsewhere they belong to the page's controls. */
function onKey(event) {
  const panel = panels.find((one) => one.canvas === event.target);
  if (!panel?.maps || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in ARROWS) show({ point: panel.step(...ARROWS[event.key]) });
  else if (event.key === "Home") show({ point: null });
  else if (event.key in KEYS) KEYS[event.key]();
  else if (/^[1-9]$/.test(event.key) && Number(event.key) <= panel.maps.heads) toggleHead(Number(event.key) - 1);
  else return;
  event.preventDefault();
}

function listen() {
  document.addEventListener("keydown", onKey);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("file").addEventListener("change", (event) => openFile(event.target.files[0]));
  byId("stage-less").addEventListener("click", () => changeStage(-1));
  byId("stage-more").addEventListener("click", () => changeStage(1));
  byId("block-less").addEventListener("click", () => changeBlock(-1));
  byId("block-more").addEventListener("click", () => changeBlock(1));
  byId("all-heads").addEventListener("click", () => show({ heads: new Set() }));
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
