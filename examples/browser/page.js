// What people see and do. The network of the page is model.onnx beside it, or what ?model=FILE names.

const at = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let asked = 0, shown;

worker.onmessage = ({ data }) => {
  waiting.get(data.id)(data);
  waiting.delete(data.id);
};
worker.onerror = () => say("The page's own files are incomplete: serve the whole folder.");

function ask(question, transferred = []) {
  const id = ++asked;
  worker.postMessage({ id, ...question }, transferred);
  return new Promise((done) => waiting.set(id, done));
}

function say(error = "", status = "") {
  at("error").textContent = error;
  at("status").textContent = status;
}

async function useNetwork(bytes, name) {
  say("", "Opening the network…");
  const { card, error } = await ask({ model: bytes }, [bytes.buffer]);
  if (error) return say(error);
  const [height, width] = card.input.size;
  at("network").textContent = `${card.model}, ${card.classes.length} classes, ${width} × ${height} pixels (${name})`;
  at("network").title = card.credit;
  at("photo").disabled = false;
  say("", "Ready.");
}

async function fetchNetwork() {
  const name = new URLSearchParams(location.search).get("model") ?? "model.onnx";
  const response = await fetch(name).catch(() => null);
  if (response?.ok) return useNetwork(new Uint8Array(await response.arrayBuffer()), name);
  at("network").textContent = "No network yet.";
  say(`There is no network at ${name}: put one there, or choose a file.`);
}

async function usePhoto(file) {
  const mine = (shown = {}); // of several photographs, the last one chosen is shown
  say("", `Looking at ${file.name}…`);
  const { classes, milliseconds, error } = await ask({ photo: file });
  if (shown !== mine) return;
  at("result").hidden = Boolean(error);
  if (error) return say(error);
  URL.revokeObjectURL(at("preview").src);
  at("preview").src = URL.createObjectURL(file);
  at("name").textContent = file.name;
  at("classes").replaceChildren(...classes.map(row));
  const { preparing, network } = milliseconds;
  const both = Math.round(preparing + network);
  say("", `${both} ms: ${Math.round(preparing)} ms to prepare the image, ${Math.round(network)} ms in the network.`);
}

function row({ name, probability }) {
  const part = (tag, kind, text = "") => Object.assign(document.createElement(tag), { className: kind, textContent: text });
  const item = part("li", ""), track = part("div", "track"), bar = part("div", "bar");
  bar.style.width = `${100 * probability}%`;
  track.append(bar);
  item.dataset.probability = probability;
  item.append(part("span", "class", name), part("span", "share", `${(100 * probability).toFixed(1)} %`), track);
  return item;
}

async function use(file) {
  if (!file) return;
  if (file.name.endsWith(".onnx")) return useNetwork(new Uint8Array(await file.arrayBuffer()), file.name);
  if (at("photo").disabled) return say("Choose a network first.");
  return usePhoto(file);
}

for (const id of ["photo", "model"])
  at(id).addEventListener("change", (event) => {
    use(event.target.files[0]);
    event.target.value = ""; // so that the same file may be chosen again
  });
for (const kind of ["dragover", "dragleave", "drop"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") use(event.dataTransfer.files[0]);
  });
fetchNetwork();
