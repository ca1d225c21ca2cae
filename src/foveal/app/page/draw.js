// Drawing on canvases. Positions are in pixels of the network's image, which `fitted` scales to a readable size.

import { css, isLight, percent, viridis } from "./colours.js";

const SIDE = 512; // pixels: what the shorter side of a canvas has at least
const OPACITY = 0.85; // of a map over the photograph

/** A photograph for maps to lie on: in colour, and in pale greys. */
export class Ground {
  constructor(bitmap) {
    this.bitmap = bitmap;
    this.pale = paled(bitmap);
  }
}

/** Size the canvas for an image of height x width; return its context, scaled to the image's pixels. */
export function fitted(canvas, height, width) {
  const factor = Math.max(1, Math.ceil(SIDE / Math.min(height, width)));
  canvas.width = width * factor;
  canvas.height = height * factor;
  const context = canvas.getContext("2d");
  context.scale(factor, factor);
  context.imageSmoothingQuality = "high";
  return context;
}

/** Draw the photograph, the window's frame and the point. */
export function drawPhotograph(canvas, ground, height, width, place) {
  const context = fitted(canvas, height, width);
  context.drawImage(ground.bitmap, 0, 0, width, height);
  if (place) mark(context, place, Math.min(height, width));
}

/** Colour the pixels of each cell: `map` has values, and the rows and columns where cells begin and end. */
export function drawMap(canvas, ground, map, scale, [height, width], place) {
  const context = fitted(canvas, height, width);
  context.drawImage(ground.pale, 0, 0, width, height);
  context.globalAlpha = OPACITY;
  const [rows, columns] = map.values.shape;
  // Cells are painted on a picture with one pixel each, then enlarged along their edges: no seams between them.
  const cells = offscreen(rows, columns);
  const paint = cells.getContext("2d");
  const pixels = paint.createImageData(columns, rows);
  map.values.numbers.forEach((value, at) => pixels.data.set([...viridis(scale.share(value)), 255], 4 * at));
  paint.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [top, left] = [map.rows[row], map.columns[column]];
      context.drawImage(cells, column, row, 1, 1, left, top, map.columns[column + 1] - left, map.rows[row + 1] - top);
    }
  }
  context.globalAlpha = 1;
  if (place) mark(context, place, Math.min(height, width));
}

/** Colour a picture where there is evidence, the more opaque the more there is; `heat` may be null. */
export function drawEvidence(canvas, ground, heat, height, width) {
  const context = fitted(canvas, height, width);
  context.drawImage(heat ? ground.pale : ground.bitmap, 0, 0, width, height);
  if (!heat) return context;
  const [rows, columns] = heat.shape;
  const most = heat.numbers.reduce((a, b) => Math.max(a, b), 0);
  const layer = offscreen(rows, columns);
  const paint = layer.getContext("2d");
  const pixels = paint.createImageData(columns, rows);
  heat.numbers.forEach((value, at) => {
    const share = most > 0 ? value / most : 0;
    pixels.data.set([...viridis(share), 255 * 0.9 * Math.sqrt(share)], 4 * at);
  });
  paint.putImageData(pixels, 0, 0);
  context.drawImage(layer, 0, 0, width, height);
  return context;
}

/** Draw a receptive field in decades below its maximum, four of them. */
export function drawField(canvas, field, depth = 4) {
  const [rows, columns] = field.shape;
  const most = field.numbers.reduce((a, b) => Math.max(a, b), 1e-30);
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  field.numbers.forEach((value, at) => {
    pixels.data.set([...viridis(1 + Math.log10(Math.max(value / most, 10 ** -depth)) / depth), 255], 4 * at);
  });
  context.putImageData(pixels, 0, 0);
}

/** Draw a small map, one pixel per number. */
export function drawPixels(canvas, shape, numbers, colour) {
  [canvas.height, canvas.width] = shape;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  numbers.forEach((value, at) => pixels.data.set([...colour(value), 255], 4 * at));
  context.putImageData(pixels, 0, 0);
}

/** Fill `element` with a colour bar: its ends as text, and what the numbers are. */
export function colourBar(element, low, high, unit) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  drawPixels(canvas, [1, 256], Array.from({ length: 256 }, (_, i) => i / 255), viridis);
  const label = document.createElement("span");
  label.className = "unit";
  label.textContent = unit;
  element.replaceChildren(low, canvas, high, label);
}

/** Frame a box (left, top, right, bottom) in white with a dark edge: visible on any photograph. */
export function frame(context, [left, top, right, bottom], unit, strong = true) {
  for (const [colour, line] of [["#000", 3.4], [strong ? "#fff" : "#ccc", 1.6]]) {
    context.strokeStyle = colour;
    context.lineWidth = line * unit;
    context.strokeRect(left, top, right - left, bottom - top);
  }
}

/** Fill the table with the window's weights, (k, k) each. */
export function fillWindow(body, window, inside, scale) {
  const side = window.shape[0];
  const rows = inside.map((line, row) => {
    const tr = document.createElement("tr");
    line.forEach((isInside, column) => {
      const cell = tr.insertCell();
      const weight = window.numbers[row * side + column];
      cell.textContent = isInside ? percent(weight) : "–";
      if (2 * row + 1 === side && 2 * column + 1 === side) cell.classList.add("query");
      if (!isInside) return cell.classList.add("outside");
      const colour = viridis(scale.share(weight));
      cell.style.backgroundColor = css(colour);
      cell.style.color = isLight(colour) ? "#000" : "#fff";
    });
    return tr;
  });
  body.replaceChildren(...rows);
}

function mark(context, place, side) {
  const unit = side / 300;
  if (place.box) frame(context, place.box, unit);
  context.beginPath();
  context.arc(place.x, place.y, 4.5 * unit, 0, 2 * Math.PI);
  context.fillStyle = "#fff";
  context.fill();
  context.lineWidth = 2 * unit;
  context.strokeStyle = "#000";
  context.stroke();
}

function paled(bitmap) {
  const canvas = offscreen(bitmap.height, bitmap.width);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const [red, green, blue] = pixels.data.subarray(at, at + 3);
    pixels.data.fill(76 + 0.7 * (0.299 * red + 0.587 * green + 0.114 * blue), at, at + 3);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function offscreen(height, width) {
  const canvas = document.createElement("canvas");
  canvas.height = height;
  canvas.width = width;
  return canvas;
}
