// What an exported file says about itself. onnxruntime-web does not show a model's metadata, so they are read here: an
// ONNX file is a protobuf message, in which every field is a key (number and type) followed by its value.

const METADATA = 14, KEY = 1, VALUE = 2; // numbers of fields: of ModelProto, and of its StringStringEntryProto

export class Refusal extends Error {} // a message for people

// Yield [number, bytes] of the fields of a message that have a length: texts, messages and packed numbers.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1;
    for (; at < bytes.length; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new Refusal("The network's file is cut off or not an ONNX file.");
  };
  while (at < bytes.length) {
    const key = varint(), type = key % 8;
    if (type === 0) varint();
    else if (type === 1) at += 8;
    else if (type === 5) at += 4;
    else if (type === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new Refusal("The network's file is cut off or not an ONNX file.");
      yield [(key - type) / 8, bytes.subarray(at, at + length)];
      at += length;
    } else throw new Refusal("The network's file is cut off or not an ONNX file.");
  }
}

export function readCard(bytes) {
  const text = (part) => new TextDecoder().decode(part);
  for (const [number, entry] of fields(bytes)) {
    if (number !== METADATA) continue;
    const pair = Object.fromEntries(fields(entry));
    if (pair[KEY] && text(pair[KEY]) === "foveal") return checked(JSON.parse(text(pair[VALUE])));
  }
  throw new Refusal("The network's file does not describe itself: write it with foveal export.");
}

function checked(card) {
  if (card.task !== "classification") throw new Refusal(`The network is for ${card.task}: this page shows classifiers.`);
  if (card.input.batch !== null && card.input.batch !== 1)
    throw new Refusal(`The network takes ${card.input.batch} images at a time: export it for one or for any number.`);
  return card;
}
