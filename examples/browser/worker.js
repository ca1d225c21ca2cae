// The network, beside the page, which stays responsive: {model: bytes} is answered with {card}, {photo: file} with
// {classes, milliseconds}, and what cannot be done with {error}.

import { Refusal, readCard } from "./card.js";
import { decode, toInput } from "./preprocess.js";

const TOP = 5;
let ort, session, card;

async function open(bytes) {
  const read = readCard(bytes);
  try {
    ort ??= await import("./ort/ort.wasm.bundle.min.mjs");
  } catch {
    throw new Refusal("onnxruntime-web is missing: copy its two files into the folder ort, as the README says.");
  }
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Refusal(`The network cannot be opened: ${error.message}`);
  }
  card = read;
  return { card };
}

async function classify(photo) {
  const start = performance.now();
  const image = await decode(photo);
  const input = new ort.Tensor("float32", toInput(image, card), [1, 3, ...card.input.size]);
  const prepared = performance.now();
  const answer = (await session.run({ [card.input.name]: input }))[card.outputs[0]].data;
  const ended = performance.now();
  return { classes: mostLikely(answer), milliseconds: { preparing: prepared - start, network: ended - prepared } };
}

function mostLikely(logits) {
  const largest = logits.reduce((one, other) => Math.max(one, other));
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((one, other) => one + other);
  const order = powers.map((_, index) => index).sort((one, other) => powers[other] - powers[one]);
  const several = card.settings?.multi_label; // labels per image: each has a probability of its own
  const share = (index) => (several ? 1 / (1 + Math.exp(-logits[index])) : powers[index] / sum);
  return order.slice(0, TOP).map((index) => ({ name: card.classes[index], probability: share(index) }));
}

let last = Promise.resolve(); // one after another
onmessage = ({ data }) => {
  last = last.then(async () => {
    try {
      postMessage({ id: data.id, ...(data.model ? await open(data.model) : await classify(data.photo)) });
    } catch (error) {
      if (!(error instanceof Refusal)) console.error(error);
      postMessage({ id: data.id, error: error instanceof Refusal ? error.message : "The network failed on this image." });
    }
  });
};
