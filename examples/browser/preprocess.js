// An image as the network's input, with the resizing of Pillow: browsers resize differently, which moves probabilities.

import { Refusal } from "./card.js";

const MOST_PIXELS = 50e6;
const BITS = 2 ** 22; // Pillow's weights are whole numbers of this share
const FILTERS = {
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0)], // a = -0.5
  bilinear: [1, (x) => Math.max(0, 1 - x)],
};

// Decode a file. Embedded colour profiles are ignored, as Pillow does; EXIF orientation is applied.
export async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Refusal(`${file.name} is not an image that this browser can read.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS)
    throw new Refusal(`${file.name} has ${width} × ${height} pixels: choose one of at most ${MOST_PIXELS / 1e6} million.`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

// For every pixel of the output: the first pixel of the input, and the weights of it and those after it.
function weights(from, to, name) {
  if (!FILTERS[name]) throw new Refusal(`The network's images are resized by ${name}, which this page does not know.`);
  const [support, filter] = FILTERS[name];
  const scale = from / to, stretch = Math.max(scale, 1), reach = support * stretch;
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, k) => filter(Math.abs((first + k - centre + 0.5) / stretch)));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    return [first, raw.map((weight) => Math.sign(weight) * Math.floor(Math.abs(weight / sum) * BITS + 0.5))];
  });
}

// Resize along one axis, rounding to eight bits. Lines are `across` apart, pixels of a line `along`.
function pass(pixels, result, lines, kernels, across, along, acrossOut, alongOut) {
  for (let line = 0; line < lines; line++)
    kernels.forEach(([first, kernel], index) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = BITS / 2, at = line * across + first * along + channel;
        for (const weight of kernel) {
          sum += pixels[at] * weight;
          at += along;
        }
        result[line * acrossOut + index * alongOut + channel] = Math.floor(sum / BITS); // the array clamps
      }
    });
  return result;
}

export function resize({ data, width, height }, toWidth, toHeight, name) {
  if (toWidth !== width) {
    const result = new Uint8ClampedArray(4 * toWidth * height);
    data = pass(data, result, height, weights(width, toWidth, name), 4 * width, 4, 4 * toWidth, 4);
  }
  if (toHeight !== height) {
    const result = new Uint8ClampedArray(4 * toWidth * toHeight);
    data = pass(data, result, toWidth, weights(height, toHeight, name), 4, 4 * toWidth, 4, 4 * toWidth);
  }
  return { data, width: toWidth, height: toHeight };
}

// Python's round: halves go to the even neighbour.
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// The size before the crop, rounded as torchvision does for squares and timm for other sizes.
function resized({ width, height }, tall, wide) {
  if (tall !== wide) {
    const ratio = Math.min(height / tall, width / wide);
    return [round(width / ratio), round(height / ratio)];
  }
  return height <= width ? [Math.floor((width * tall) / height), tall] : [wide, Math.floor((height * wide) / width)];
}

// Resize such that the centre crop covers the share `crop` of the short side, or the whole image to the input's size.
function fitted(image, [height, width], { crop, whole, interpolation }) {
  if (whole) return resize(image, width, height, interpolation);
  const tall = Math.floor(height / crop), wide = Math.floor(width / crop);
  const [toWidth, toHeight] = resized(image, tall, wide);
  if (Math.max(toWidth, toHeight) > 20000) throw new Refusal("The image is too narrow for this network: crop it.");
  return resize(image, toWidth, toHeight, interpolation);
}

const evenHalf = (number) => (number % 4 === 1 ? (number - 1) / 2 : Math.round(number / 2)); // as Python rounds

// Return float32, channels first, normalised per channel.
export function toInput(image, card) {
  const [height, width] = card.input.size, { mean, std } = card.resizing;
  const small = fitted(image, card.input.size, card.resizing);
  const left = evenHalf(small.width - width), top = evenHalf(small.height - height);
  const input = new Float32Array(3 * height * width);
  for (let channel = 0, at = 0; channel < 3; channel++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++, at++) {
        const pixel = small.data[4 * ((y + top) * small.width + x + left) + channel];
        input[at] = (pixel / 255 - mean[channel]) / std[channel];
      }
  return input;
}
